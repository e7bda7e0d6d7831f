"""Does a raw record become the event it means, and is a bad one refused in words that give nothing away?"""

import json
from typing import Any

import msgspec
import pytest

from pipeline.core.errors import InvalidEvent, Refusal
from pipeline.core.events import (
    AccountChanged,
    CallChanged,
    Disposed,
    LineAsked,
    LineChanged,
    LinkChanged,
    LoggedIn,
    MessageSeen,
    OtpDispatched,
    OtpEntered,
)
from pipeline.core.policy import Policy, Privacy
from pipeline.wire.ingest import Addressed, Ingest
from pipeline.wire.pseudonym import Pseudonyms

T = "2026-11-22T10:15:02.120Z"
T_MS = 1_795_342_502_120
ARRIVED = T_MS + 400
PHONE = "+447700900123"
CALLER = "+12125550123"

NAMES = Pseudonyms.for_demo()
INGEST = Ingest(Policy(), NAMES)

LOGIN: dict[str, Any] = {
    "event_id": "ev-1",
    "occurred_at": T,
    "account_id": "acct-1",
    "session_id": "s-1",
    "outcome": "passed",
    "flow": "login",
    "device_id": "dev-1",
    "ip": "192.0.2.1",
    "asn": 64500,
    "asn_kind": "hosting",
    "country": "GB",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
}
DISPATCH: dict[str, Any] = {
    "event_id": "ev-2",
    "occurred_at": T,
    "account_id": "acct-1",
    "otp_id": "otp-1",
    "session_id": "s-1",
    "phone": PHONE,
    "sender": "MyBank",
    "channel": "sms",
    "purpose": "login",
    "initiated_by": "customer",
    "status": "sent",
    "expires_at": "2026-11-22T12:20:02.1209+02:00",
}
CALL: dict[str, Any] = {
    "type": "call",
    "event_id": "ev-3",
    "occurred_at": T,
    "phone": PHONE,
    "source": "carrier",
    "call_id": "c-1",
    "state": "answered",
    "direction": "inbound",
    "peer": CALLER,
    "attestation": "C",
    "peer_line": "voip",
    "peer_is_contact": False,
    "peer_is_bank": False,
    "via": "app",
}
STATUS: dict[str, Any] = {"type": "call_status", "event_id": "ev-4", "occurred_at": T, "phone": PHONE, "on_call": True, "since": T}
SMS: dict[str, Any] = {
    "type": "sms",
    "event_id": "ev-5",
    "occurred_at": T,
    "phone": PHONE,
    "direction": "inbound",
    "peer": "MYBANK",
    "has_code": True,
}
LINE: dict[str, Any] = {"type": "line", "event_id": "ev-6", "occurred_at": T, "phone": PHONE, "change": "roaming_on", "country": "FR"}
ENTRY: dict[str, Any] = {
    "event_id": "ev-7",
    "occurred_at": T,
    "account_id": "acct-1",
    "otp_id": "otp-1",
    "session_id": "s-1",
    "outcome": "accepted",
    "method": "typed",
    "device_id": "dev-1",
    "ip": "192.0.2.1",
    "asn": 64500,
    "country": "GB",
}
LINK: dict[str, Any] = {"event_id": "ev-8", "occurred_at": T, "phone": PHONE, "account_id": "acct-1", "status": "linked"}
CHANGE: dict[str, Any] = {"event_id": "ev-9", "occurred_at": T, "account_id": "acct-1", "session_id": "s-1", "change": "payee_added"}
DISPOSITION: dict[str, Any] = {
    "event_id": "ev-10",
    "occurred_at": T,
    "account_id": "acct-1",
    "otp_id": "otp-1",
    "session_id": "s-1",
    "finding_uid": "f-1",
    "verdict": "true_positive",
    "source": "analyst",
}
RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("logins", LOGIN),
    ("otp-dispatches", DISPATCH),
    ("telephony", CALL),
    ("telephony", STATUS),
    ("telephony", SMS),
    ("telephony", LINE),
    ("otp-entries", ENTRY),
    ("phone-links", LINK),
    ("account-changes", CHANGE),
    ("dispositions", DISPOSITION),
]


def read(feed: str, record: dict[str, Any] | bytes, ingest: Ingest = INGEST) -> list[Addressed]:
    return ingest.read(feed, record if isinstance(record, bytes) else json.dumps(record).encode(), ARRIVED)


def refused(feed: str, record: dict[str, Any] | bytes) -> tuple[Refusal, str]:
    with pytest.raises(InvalidEvent) as caught:
        read(feed, record)
    return caught.value.reason, caught.value.detail


def test_each_record_becomes_its_event() -> None:
    when: dict[str, Any] = {"occurred_at": T_MS, "arrived_at": ARRIVED}
    line, sender, caller = NAMES.line(PHONE), NAMES.peer("MyBank"), NAMES.peer(CALLER)
    on_line: dict[str, Any] = {"account_id": "", "line": line, **when}
    expected: list[list[Addressed]] = [
        [
            Addressed(
                "events",
                "acct-1",
                LoggedIn(
                    event_id="ev-1",
                    account_id="acct-1",
                    **when,
                    session_id="s-1",
                    outcome="passed",
                    flow="login",
                    device_id="dev-1",
                    ip="192.0.2.1",
                    asn=64500,
                    asn_kind="hosting",
                    country="GB",
                    user_agent="TzX-MQLNEUg",  # b2sum -l 64, in base64url
                ),
            )
        ],
        [
            Addressed(
                "events",
                "acct-1",
                OtpDispatched(
                    event_id="ev-2",
                    account_id="acct-1",
                    **when,
                    otp_id="otp-1",
                    session_id="s-1",
                    channel="sms",
                    purpose="login",
                    initiated_by="customer",
                    line=line,
                    line_country="GB",
                    sender=sender,
                    expires_at=T_MS + 300_000,
                ),
            ),
            Addressed("lines", line, LinkChanged(event_id="ev-2", account_id="acct-1", **when, line=line, status="learned")),
        ],
        [
            Addressed(
                "lines",
                line,
                CallChanged(
                    event_id="ev-3",
                    **on_line,
                    source="carrier",
                    call_id="c-1",
                    state="answered",
                    direction="inbound",
                    peer=caller,
                    peer_abroad=True,
                    attestation="C",
                    peer_line="voip",
                    peer_is_contact=False,
                    peer_is_bank=False,
                    via="app",
                ),
            )
        ],
        [Addressed("lines", line, LineAsked(event_id="ev-4", **on_line, on_call=True, since=T_MS))],
        [Addressed("lines", line, MessageSeen(event_id="ev-5", **on_line, direction="inbound", peer=sender, has_code=True))],
        [Addressed("lines", line, LineChanged(event_id="ev-6", **on_line, change="roaming_on", country="FR"))],
        [
            Addressed(
                "events",
                "acct-1",
                OtpEntered(
                    event_id="ev-7",
                    account_id="acct-1",
                    **when,
                    otp_id="otp-1",
                    session_id="s-1",
                    outcome="accepted",
                    method="typed",
                    device_id="dev-1",
                    ip="192.0.2.1",
                    asn=64500,
                    country="GB",
                ),
            )
        ],
        [Addressed("lines", line, LinkChanged(event_id="ev-8", account_id="acct-1", **when, line=line, status="linked"))],
        [
            Addressed(
                "events",
                "acct-1",
                AccountChanged(event_id="ev-9", account_id="acct-1", **when, session_id="s-1", change="payee_added"),
            )
        ],
        [
            Addressed(
                "events",
                "acct-1",
                Disposed(
                    event_id="ev-10",
                    account_id="acct-1",
                    **when,
                    otp_id="otp-1",
                    session_id="s-1",
                    finding_uid="f-1",
                    verdict="true_positive",
                    source="analyst",
                ),
            )
        ],
    ]
    for (feed, record), addressed in zip(RECORDS, expected, strict=True):
        assert read(feed, record) == addressed, feed


@pytest.mark.parametrize(("feed", "record"), RECORDS)
def test_unknown_fields_are_ignored_and_nulls_may_be_absent(feed: str, record: dict[str, Any]) -> None:
    more = {**record, "otp_code": "815264", "nested": {"a": [1, {"b": None}]}}
    assert read(feed, more) == read(feed, record)
    bare = {name: value for name, value in record.items() if _needed(feed, record, name)}
    nulls = {name: record[name] if name in bare else None for name in record if name not in ("via", "status") or name in bare}
    assert read(feed, bare) == read(feed, nulls)


def _needed(feed: str, record: dict[str, Any], name: str) -> bool:
    without = {other: value for other, value in record.items() if other != name}
    try:
        read(feed, without)
    except InvalidEvent:
        return True
    return False


def test_a_code_that_failed_to_reach_a_phone_teaches_no_link() -> None:
    assert [a.topic for a in read("otp-dispatches", {**DISPATCH, "status": "failed"})] == ["events"]
    assert [a.topic for a in read("otp-dispatches", {**DISPATCH, "status": "delivered"})] == ["events", "lines"]
    assert [a.topic for a in read("otp-dispatches", {**DISPATCH, "phone": None, "channel": "push"})] == ["events"]


def test_the_sender_of_a_code_and_a_caller_compare_equal() -> None:
    dispatched = read("otp-dispatches", {**DISPATCH, "sender": "+44 20 7946 0018"})[0].event
    called = read("telephony", {**CALL, "peer": "+442079460018"})[0].event
    assert isinstance(dispatched, OtpDispatched)
    assert isinstance(called, CallChanged)
    assert dispatched.sender == called.peer != ()


@pytest.mark.parametrize(
    ("peer", "abroad"),
    [
        (CALLER, True),
        ("+44 7700 900999", False),
        ("+441481900123", False),
        ("07700900999", None),
        ("60123", None),
        ("MyBank", None),
        ("+99912345678", None),
        ("+0447700900999", None),
        ("  ", None),
        (None, None),
    ],
)
def test_a_peer_is_abroad_when_its_calling_code_says_so(peer: str | None, abroad: bool | None) -> None:
    event = read("telephony", {**CALL, "peer": peer})[0].event
    assert isinstance(event, CallChanged)
    assert event.peer_abroad is abroad


@pytest.mark.parametrize(
    ("phone", "country"),
    [
        (PHONE, "GB"),
        ("+441481900123", "GG"),
        ("+33612345678", "FR"),
        ("+77012345678", "KZ"),
        ("+14165550123", "CA"),
        ("+15550100123", "US"),
        ("+390612345678", "IT"),
        ("+80012345678", None),
        ("+99912345678", None),
        ("+12", "US"),
    ],
)
def test_a_line_belongs_to_a_region(phone: str, country: str | None) -> None:
    event = read("otp-dispatches", {**DISPATCH, "phone": phone})[0].event
    assert isinstance(event, OtpDispatched)
    assert event.line_country == country


def test_addresses_and_devices_are_kept_as_the_policy_says() -> None:
    for feed, record in (("logins", LOGIN), ("otp-entries", ENTRY)):
        kept: dict[str, LoggedIn | OtpEntered] = {}
        for how in ("plain", "pseudonym", "drop"):
            policy = Policy(privacy=msgspec.convert({"ip": how, "device_id": how}, Privacy))
            event = read(feed, record, Ingest(policy, NAMES))[0].event
            assert isinstance(event, LoggedIn | OtpEntered)
            kept[how] = event
        assert (kept["plain"].ip, kept["plain"].device_id) == ("192.0.2.1", "dev-1")
        assert (kept["pseudonym"].ip, kept["pseudonym"].device_id) == (NAMES.opaque("ip", "192.0.2.1"), NAMES.opaque("device", "dev-1"))
        assert (kept["drop"].ip, kept["drop"].device_id) == (None, None)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T10:15:02Z", 1_795_342_502_000),
        ("2026-11-22T10:15:02.1Z", 1_795_342_502_100),
        ("2026-11-22T10:15:02.120999Z", T_MS),
        ("2026-11-22T10:15:02.1209999999Z", T_MS),
        ("2026-11-22T10:15:01.9999999Z", 1_795_342_501_999),
        ("2026-11-22t12:15:02.120+02:00", T_MS),
        ("2026-11-21T20:15:02.120-14:00", T_MS),
        ("1970-01-01T00:00:00.001Z", 1),
    ],
)
def test_instants_are_cut_to_milliseconds(text: str, ms: int) -> None:
    assert read("logins", {**LOGIN, "occurred_at": text})[0].event == msgspec.structs.replace(
        read("logins", LOGIN)[0].event, occurred_at=ms
    )


def test_only_instants_are_cut() -> None:
    """An id may look like an instant; its digits tell one event from another."""
    name = "2026-11-22T10:15:02.1209999999Z"
    event = read("logins", {**LOGIN, "event_id": name, "occurred_at": name})[0].event
    assert isinstance(event, LoggedIn)
    assert (event.event_id, event.occurred_at) == (name, T_MS)


def test_a_tombstone_of_a_link_changes_nothing() -> None:
    assert INGEST.read("phone-links", None, ARRIVED) == []


def test_a_clock_may_be_fast_by_the_bound_and_no_more() -> None:
    record = json.dumps(LOGIN).encode()
    assert INGEST.read("logins", record, T_MS - 300_000)
    with pytest.raises(InvalidEvent) as caught:
        INGEST.read("logins", record, T_MS - 300_001)
    assert (caught.value.reason, caught.value.detail) == ("future", "occurred_at is more than 300 s after the arrival")
    assert refused("telephony", {**STATUS, "since": "2027-01-01T00:00:00Z"})[0] == "future"
    late_code = read("otp-dispatches", {**DISPATCH, "expires_at": "9999-12-31T23:59:59Z"})[0].event
    assert isinstance(late_code, OtpDispatched)
    assert late_code.expires_at == 253_402_300_799_000


def test_a_size_bound_holds() -> None:
    small = Ingest(Policy(), NAMES, max_bytes=300)
    with pytest.raises(InvalidEvent) as caught:
        small.read("logins", b" " * 301, ARRIVED)
    assert (caught.value.reason, caught.value.detail) == ("too_large", "301 bytes, at most 300 are read")


@pytest.mark.parametrize(
    ("feed", "value", "reason", "detail"),
    [
        ("logins", b"", "not_json", "not a JSON object"),
        ("logins", b"null", "not_json", "not a JSON object"),
        ("logins", b"[1]", "not_json", "not a JSON object"),
        ("logins", json.dumps(LOGIN).encode() + b" x", "not_json", "not a JSON object"),
        ("logins", b'{"a":' * 100_000, "not_json", "nested too deep"),
        ("logins", b'{"a": NaN}', "not_json", "not a JSON object"),
        ("logins", json.dumps(LOGIN).encode().replace(b"64500", b"NaN"), "not_json", "not a JSON object"),
        ("logins", json.dumps(LOGIN).encode("utf-16"), "not_utf8", "byte 0 of 582 is not UTF-8"),
        ("logins", b"\xef\xbb\xbf" + json.dumps(LOGIN).encode(), "not_json", "not a JSON object"),
        ("logins", json.dumps(LOGIN).encode().replace(b"Linux", b"Li\xffux"), "not_utf8", "byte 277 of 290 is not UTF-8"),
        ("logins", json.dumps(LOGIN).encode().replace(b"Linux", b"\\udc41"), "not_json", "not a JSON object"),
        ("logins", b'{"unknown": "\xff"}', "not_utf8", "byte 13 of 16 is not UTF-8"),
        ("logins", {**LOGIN, "outcome": "passed?"}, "invalid_field", "outcome is none of the values that the contract lists"),
        ("logins", {**LOGIN, "asn": -1}, "invalid_field", "asn is outside the range that the contract allows"),
        ("logins", {**LOGIN, "asn": 10**40}, "invalid_field", "asn is outside the range that the contract allows"),
        ("logins", {**LOGIN, "asn": 1.5}, "invalid_field", "asn has another type than the contract says"),
        ("logins", {**LOGIN, "asn": "64500"}, "invalid_field", "asn has another type than the contract says"),
        ("logins", {**LOGIN, "event_id": "a b"}, "invalid_field", "event_id does not have the form that the contract asks for"),
        ("logins", {**LOGIN, "event_id": "a\n"}, "invalid_field", "event_id does not have the form that the contract asks for"),
        ("logins", {**LOGIN, "account_id": ""}, "invalid_field", "account_id does not have the form that the contract asks for"),
        ("logins", {**LOGIN, "account_id": "a" * 65}, "invalid_field", "account_id does not have the form that the contract asks for"),
        ("logins", {**LOGIN, "user_agent": "a" * 2049}, "invalid_field", "user_agent is shorter or longer than the contract allows"),
        ("logins", {"event_id": "a"}, "invalid_field", "occurred_at is missing"),
        ("telephony", {**CALL, "type": "fax"}, "invalid_field", "type is none of the values that the contract lists"),
        ("telephony", {**CALL, "type": 5}, "invalid_field", "type has another type than the contract says"),
        ("telephony", {k: v for k, v in CALL.items() if k != "type"}, "invalid_field", "type is missing"),
        ("telephony", {**CALL, "phone": "07700900123"}, "invalid_field", "phone does not have the form that the contract asks for"),
        ("telephony", {**CALL, "peer": "1" * 65}, "invalid_field", "peer is shorter or longer than the contract allows"),
        ("logins", {**LOGIN, "occurred_at": "2026-11-22T10:15:02"}, "invalid_time", "occurred_at has no offset"),
        (
            "logins",
            {**LOGIN, "occurred_at": "22.11.2026"},
            "invalid_time",
            "occurred_at is not an RFC 3339 instant in the years 1 to 9999",
        ),
        (
            "logins",
            {**LOGIN, "occurred_at": "10000-01-01T00:00:00Z"},
            "invalid_time",
            "occurred_at is not an RFC 3339 instant in the years 1 to 9999",
        ),
        ("logins", {**LOGIN, "occurred_at": "0001-01-01T00:00:00+14:00"}, "invalid_time", "occurred_at is before 1970"),
        ("otp-dispatches", {**DISPATCH, "expires_at": "0001-01-01T00:00:00+14:00"}, "invalid_time", "expires_at is before 1970"),
        ("logins", {**LOGIN, "occurred_at": "9999-12-31T23:59:59-14:00"}, "future", "occurred_at is more than 300 s after the arrival"),
        ("logins", {**LOGIN, "occurred_at": 1_795_342_502}, "invalid_field", "occurred_at has another type than the contract says"),
        ("events", LOGIN, "unknown_topic", "not one of the input topics"),
    ],
)
def test_a_bad_record_is_refused_with_its_reason(feed: str, value: dict[str, Any] | bytes, reason: str, detail: str) -> None:
    assert refused(feed, value) == (reason, detail)


def test_no_value_is_refused() -> None:
    with pytest.raises(InvalidEvent) as caught:
        INGEST.read("logins", None, ARRIVED)
    assert caught.value.reason == "no_value"
