"""What does a router of alerts read without opening them? CloudEvents 1.0 attributes as Kafka headers (binary mode)."""

from pipeline.core.outcome import Finding
from pipeline.wire.instant import rfc3339

SCHEMA_ROOT = "https://offhook.example/schemas/"  # the $id of a schema is this and its file name; example: nothing is fetched
ALERT_SCHEMA = SCHEMA_ROOT + "alert.schema.json"
TYPES: dict[str, str] = {
    "create": "offhook.finding.created",
    "update": "offhook.finding.updated",
    "close": "offhook.finding.closed",
}


def headers(finding: Finding, source: str) -> tuple[tuple[str, bytes], ...]:
    """Write the headers of an alert. ``source`` is a URI reference that names the deployment.

    ``ce_expirytime`` is when acting on the alert stops being worth it: the deadline of the decision, else the end of the code. It is
    absent when that is not known or has passed, so that nobody drops an alert about what has already happened.
    """
    expiry = finding.decision_deadline if finding.decision_deadline is not None else finding.expires_at
    fields: list[tuple[str, str]] = [
        ("ce_specversion", "1.0"),
        ("ce_id", f"{finding.uid}:{finding.sequence}"),
        ("ce_source", source),
        ("ce_type", TYPES[finding.activity]),
        ("ce_subject", finding.uid),
        ("ce_time", rfc3339(finding.time)),
        ("ce_dataschema", ALERT_SCHEMA),
        ("ce_partitionkey", finding.account_id),
        ("ce_correlationid", finding.incident_id),
    ]
    if finding.events:
        fields.append(("ce_causationid", finding.events[-1].event_id))
    if expiry is not None and expiry > finding.time:
        fields.append(("ce_expirytime", rfc3339(expiry)))
    fields.append(("content-type", "application/json"))
    return tuple((name, text.encode()) for name, text in fields)
