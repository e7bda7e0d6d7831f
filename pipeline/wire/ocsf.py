"""What does case management read? A Finding as an OCSF 1.8.0 Detection Finding (class 2004), the value of the ``alerts`` topic.

Everything comes from the finding: no clock, so that live and replay write the same bytes.
"""

from ipaddress import ip_address
from typing import Literal, NamedTuple

from pipeline.core.champion import is_by_hand
from pipeline.core.events import Ms
from pipeline.core.outcome import Finding, Suppression
from pipeline.wire.instant import rfc3339

OCSF_VERSION = "1.8.0"
CLASS_UID = 2004
PROFILES: tuple[str, ...] = ("incident",)
F3_VERSION = "MITRE F3 v1.1"
_LONGEST_ADDRESS = 40  # OCSF 1.8.0, type ip_t

HEARD, SUPPRESSED, RESOLVED = (1, "New"), (3, "Suppressed"), (4, "Resolved")  # OCSF 1.8.0, status_id
ACTIVITIES: dict[str, tuple[int, str]] = {"create": (1, "Create"), "update": (2, "Update"), "close": (3, "Close")}
VERDICTS: dict[int, str] = {
    1: "False Positive",
    2: "True Positive",
    3: "Disregard",
    4: "Suspicious",
    5: "Benign",
    6: "Test",
    7: "Insufficient Data",
    10: "Duplicate",
}  # OCSF 1.8.0, verdict_id; 8 and 9 are not ours (contract.md)

# MITRE Fight Fraud Framework 1.1 (F3, Center for Threat-Informed Defense): the techniques an account takeover by one-time code can
# show, with the framework's own names; a sub-technique's name without its parent's. The T numbers are those of ATT&CK.
TECHNIQUES: dict[str, str] = {
    "F1003": "Abuse SMS verification",
    "F1005": "Account Manipulation",
    "F1005.001": "Account Linking",
    "F1005.002": "Add Authorized User",
    "F1005.003": "Add Beneficiary",
    "F1005.004": "Change Account Details",
    "F1005.005": "Change E-Delivery or Notification Settings",
    "F1005.006": "Change of Payment Details",
    "F1005.007": "Enable Account Features",
    "F1005.008": "Update Call Receiving Device",
    "F1006": "Account Takeover",
    "F1006.001": "Exposed API Key",
    "F1006.002": "Exposed Login Credential",
    "F1006.003": "Password Reset",
    "F1025": "Electronic Funds Transfer",
    "F1031": "Impersonate Account Holder",
    "F1032": "Impersonate Official",
    "F1040": "Phone Number Spoofing",
    "F1040.001": "Customer Phone Number Spoofing",
    "F1040.002": "Official Phone Number Spoofing",
    "F1047": "Transfer of funds",
    "T1110": "Brute Force",
    "T1110.004": "Credential Stuffing",
    "T1111": "Multi-Factor Authentication Interception",
    "T1451": "SIM Card Swap",
    "T1531": "Account Access Removal",
    "T1557": "Adversary-in-the-Middle",
    "T1598": "Phishing for Information",
    "T1621": "Multi-Factor Authentication Request Generation",
    "T1660": "Phishing",
}


class Gravity(NamedTuple):
    """How grave a probability is, on OCSF's scales."""

    at_least: float
    severity_id: int
    severity: str
    confidence_id: int  # 1 Low, 2 Medium, 3 High
    risk_level_id: int  # 0 Info, 1 Low, 2 Medium, 3 High, 4 Critical
    priority_id: int  # 1 Low, 2 Medium, 3 High, 4 Critical


# The one place where a probability becomes words. risk_score is 100 times the probability, rounded; for confidence_score see there.
GRAVITIES: tuple[Gravity, ...] = (
    Gravity(0.90, 5, "Critical", 3, 4, 4),
    Gravity(0.70, 4, "High", 3, 3, 3),
    Gravity(0.50, 3, "Medium", 2, 2, 2),
    Gravity(0.20, 2, "Low", 1, 1, 1),
    Gravity(0.00, 1, "Informational", 1, 0, 1),
)


def gravity(probability: float) -> Gravity:
    """Find the gravity of a probability (0 to 1): the first whose bound it reaches."""
    for g in GRAVITIES:
        if probability >= g.at_least:
            return g
    raise ValueError("a probability below 0, or not a number")


def confidence(finding: Finding) -> tuple[int, int]:
    """Find how sure it is: confidence_id, and confidence_score (0 to 100), which is the probability's unless a feed is missing.

    While a feed is silent, late or suspended the picture has a hole: the risk is what it is, and the confidence one step lower.
    """
    sure, score = gravity(finding.probability).confidence_id, round(100 * finding.probability)
    if finding.feeds_missing:
        sure = max(1, sure - 1)
        score = min(score, *(round(100 * g.at_least) - 1 for g in GRAVITIES if g.confidence_id > sure))
    return sure, score


def impact_id(finding: Finding) -> int:
    """Say what is at stake: 4 Critical when money moved, 2 Medium when the code was not used, else 3 High."""
    if finding.money_moved:
        return 4
    return 2 if finding.stage == "near_miss" else 3


def alert(finding: Finding, mode: Literal["live", "replay"]) -> dict[str, object]:
    """Build the OCSF value of a finding, in the shape of the contract: JSON types only, ``None`` where no feed tells."""
    activity_id, activity = ACTIVITIES[finding.activity]
    g = gravity(finding.probability)
    sure, score = confidence(finding)
    value: dict[str, object] = {
        "metadata": {
            "version": OCSF_VERSION,
            "uid": f"{finding.uid}:{finding.sequence}",
            "profiles": list(PROFILES),
            "sequence": finding.sequence,
            "product": {"vendor_name": "OffHook", "name": "OffHook", "version": finding.version},
            "correlation_uid": finding.incident_id,
            "original_time": rfc3339(finding.last_seen),
            "processed_time": finding.time,
            "log_name": "alerts",
        },
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "activity_id": activity_id,
        "activity_name": activity,
        "type_uid": CLASS_UID * 100 + activity_id,
        "type_name": f"Detection Finding: {activity}",
        "time": finding.time,
        "start_time": finding.first_seen,
        "end_time": finding.last_seen,
        "severity_id": g.severity_id,
        "severity": g.severity,
        "status_id": HEARD[0],
        "status": HEARD[1],
        "is_alert": pages(finding),
        "confidence_id": sure,
        "confidence_score": score,
        "risk_level_id": g.risk_level_id,
        "risk_score": round(100 * finding.probability),
        "impact_id": impact_id(finding),
        "priority_id": g.priority_id,
        "verdict_id": finding.verdict_id,
        "message": finding.message,
        "finding_info": _finding_info(finding),
        "resources": [{"type": "account", "uid": finding.account_id}],
        "evidences": [_evidence(finding)],
        "remediation": {"desc": finding.advice},
        "unmapped": _unmapped(finding, mode),
    }
    if finding.activity == "close":
        value |= {"status_id": RESOLVED[0], "status": RESOLVED[1], "status_detail": finding.close_reason or "withdrawn"}
    elif finding.suppressed is not None:
        value |= {"status_id": SUPPRESSED[0], "status": SUPPRESSED[1], "status_detail": _why_suppressed(finding.suppressed)}
    if finding.verdict_id in VERDICTS:
        value["verdict"] = VERDICTS[finding.verdict_id]
    return value


def pages(finding: Finding) -> bool:
    """Say whether somebody should look now: one open finding per incident does, unless it is suppressed."""
    return finding.activity != "close" and finding.part_of is None and finding.suppressed is None


def _why_suppressed(suppressed: Suppression) -> str:
    if suppressed.cause == "flood":
        return "flood: the detector raises far more findings than anybody can read, and this is not among the most probable"
    return "; ".join(
        f"{s.scope} is snoozed until {rfc3339(s.until)}" + (f" by {s.who}" if s.who else "") + (f": {s.reason}" if s.reason else "")
        for s in suppressed.snoozes
    )


def _analytic(finding: Finding) -> dict[str, object]:
    """The model that scored, by its kind: OCSF knows a statistical one from one that has learned."""
    weighed = is_by_hand(finding.model_id)
    return {
        "name": "OffHook logistic score, the policy's weights" if weighed else "OffHook model learned from dispositions",
        "uid": finding.model_id,
        "version": finding.version,
        "type_id": 3 if weighed else 4,
        "type": "Statistical" if weighed else "Learning (ML/DL)",
        "state_id": 1,
    }


def _finding_info(finding: Finding) -> dict[str, object]:
    return {
        "uid": finding.uid,
        "title": finding.title,
        "types": list(finding.kinds),
        "desc": finding.story,
        "created_time": finding.created_time,
        "modified_time": finding.time,
        "first_seen_time": finding.first_seen,
        "last_seen_time": finding.last_seen,
        "data_sources": list(finding.feeds),
        "analytic": _analytic(finding),
        "related_analytics": [{"name": r.name, "uid": r.uid, "version": r.version, "type_id": 1, "type": "Rule"} for r in finding.rules],
        "attacks": [attack(uid) for uid in finding.attacks],
        "related_events": [{"uid": e.event_id, "type": e.type, "created_time": e.occurred_at} for e in finding.events],
        "related_events_count": len(finding.events),
        "traits": [{"name": r.name, "category": "reason_code", "values": [_signed(r.contribution)]} for r in finding.reasons],
    }


def _signed(contribution: float) -> str:
    return f"{round(contribution, 2) + 0.0:+.2f}"  # + 0.0: no "-0.00"


def attack(uid: str) -> dict[str, object]:
    """Build the OCSF attack of a technique id; a sub-technique stands under its parent. An id not in TECHNIQUES goes without a name."""
    parent, dot, _ = uid.partition(".")
    value: dict[str, object] = {"technique": _technique(parent)}
    if dot:
        value["sub_technique"] = _technique(uid)
    value["version"] = F3_VERSION
    return value


def _technique(uid: str) -> dict[str, str]:
    name = TECHNIQUES.get(uid)
    return {"uid": uid} if name is None else {"uid": uid, "name": name}


def _evidence(finding: Finding) -> dict[str, object]:
    value: dict[str, object] = {"name": "session"}
    if finding.ip is not None:
        value["src_endpoint"] = {"ip" if _is_address(finding.ip) else "uid": finding.ip}
    actor: dict[str, object] = {}
    if finding.session_id is not None:
        actor["session"] = {"uid": finding.session_id, "is_mfa": True}
    actor["user"] = {"uid": finding.account_id}
    value["actor"] = actor
    value["data"] = finding.data if finding.caller is None else {**finding.data, "caller": finding.caller}
    return value


def _is_address(text: str) -> bool:
    """Tell an address from its keyed pseudonym, which the policy may put in its place and OCSF does not take for an address."""
    if len(text) > _LONGEST_ADDRESS:
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _unmapped(finding: Finding, mode: str) -> dict[str, object]:
    value: dict[str, object] = {
        "otp_id": finding.otp_id,
        "stage": finding.stage,
        "probability": finding.probability,
        "threshold": finding.threshold,
        "policy_id": finding.policy_id,
        "model_id": finding.model_id,
        "decision_deadline": _instant(finding.decision_deadline),
        "mode": mode,
        "feeds_missing": list(finding.feeds_missing),
        "call_live": finding.call_live,
        "session_open": finding.session_open,
        "money_moved": finding.money_moved,
        "linked_accounts": finding.linked_accounts,
        "contact_advice": finding.contact_advice,
    }
    if finding.benign_if:
        value["benign_if"] = [{"facts": list(e.facts), "text": e.text, "probability": e.probability} for e in finding.benign_if]
    if finding.part_of is not None:
        value["part_of"] = finding.part_of
    if finding.truncated:
        value["truncated"] = True
    if finding.suppressed is not None:
        snoozes = [{"scope": s.scope, "until": rfc3339(s.until), "reason": s.reason, "who": s.who} for s in finding.suppressed.snoozes]
        value["suppressed"] = {"cause": finding.suppressed.cause, "snoozes": snoozes}
    return value


def _instant(instant: Ms | None) -> str | None:
    return None if instant is None else rfc3339(instant)
