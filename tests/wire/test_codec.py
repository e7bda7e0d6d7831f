"""Does every event survive its encoding, and does every outcome look as the contract says?"""

import json
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import REFUSALS, InvalidEvent
from pipeline.core.events import AnyEvent, Beat, LineEvent, LoggedIn, Mark
from pipeline.core.outcome import Decision, Evidence, Finding, Hold, HoldEnded, Late, Outcome, Reason, RuleHit
from pipeline.wire.codec import (
    MOST_INTEGER,
    DecisionHead,
    OutcomeEncoder,
    OutRecord,
    decode_decision_head,
    decode_event,
    decode_features,
    decode_line_event,
    encode_event,
    rounded,
)

NOON = 1_795_342_543_120  # 2026-11-22T10:15:43.120Z


def values(of: Any) -> st.SearchStrategy[Any]:
    """Make values of a type as it is annotated."""
    if of is type(None):
        return st.none()
    if of is int:
        return st.integers(-(2**63), 2**63)
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return st.builds(of, **{field.name: values(field.type) for field in msgspec.structs.fields(of)})
    origin, inner = get_origin(of), get_args(of)
    if origin is Annotated and inner[0] is float:
        bounds = inner[1]
        least, most = (bounds.gt if bounds.ge is None else bounds.ge), (bounds.lt if bounds.le is None else bounds.le)
        return st.floats(least, most, exclude_min=bounds.gt is not None, exclude_max=bounds.lt is not None)
    if origin is Annotated:
        return values(inner[0])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of([values(one) for one in inner])
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values(inner[0]), max_size=4).map(tuple)
    if origin is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=4)
    return st.from_type(of)


EVENTS = get_args(AnyEvent)
LINE_EVENTS = get_args(LineEvent)


@pytest.mark.parametrize("kind", EVENTS)
@given(data=st.data())
def test_every_event_survives(kind: type[AnyEvent], data: st.DataObject) -> None:
    event = data.draw(values(kind))
    value = encode_event(event)
    assert decode_event(value) == event
    assert type(decode_event(value)) is kind
    assert encode_event(decode_event(value)) == value


@pytest.mark.parametrize("kind", LINE_EVENTS)
@given(data=st.data())
def test_every_line_event_survives(kind: type[LineEvent], data: st.DataObject) -> None:
    event = data.draw(values(kind))
    value = encode_event(event)
    assert decode_line_event(value) == event
    assert encode_event(decode_line_event(value)) == value


def test_fields_at_their_default_are_left_out() -> None:
    event = LoggedIn(event_id="e", account_id="a", occurred_at=1, arrived_at=2, session_id="s", outcome="passed", flow="login")
    expected = '{"type":"logged_in","event_id":"e","account_id":"a","occurred_at":1,"arrived_at":2,'
    assert encode_event(event).decode() == expected + '"session_id":"s","outcome":"passed","flow":"login"}'
    beat = Beat(arrived_at=5, marks={"logins/0": Mark(5, None)}, partitions={"logins": 1})
    assert encode_event(beat).decode() == '{"type":"beat","arrived_at":5,"marks":{"logins/0":[5,null]},"partitions":{"logins":1}}'


@given(st.binary(max_size=80))
def test_bytes_that_are_no_event_are_refused(value: bytes) -> None:
    for decode in (decode_event, decode_line_event):
        with pytest.raises(InvalidEvent) as caught:
            decode(value)
        assert caught.value.reason in REFUSALS


def test_a_refusal_of_an_event_names_its_field() -> None:
    with pytest.raises(InvalidEvent) as caught:
        decode_event(b'{"type":"logged_in","event_id":"e"}')
    assert (caught.value.reason, caught.value.detail) == ("invalid_field", "account_id is missing")
    with pytest.raises(InvalidEvent) as caught:
        decode_event(b'{"type":"link_changed"}')
    assert caught.value.detail == "type is none of the values that the contract lists"


DECISION = Decision(
    decision_id="d_1",
    account_id="acct-1",
    otp_id="otp-1",
    incident_id="i_1",
    finding_uid=None,
    time=NOON,
    stage="at_entry",
    level="alert",
    probability=0.1 + 0.2,
    threshold=0.5,
    features={"new_device": True, "asn_kind": "hosting", "seconds": 41.10000000001, "calls": 2},
    reasons=(Reason("new_device", 1.1234567, "a new device"), Reason("tiny", -1e-9)),
    event_ids=("ev-1", "ev-2"),
    policy_id="p_1",
    model_id="m_1",
    version="0.1.0",
)
HOLD = Hold(
    account_id="acct-1", otp_id="otp-1", session_id=None, finding_uid="f_1", probability=0.9712345678, expires_at=NOON, reason="call live"
)


def test_a_decision_looks_as_the_contract_says() -> None:
    record = OutcomeEncoder("live").encode(DECISION)
    assert record is not None
    assert (record.topic, record.key, record.headers) == ("decisions", b"acct-1", ())
    assert record.value is not None
    decision = json.loads(record.value)
    assert decision == {
        "decision_id": "d_1",
        "account_id": "acct-1",
        "otp_id": "otp-1",
        "incident_id": "i_1",
        "finding_uid": None,
        "time": NOON,
        "stage": "at_entry",
        "level": "alert",
        "probability": 0.3,
        "threshold": 0.5,
        "features": {"new_device": True, "asn_kind": "hosting", "seconds": 41.1, "calls": 2},
        "reasons": [
            {"name": "new_device", "contribution": 1.123457, "text": "a new device"},
            {"name": "tiny", "contribution": 0.0, "text": ""},
        ],
        "event_ids": ["ev-1", "ev-2"],
        "policy_id": "p_1",
        "model_id": "m_1",
        "version": "0.1.0",
        "mode": "live",
    }
    assert list(decision) == sorted(decision)
    assert set(decision) == {*Decision.__struct_fields__, "mode"} - {"challengers", "control"}, "those are there when there are any"


def test_the_head_of_a_decision_is_read_and_its_features_when_they_are_asked_for() -> None:
    record = OutcomeEncoder("live").encode(DECISION)
    assert record is not None
    assert record.value is not None
    head = decode_decision_head(record.value)
    written = json.loads(record.value)
    assert {name: getattr(head, name) for name in DecisionHead.__struct_fields__ if name != "features"}.items() <= written.items()
    assert decode_features(head) == written["features"]
    odd = decode_decision_head(record.value.replace(b'"calls":2', b'"calls":[2]'))
    with pytest.raises(InvalidEvent, match="invalid_field: features has another type than the contract says"):
        decode_features(odd)
    for number in (MOST_INTEGER, -MOST_INTEGER):
        assert decode_features(decode_decision_head(record.value.replace(b'"calls":2', b'"calls":%d' % number)))["calls"] == number
    for number in (MOST_INTEGER + 1, -MOST_INTEGER - 1, 10**400, -(10**400)):
        long = decode_decision_head(record.value.replace(b'"calls":2', b'"calls":%d' % number))
        with pytest.raises(InvalidEvent, match=r"^invalid_field: features is outside the range that the contract allows$"):
            decode_features(long)


@pytest.mark.parametrize(
    ("was", "is_now", "why"),
    [
        (b'"stage":"at_entry"', b'"stage":"elsewhere"', "invalid_field: stage is none of the values that the contract lists"),
        (b'"otp_id":"otp-1",', b"", "invalid_field: otp_id is missing"),
        (b'"time":1795342543120', b'"time":"noon"', "invalid_field: time has another type than the contract says"),
        (b"a new device", b"a new \xff", "not_utf8: byte"),
    ],
)
def test_a_decision_that_cannot_be_read_is_refused_by_its_field(was: bytes, is_now: bytes, why: str) -> None:
    record = OutcomeEncoder("live").encode(DECISION)
    assert record is not None
    assert record.value is not None
    assert was in record.value
    with pytest.raises(InvalidEvent, match=why):
        decode_decision_head(record.value.replace(was, is_now))


def test_a_hold_begins_and_ends_under_one_key() -> None:
    encoder = OutcomeEncoder("replay")
    value = (
        b'{"account_id":"acct-1","expires_at":"2026-11-22T10:15:43.120Z","finding_uid":"f_1","otp_id":"otp-1",'
        b'"probability":0.971235,"reason":"call live","session_id":null}'
    )
    assert encoder.encode(HOLD) == OutRecord("holds", b"acct-1|otp-1", value, ())
    assert encoder.encode(HoldEnded(account_id="acct-1", otp_id="otp-1")) == OutRecord("holds", b"acct-1|otp-1", None, ())


FINDING = Finding(
    uid="f_1",
    sequence=1,
    activity="create",
    incident_id="i_1",
    part_of=None,
    account_id="acct-1",
    otp_id="otp-1",
    session_id="s-1",
    time=NOON,
    created_time=NOON,
    first_seen=NOON - 40_000,
    last_seen=NOON,
    stage="at_entry",
    level="alert",
    probability=0.1 + 0.2,
    threshold=0.5,
    title="One-time code read out to a caller",
    message="m",
    story="s",
    advice="a",
    contact_advice="c",
    close_reason=None,
    verdict_id=0,
    kinds=("otp_relay_voice",),
    attacks=("T1111",),
    rules=(RuleHit("R01", "code_entered_on_new_device_during_call", "1"),),
    reasons=(Reason("new_device", 1.12),),
    events=(Evidence("ev-1", "otp_entered", NOON, "otp-entries"),),
    data={"seconds_dispatch_to_entry": {"value": 41.10000000001, "usual": 12.0}, "pair": (1.00000001, 2)},
    ip=None,
    caller=None,
    decision_deadline=None,
    feeds=("otp-entries",),
    feeds_missing=(),
    call_live=True,
    session_open=None,
    money_moved=None,
    linked_accounts=1,
    truncated=False,
    policy_id="p_1",
    model_id="m_1",
    version="0.1.0",
    expires_at=None,
)


def test_a_finding_becomes_an_alert_with_its_headers() -> None:
    record = OutcomeEncoder("live", "/offhook/eu").encode(FINDING)
    assert record is not None
    assert (record.topic, record.key) == ("alerts", b"acct-1")
    headers = dict(record.headers)
    assert (headers["ce_source"], headers["ce_id"], headers["content-type"]) == (b"/offhook/eu", b"f_1:1", b"application/json")
    assert record.value is not None
    alert = json.loads(record.value)
    assert (alert["class_uid"], alert["finding_info"]["uid"], alert["unmapped"]["mode"]) == (2004, "f_1", "live")
    assert b"41.1," in record.value or b"41.1}" in record.value
    assert alert["unmapped"]["probability"] == 0.3


def test_what_came_too_late_is_the_drivers_to_write() -> None:
    assert OutcomeEncoder("live").encode(Late(account_id="a", event_id="e", occurred_at=1, arrived_at=2)) is None


@pytest.mark.parametrize("outcome", [DECISION, HOLD, FINDING])
def test_the_same_outcome_gives_the_same_bytes_in_any_order_of_its_fields(outcome: Outcome) -> None:
    first = OutcomeEncoder("live").encode(outcome)
    if isinstance(outcome, Decision):
        outcome = msgspec.structs.replace(outcome, features=dict(reversed(outcome.features.items())))
    if isinstance(outcome, Finding):
        outcome = msgspec.structs.replace(outcome, data=dict(reversed(outcome.data.items())))
    assert OutcomeEncoder("live").encode(outcome) == first


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        OutcomeEncoder("live").encode(msgspec.structs.replace(DECISION, features={"x": number}))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_is_settled_after_once(number: float) -> None:
    once = rounded(number)
    assert isinstance(once, float)
    assert rounded(once) == once
    assert abs(once - number) <= 5.1e-7 + abs(number) * 1e-15
    assert not json.dumps(once).startswith("-0.0") or once != 0
