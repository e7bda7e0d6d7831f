"""What may a consumer of ``alerts`` rely on? Our profile of the OCSF Detection Finding: narrower than OCSF, and no field besides."""

from typing import Any, get_args, get_type_hints

from pipeline.core.events import EVIDENCE_FEEDS
from pipeline.core.exoneration import FACTS, MOST
from pipeline.core.outcome import Stage, Suppression
from pipeline.wire.cloudevents import TYPES
from pipeline.wire.ocsf import (
    ACTIVITIES,
    CLASS_UID,
    F3_VERSION,
    GRAVITIES,
    HEARD,
    OCSF_VERSION,
    PROFILES,
    RESOLVED,
    SUPPRESSED,
    VERDICTS,
)
from pipeline.wire.schemas.generated import MS, RFC3339, JsonSchema, document

TEXT: JsonSchema = {"type": "string"}
NAME: JsonSchema = {"type": "string", "minLength": 1}
COUNT: JsonSchema = {"type": "integer", "minimum": 0}
SCORE: JsonSchema = {"type": "integer", "minimum": 0, "maximum": 100}
STATUSES = (HEARD, SUPPRESSED, RESOLVED)
SHARE: JsonSchema = {"type": "number", "minimum": 0, "maximum": 1}
INSTANT: JsonSchema = {"type": "integer", "description": MS}
FLAG: JsonSchema = {"type": ["boolean", "null"], "description": "null: no feed tells"}
FEED: JsonSchema = {"enum": list(EVIDENCE_FEEDS)}


def const(value: object) -> JsonSchema:
    """Build the schema of exactly one value."""
    return {"const": value}


def array(items: JsonSchema, **limits: int) -> JsonSchema:
    """Build the schema of an array of one kind."""
    return {"type": "array", "items": items, **limits}


def record(required: dict[str, Any], optional: dict[str, Any] | None = None) -> JsonSchema:
    """Build the schema of an object with these fields and no others."""
    optional = optional or {}
    return {"type": "object", "properties": {**required, **optional}, "required": list(required), "additionalProperties": False}


def alert_schema() -> JsonSchema:
    """Build the schema of the value of an alert."""
    severities = sorted({(g.severity_id, g.severity) for g in GRAVITIES})
    fields: dict[str, Any] = {
        "metadata": _metadata(),
        "category_uid": const(2),
        "category_name": const("Findings"),
        "class_uid": const(CLASS_UID),
        "class_name": const("Detection Finding"),
        "activity_id": {"enum": [i for i, _ in ACTIVITIES.values()]},
        "activity_name": {"enum": [name for _, name in ACTIVITIES.values()]},
        "type_uid": {"enum": [CLASS_UID * 100 + i for i, _ in ACTIVITIES.values()]},
        "type_name": {"enum": [f"Detection Finding: {name}" for _, name in ACTIVITIES.values()]},
        "time": INSTANT,
        "start_time": INSTANT,
        "end_time": INSTANT,
        "severity_id": {"enum": [i for i, _ in severities]},
        "severity": {"enum": [name for _, name in severities]},
        "status_id": {"enum": [i for i, _ in STATUSES]},
        "status": {"enum": [name for _, name in STATUSES]},
        "is_alert": {"type": "boolean", "description": "the one open finding of its incident that pages"},
        "confidence_id": {"enum": sorted({g.confidence_id for g in GRAVITIES})},
        "confidence_score": SCORE,
        "risk_level_id": {"enum": sorted({g.risk_level_id for g in GRAVITIES})},
        "risk_score": SCORE,
        "impact_id": {"enum": [2, 3, 4]},
        "priority_id": {"enum": sorted({g.priority_id for g in GRAVITIES})},
        "verdict_id": {"enum": [0, *VERDICTS]},
        "message": TEXT,
        "finding_info": _finding_info(),
        "resources": array(record({"type": const("account"), "uid": NAME}), minItems=1, maxItems=1),
        "evidences": array(_evidence(), minItems=1),
        "remediation": record({"desc": TEXT}),
        "unmapped": _unmapped(),
    }
    schema = record(fields, {"status_detail": TEXT, "verdict": {"enum": list(VERDICTS.values())}})
    closed = {"properties": {"activity_id": const(ACTIVITIES["close"][0])}}
    return document(
        "alert",
        {
            "title": "Alert",
            "description": "An OCSF 1.8.0 Detection Finding about one challenge; a consumer keeps the highest metadata.sequence of each.",
            **schema,
            "if": closed,
            "then": {"properties": {"status_id": const(RESOLVED[0]), "is_alert": const(False)}, "required": ["status_detail"]},
            "else": {
                "if": {"properties": {"unmapped": {"required": ["suppressed"]}}},
                "then": {"properties": {"status_id": const(SUPPRESSED[0]), "is_alert": const(False)}, "required": ["status_detail"]},
                "else": {"properties": {"status_id": const(HEARD[0])}},
            },
        },
    )


def alert_headers_schema() -> JsonSchema:
    """Build the schema of an alert's Kafka headers, as an object of names and UTF-8 texts."""
    required: dict[str, Any] = {
        "ce_specversion": const("1.0"),
        "ce_id": {"type": "string", "pattern": ":[0-9]+$", "description": "finding uid : sequence"},
        "ce_source": NAME,
        "ce_type": {"enum": list(TYPES.values())},
        "ce_subject": {**NAME, "description": "the finding"},
        "ce_time": RFC3339,
        "ce_dataschema": {"type": "string", "format": "uri"},
        "ce_partitionkey": {**NAME, "description": "the account"},
        "ce_correlationid": {**NAME, "description": "the incident"},
        "content-type": const("application/json"),
    }
    optional = {"ce_causationid": {**NAME, "description": "the last event it rests on"}, "ce_expirytime": RFC3339}
    return document(
        "alert_headers",
        {
            "title": "AlertHeaders",
            "description": "CloudEvents 1.0 in Kafka's binary mode.",
            **record(required, optional),
        },
    )


def _metadata() -> JsonSchema:
    product = record({"vendor_name": const("OffHook"), "name": const("OffHook"), "version": NAME})
    return record(
        {
            "version": const(OCSF_VERSION),
            "uid": {"type": "string", "pattern": ":[0-9]+$", "description": "finding uid : sequence"},
            "profiles": const(list(PROFILES)),
            "sequence": {"type": "integer", "minimum": 1},
            "product": product,
            "correlation_uid": {**NAME, "description": "the incident"},
            "original_time": RFC3339,
            "processed_time": INSTANT,
            "log_name": const("alerts"),
        }
    )


def _finding_info() -> JsonSchema:
    technique = record({"uid": {"type": "string", "pattern": r"^[FT][0-9]{4}(\.[0-9]{3})?$"}}, {"name": NAME})
    analytic = record(
        {
            "name": NAME,
            "uid": NAME,
            "version": NAME,
            "type_id": {"enum": [3, 4]},
            "type": {"enum": ["Statistical", "Learning (ML/DL)"]},
            "state_id": const(1),
        }
    )
    rule = record({"name": NAME, "uid": NAME, "version": NAME, "type_id": const(1), "type": const("Rule")})
    trait = record(
        {"name": NAME, "category": const("reason_code"), "values": array({"type": "string", "pattern": r"^[+-][0-9]+\.[0-9]{2}$"})}
    )
    return record(
        {
            "uid": NAME,
            "title": TEXT,
            "types": array(NAME),
            "desc": TEXT,
            "created_time": INSTANT,
            "modified_time": INSTANT,
            "first_seen_time": INSTANT,
            "last_seen_time": INSTANT,
            "data_sources": array(FEED),
            "analytic": analytic,
            "related_analytics": array(rule),
            "attacks": array(record({"technique": technique, "version": const(F3_VERSION)}, {"sub_technique": technique})),
            "related_events": array(record({"uid": NAME, "type": NAME, "created_time": INSTANT})),
            "related_events_count": COUNT,
            "traits": array(trait),
        }
    )


def _evidence() -> JsonSchema:
    session = record({"uid": NAME, "is_mfa": const(True)})
    return record(
        {
            "name": const("session"),
            "actor": record({"user": record({"uid": NAME})}, {"session": session}),
            "data": {
                "type": "object",
                "description": "the features, with the account's own normal beside them, and everybody's where the policy has it",
            },
        },
        {"src_endpoint": {**record({}, {"ip": NAME, "uid": NAME}), "minProperties": 1, "maxProperties": 1}},
    )


def _unmapped() -> JsonSchema:
    facts = {**array({"enum": [fact.name for fact in FACTS]}, minItems=1, maxItems=MOST), "uniqueItems": True}
    benign = record({"facts": facts, "text": TEXT, "probability": SHARE})
    snooze = record({"scope": NAME, "until": RFC3339, "reason": TEXT, "who": {"type": ["string", "null"]}})
    suppressed = record({"cause": {"enum": list(get_args(get_type_hints(Suppression)["cause"]))}, "snoozes": array(snooze)})
    return record(
        {
            "otp_id": NAME,
            "stage": {"enum": list(get_args(Stage))},
            "probability": SHARE,
            "threshold": SHARE,
            "policy_id": NAME,
            "model_id": NAME,
            "decision_deadline": {"anyOf": [RFC3339, {"type": "null"}]},
            "mode": {"enum": ["live", "replay"]},
            "feeds_missing": array(FEED),
            "call_live": FLAG,
            "session_open": FLAG,
            "money_moved": FLAG,
            "linked_accounts": {"type": ["integer", "null"], "minimum": 0},
            "contact_advice": TEXT,
        },
        {
            "part_of": {**NAME, "description": "the finding of this incident that pages instead"},
            "truncated": const(True),
            "benign_if": {
                **array(benign, minItems=1, maxItems=MOST),
                "description": "what to ask: each alone would have left it below the threshold, most telling first; absent: nothing would",
            },
            "suppressed": {**suppressed, "description": "why it neither pages nor holds the code"},
        },
    )
