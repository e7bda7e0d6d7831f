"""Is every alert what OCSF 1.8.0 says a Detection Finding is, whatever the finding?"""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]

from pipeline.core.events import EVIDENCE_FEEDS
from pipeline.core.exoneration import FACTS
from pipeline.core.outcome import Evidence, Exoneration, Finding, Reason, RuleHit, Snooze, Suppression
from pipeline.wire.cloudevents import headers
from pipeline.wire.instant import rfc3339
from pipeline.wire.ocsf import GRAVITIES, TECHNIQUES, VERDICTS, alert, attack, confidence, gravity
from pipeline.wire.schemas import schemas
from tests.examples import examples

T0 = 1_795_342_499_000  # 2026-11-22T10:14:59Z

FINDING = Finding(
    uid="f_5q2m7c0d8kz1r4t6w9y3b1n0",
    sequence=2,
    activity="update",
    incident_id="i_7f3c1e9a2b",
    part_of=None,
    account_id="acct-000417",
    otp_id="otp-5521",
    session_id="sess-71aa",
    time=T0 + 44_180,
    created_time=T0 + 13_400,
    first_seen=T0,
    last_seen=T0 + 44_120,
    stage="at_entry",
    level="alert",
    probability=0.971,
    threshold=0.62,
    title="One-time code read out to a caller",
    message="The code was entered on a new device, 31 s after a stranger's call was answered, with the call still live.",
    story="10:14:59 password accepted on a device never seen. 10:15:02 code sent by SMS. 10:15:12 call answered. 10:15:43 code typed.",
    advice="End the session sess-71aa and hold payments.",
    contact_advice="after the call has ended, by a number of record",
    close_reason=None,
    verdict_id=0,
    kinds=("account_takeover", "otp_relay_voice"),
    attacks=("T1111", "F1006.002"),
    rules=(RuleHit("R01", "code_entered_on_new_device_during_call", "1"),),
    reasons=(Reason("call_live_at_entry", 2.31), Reason("known_network", -0.5)),
    events=(
        Evidence("ev-login-88a1", "logged_in", T0, "logins"),
        Evidence("ev-entry-7712", "otp_entered", T0 + 44_120, "otp-entries"),
    ),
    data={"call_live_at_entry": True, "seconds_dispatch_to_entry": {"value": 41.1, "usual": 12.0}},
    ip="203.0.113.7",
    caller="k1:Zm9vYmFyYmF6cXV4MTIzNA",
    decision_deadline=T0 + 74_000,
    feeds=("logins", "otp-entries"),
    feeds_missing=(),
    call_live=True,
    session_open=True,
    money_moved=None,
    linked_accounts=1,
    truncated=False,
    policy_id="p_91bc7d",
    model_id="m_20261122a1",
    version="0.1.0",
    expires_at=T0 + 303_000,
)

ids = st.from_regex(r"\A[A-Za-z0-9._:-]{1,64}\Z")
instants = st.integers(0, 4_102_444_800_000)
words = st.text(max_size=60)
flags = st.none() | st.booleans()
numbers = st.floats(allow_nan=False, allow_infinity=False)
features = st.dictionaries(
    ids, numbers | st.integers(-(2**53), 2**53) | st.booleans() | words | st.dictionaries(ids, numbers, max_size=3), max_size=6
)
addresses = st.ip_addresses().map(str) | st.sampled_from(
    ["k1:Zm9vYmFyYmF6cXV4MTIzNA", "fe80::1%eth0", "::ffff:192.0.2.7", "not an address"]
)

snoozes = st.builds(Snooze, ids, instants, words, st.none() | ids)
suppressions = st.builds(Suppression, st.sampled_from(["snooze", "flood"]), st.lists(snoozes, max_size=3).map(tuple))
facts = st.lists(st.sampled_from([fact.name for fact in FACTS]), min_size=1, max_size=3, unique=True).map(tuple)
exonerations = st.lists(st.builds(Exoneration, facts, words, st.floats(0, 1)), max_size=3).map(tuple)

findings = st.builds(
    Finding,
    uid=ids,
    sequence=st.integers(1, 10_000),
    activity=st.sampled_from(["create", "update", "close"]),
    incident_id=ids,
    part_of=st.none() | ids,
    account_id=ids,
    otp_id=ids,
    session_id=st.none() | ids,
    time=instants,
    created_time=instants,
    first_seen=instants,
    last_seen=instants,
    stage=st.sampled_from(["before_entry", "at_entry", "after_entry", "near_miss"]),
    level=st.sampled_from(["clear", "watch", "alert"]),
    probability=st.floats(0, 1),
    threshold=st.floats(0, 1),
    title=words,
    message=words,
    story=words,
    advice=words,
    contact_advice=words,
    close_reason=st.none() | words,
    verdict_id=st.sampled_from([0, *VERDICTS]),
    kinds=st.lists(ids, max_size=3).map(tuple),
    attacks=st.lists(st.sampled_from([*TECHNIQUES, "T9999", "F1040.999"]), max_size=4).map(tuple),
    rules=st.lists(st.builds(RuleHit, ids, ids, ids), max_size=3).map(tuple),
    reasons=st.lists(st.builds(Reason, ids, st.floats(-20, 20), words), max_size=4).map(tuple),
    events=st.lists(st.builds(Evidence, ids, ids, instants, st.sampled_from(EVIDENCE_FEEDS)), max_size=4).map(tuple),
    data=features,
    ip=st.none() | addresses,
    caller=st.none() | ids,
    decision_deadline=st.none() | instants,
    feeds=st.lists(st.sampled_from(EVIDENCE_FEEDS), unique=True).map(tuple),
    feeds_missing=st.lists(st.sampled_from(EVIDENCE_FEEDS), unique=True).map(tuple),
    call_live=flags,
    session_open=flags,
    money_moved=flags,
    linked_accounts=st.none() | st.integers(0, 40),
    truncated=st.booleans(),
    policy_id=ids,
    model_id=ids,
    version=ids,
    expires_at=st.none() | instants,
    suppressed=st.none() | suppressions,
    benign_if=exonerations,
)


@pytest.fixture(scope="module")
def ocsf() -> Callable[[dict[str, Any]], list[str]]:
    """Say what a published validator finds wrong with a value, by the version, class and profiles that the value itself declares."""
    validators: dict[tuple[object, ...], Draft202012Validator] = {}

    def faults(value: dict[str, Any]) -> list[str]:
        metadata = value["metadata"]
        declared = (metadata["version"], value["class_uid"], *metadata["profiles"])
        if declared not in validators:
            published = OcsfJsonSchemaEmbedded(get_ocsf_schema(metadata["version"]))
            name = published.lookup_class_name_from_uid(value["class_uid"])
            validators[declared] = Draft202012Validator(published.get_class_schema(name, list(metadata["profiles"])))
        return [f"{e.json_path}: {e.message}" for e in validators[declared].iter_errors(value)]

    return faults


@pytest.fixture(scope="module")
def own() -> Draft202012Validator:
    return Draft202012Validator(schemas()["alert.schema.json"], format_checker=Draft202012Validator.FORMAT_CHECKER)


def written(finding: Finding, mode: str = "live") -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(orjson.dumps(alert(finding, "live" if mode == "live" else "replay")))
    return value


def changed(**fields: object) -> Finding:
    return msgspec.structs.replace(FINDING, **fields)


@settings(max_examples=examples(150), deadline=None)
@given(finding=findings, mode=st.sampled_from(["live", "replay"]))
def test_every_finding_becomes_a_valid_detection_finding(
    ocsf: Callable[[dict[str, Any]], list[str]], own: Draft202012Validator, finding: Finding, mode: str
) -> None:
    value = written(finding, mode)
    assert ocsf(value) == []
    assert [f"{e.json_path}: {e.message}" for e in own.iter_errors(value)] == []


@given(finding=findings)
def test_the_same_finding_gives_the_same_bytes(finding: Finding) -> None:
    again = msgspec.convert(msgspec.to_builtins(finding), Finding)
    assert orjson.dumps(alert(finding, "live")) == orjson.dumps(alert(again, "live"))
    live, replay = alert(finding, "live"), alert(finding, "replay")
    assert live["unmapped"] != replay["unmapped"]
    assert {k: v for k, v in live.items() if k != "unmapped"} == {k: v for k, v in replay.items() if k != "unmapped"}


def test_a_published_validator_refuses_what_is_not_ocsf(ocsf: Callable[[dict[str, Any]], list[str]]) -> None:
    wrong: list[tuple[str, object]] = [
        ("severity_id", 42),
        ("severity_id", "high"),
        ("time", None),
        ("otp_id", "otp-1"),
        ("finding_info", {}),
    ]
    for field, content in wrong:
        assert ocsf({**written(FINDING), field: content}), field


def test_own_profile_refuses_what_consumers_rely_on_going_missing(own: Draft202012Validator) -> None:
    value = written(FINDING)
    for field in value["unmapped"]:
        without = {**value, "unmapped": {k: v for k, v in value["unmapped"].items() if k != field}}
        assert not own.is_valid(without), field
    for field in ("correlation_uid", "sequence", "uid"):
        without = {**value, "metadata": {k: v for k, v in value["metadata"].items() if k != field}}
        assert not own.is_valid(without), field
    assert not own.is_valid({**value, "phone": "+15550100"})


def test_the_captions_are_the_published_ones() -> None:
    attributes = get_ocsf_schema("1.8.0")["classes"]["detection_finding"]["attributes"]
    caption = {k: {int(i): e["caption"] for i, e in a["enum"].items()} for k, a in attributes.items() if "enum" in a}
    for activity in ("create", "update", "close"):
        value = written(changed(activity=activity))
        for id_field, name_field in (("activity_id", "activity_name"), ("status_id", "status"), ("severity_id", "severity")):
            assert caption[id_field][value[id_field]] == value[name_field]
    for verdict_id, name in VERDICTS.items():
        assert caption["verdict_id"][verdict_id] == name
    for g in GRAVITIES:
        assert caption["severity_id"][g.severity_id] == g.severity


@pytest.mark.parametrize(
    ("probability", "severity", "confidence_id", "risk_level_id", "priority_id"),
    [
        (1.0, "Critical", 3, 4, 4),
        (0.9, "Critical", 3, 4, 4),
        (0.8999, "High", 3, 3, 3),
        (0.5, "Medium", 2, 2, 2),
        (0.2, "Low", 1, 1, 1),
        (0.0, "Informational", 1, 0, 1),
    ],
)
def test_gravity_follows_from_the_probability_alone(
    probability: float, severity: str, confidence_id: int, risk_level_id: int, priority_id: int
) -> None:
    value = written(changed(probability=probability))
    assert value["severity"] == severity
    assert (value["confidence_id"], value["risk_level_id"], value["priority_id"]) == (confidence_id, risk_level_id, priority_id)
    assert value["confidence_score"] == value["risk_score"] == round(100 * probability)
    assert value["unmapped"]["probability"] == probability


@pytest.mark.parametrize(
    ("probability", "whole", "holed"),
    [(0.97, (3, 97), (2, 69)), (0.7, (3, 70), (2, 69)), (0.55, (2, 55), (1, 49)), (0.3, (1, 30), (1, 30))],
)
def test_a_missing_feed_lowers_the_confidence_and_leaves_the_risk(
    probability: float, whole: tuple[int, int], holed: tuple[int, int]
) -> None:
    for missing, expected in (((), whole), (("telephony",), holed)):
        value = written(changed(probability=probability, feeds_missing=missing))
        assert (value["confidence_id"], value["confidence_score"]) == expected
        assert gravity(expected[1] / 100).confidence_id == expected[0], "score and step say the same"
        assert (value["risk_score"], value["severity"]) == (round(100 * probability), gravity(probability).severity)


@given(probability=st.floats(0, 1), missing=st.lists(st.sampled_from(EVIDENCE_FEEDS), min_size=1, unique=True))
def test_confidence_never_rises_because_a_feed_is_missing(probability: float, missing: list[str]) -> None:
    whole, holed = changed(probability=probability, feeds_missing=()), changed(probability=probability, feeds_missing=tuple(missing))
    assert all(less <= more for less, more in zip(confidence(holed), confidence(whole), strict=True))


@pytest.mark.parametrize(("model_id", "type_id"), [("m_fitted3", 3), ("m_fitted2", 3), ("m_0123456789", 4)])
def test_the_analytic_says_whether_the_model_has_learned(model_id: str, type_id: int) -> None:
    analytic = written(changed(model_id=model_id))["finding_info"]["analytic"]
    published = get_ocsf_schema("1.8.0")["objects"]["analytic"]["attributes"]["type_id"]["enum"]
    assert (analytic["uid"], analytic["type_id"], analytic["type"]) == (model_id, type_id, published[str(type_id)]["caption"])


@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_a_higher_probability_is_never_less_grave(a: float, b: float) -> None:
    low, high = gravity(min(a, b)), gravity(max(a, b))
    assert low.severity_id <= high.severity_id
    assert low.confidence_id <= high.confidence_id
    assert low.risk_level_id <= high.risk_level_id
    assert low.priority_id <= high.priority_id


@pytest.mark.parametrize("probability", [math.nan, -0.1])
def test_what_is_no_probability_has_no_gravity(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        gravity(probability)


def test_a_closed_finding_is_resolved_and_says_why() -> None:
    value = written(changed(activity="close", close_reason="the call came from the bank's own trunk", verdict_id=1))
    assert (value["status"], value["status_detail"]) == ("Resolved", "the call came from the bank's own trunk")
    assert value["is_alert"] is False
    assert value["verdict"] == "False Positive"


def test_one_open_finding_of_an_incident_pages() -> None:
    assert written(FINDING)["is_alert"] is True
    other = written(changed(part_of="f_first"))
    assert other["is_alert"] is False
    assert other["unmapped"]["part_of"] == "f_first"


SNOOZED = Suppression("snooze", (Snooze("R05", T0 + 86_400_000, "SIM swap confirmed", "analyst-7"),))


def test_a_suppressed_finding_is_written_says_why_and_does_not_page() -> None:
    value = written(changed(suppressed=SNOOZED))
    assert (value["status_id"], value["status"], value["is_alert"]) == (3, "Suppressed", False)
    assert value["status_detail"] == "R05 is snoozed until 2026-11-23T10:14:59Z by analyst-7: SIM swap confirmed"
    (snooze,) = value["unmapped"]["suppressed"]["snoozes"]
    assert snooze == {"scope": "R05", "until": "2026-11-23T10:14:59Z", "reason": "SIM swap confirmed", "who": "analyst-7"}
    value = written(changed(suppressed=Suppression("flood")))
    assert value["unmapped"]["suppressed"] == {"cause": "flood", "snoozes": []}
    assert value["status_detail"].startswith("flood: ")


def test_a_suppressed_finding_that_is_closed_is_resolved() -> None:
    value = written(changed(suppressed=SNOOZED, activity="close", close_reason="later evidence"))
    assert (value["status_id"], value["status_detail"], value["is_alert"]) == (4, "later evidence", False)
    assert value["unmapped"]["suppressed"]["cause"] == "snooze"


def test_own_profile_refuses_what_is_suppressed_and_pages_or_the_reverse(own: Draft202012Validator) -> None:
    assert own.is_valid(written(changed(suppressed=SNOOZED)))
    assert not own.is_valid({**written(changed(suppressed=SNOOZED)), "is_alert": True})
    assert not own.is_valid({**written(changed(suppressed=SNOOZED)), "status_id": 1})
    assert not own.is_valid({**written(FINDING), "status_id": 3})


def test_what_would_have_made_it_benign_is_said() -> None:
    assert "benign_if" not in written(FINDING)["unmapped"]
    (said,) = written(changed(benign_if=(Exoneration(("device_owned",), "if the new device were the customer's own", 0.03),)))["unmapped"][
        "benign_if"
    ]
    assert said == {"facts": ["device_owned"], "text": "if the new device were the customer's own", "probability": 0.03}


def test_a_cap_that_was_hit_is_said() -> None:
    assert "truncated" not in written(FINDING)["unmapped"]
    assert written(changed(truncated=True))["unmapped"]["truncated"] is True


def test_what_is_at_stake_depends_on_what_happened() -> None:
    assert written(FINDING)["impact_id"] == 3
    assert written(changed(stage="near_miss"))["impact_id"] == 2
    assert written(changed(money_moved=True))["impact_id"] == 4


def test_a_sub_technique_stands_under_its_parent() -> None:
    assert attack("F1006.002") == {
        "technique": {"uid": "F1006", "name": "Account Takeover"},
        "sub_technique": {"uid": "F1006.002", "name": "Exposed Login Credential"},
        "version": "MITRE F3 v1.1",
    }
    assert attack("T9999")["technique"] == {"uid": "T9999"}
    assert all(uid.partition(".")[0] in TECHNIQUES for uid in TECHNIQUES)


def test_a_pseudonym_is_not_passed_off_as_an_address() -> None:
    (evidence,) = written(changed(ip="k1:Zm9vYmFyYmF6cXV4MTIzNA"))["evidences"]
    assert evidence["src_endpoint"] == {"uid": "k1:Zm9vYmFyYmF6cXV4MTIzNA"}
    (evidence,) = written(FINDING)["evidences"]
    assert evidence["src_endpoint"] == {"ip": "203.0.113.7"}
    (evidence,) = written(changed(ip=None, session_id=None, caller=None))["evidences"]
    assert "src_endpoint" not in evidence
    assert evidence["actor"] == {"user": {"uid": "acct-000417"}}
    assert evidence["data"] == FINDING.data


def test_headers_are_cloudevents_in_binary_mode() -> None:
    assert dict(headers(FINDING, "/offhook")) == {
        "ce_specversion": b"1.0",
        "ce_id": b"f_5q2m7c0d8kz1r4t6w9y3b1n0:2",
        "ce_source": b"/offhook",
        "ce_type": b"offhook.finding.updated",
        "ce_subject": b"f_5q2m7c0d8kz1r4t6w9y3b1n0",
        "ce_time": b"2026-11-22T10:15:43.180Z",
        "ce_dataschema": schemas()["alert.schema.json"]["$id"].encode(),
        "ce_partitionkey": b"acct-000417",
        "ce_correlationid": b"i_7f3c1e9a2b",
        "ce_causationid": b"ev-entry-7712",
        "ce_expirytime": b"2026-11-22T10:16:13Z",
        "content-type": b"application/json",
    }


@given(finding=findings)
def test_headers_agree_with_the_value(finding: Finding) -> None:
    value, fields = alert(finding, "live"), headers(finding, "/offhook")
    names = [name for name, _ in fields]
    assert len(names) == len(set(names))
    read = {name: text.decode() for name, text in fields}
    assert read["ce_id"] == value["metadata"]["uid"]  # type: ignore[index]
    assert read["ce_correlationid"] == value["metadata"]["correlation_uid"]  # type: ignore[index]
    assert all(read.values())


def test_an_expiry_that_is_unknown_or_has_passed_is_left_out() -> None:
    assert b"2026-11-22T10:20:02Z" in dict(headers(changed(decision_deadline=None), "/offhook")).values()
    assert "ce_expirytime" not in dict(headers(changed(decision_deadline=None, expires_at=None), "/offhook"))
    assert "ce_expirytime" not in dict(headers(changed(decision_deadline=FINDING.time), "/offhook"))
    assert "ce_causationid" not in dict(headers(changed(events=()), "/offhook"))


def test_an_instant_outside_the_calendar_is_refused() -> None:
    assert rfc3339(-1) == "1969-12-31T23:59:59.999Z"
    assert rfc3339(253_402_300_799_999) == "9999-12-31T23:59:59.999Z"
    with pytest.raises(ValueError, match="years"):
        rfc3339(253_402_300_800_000)
