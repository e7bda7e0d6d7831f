"""Can any bytes at all do more to ingest than be refused, and does anything personal get past it?"""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pipeline.core.errors import REFUSALS, InvalidEvent
from pipeline.core.events import FEEDS, Snoozed
from pipeline.core.policy import Policy, Privacy
from pipeline.wire.codec import decode_event, decode_line_event, encode_event
from pipeline.wire.ingest import Addressed, Ingest
from pipeline.wire.pseudonym import Pseudonyms

ARRIVED = 1_795_342_502_520
INGEST = Ingest(Policy(), Pseudonyms.for_demo())
CLOSED = Ingest(Policy(privacy=Privacy(ip="pseudonym", device_id="drop")), Pseudonyms.for_demo())
MARK = "SECRET815264"  # stands for what must not be repeated

ids = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)
instants = st.integers(946_684_800_000_000, 1_767_225_600_000_000).map(lambda us: datetime.fromtimestamp(us / 1e6, UTC).isoformat())
phones = st.from_regex(r"\+[1-9][0-9]{9,14}", fullmatch=True)
peers = st.one_of(phones, st.text(min_size=1, max_size=64), st.from_regex(r"\+44 7700 9[0-9]{5}", fullmatch=True))
flags = st.none() | st.booleans()
countries = st.none() | st.sampled_from(["GB", "US", "FR"])
directions = st.sampled_from(["inbound", "outbound"])
vias = st.sampled_from(["network", "app"])
account: dict[str, Any] = {"event_id": ids, "occurred_at": instants, "account_id": ids}
line: dict[str, Any] = {"event_id": ids, "occurred_at": instants, "phone": phones}
source: dict[str, Any] = {"source": st.sampled_from([None, "carrier", "probe", "device_sdk", "bank_trunk"])}
place: dict[str, Any] = {
    "device_id": st.none() | ids,
    "ip": st.none() | st.ip_addresses().map(str),
    "asn": st.none() | st.integers(0, 2**32 - 1),
    "country": countries,
}
records: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "logins": st.fixed_dictionaries(
        account
        | {
            "session_id": ids,
            "outcome": st.sampled_from(["passed", "failed", "locked"]),
            "flow": st.sampled_from(["login", "password_reset"]),
        },
        optional=place | {"user_agent": st.none() | st.text(max_size=200)},
    ),
    "otp-dispatches": st.fixed_dictionaries(
        account
        | {
            "otp_id": ids,
            "channel": st.sampled_from(["sms", "voice", "push", "email", "totp"]),
            "purpose": st.sampled_from(["login", "payment"]),
            "initiated_by": st.sampled_from(["customer", "agent"]),
        },
        optional={
            "phone": st.none() | phones,
            "sender": st.none() | peers,
            "status": st.sampled_from(["sent", "failed"]),
            "expires_at": st.none() | instants,
        },
    ),
    "telephony": st.one_of(
        st.fixed_dictionaries(
            line
            | {
                "type": st.just("call"),
                "call_id": ids,
                "state": st.sampled_from(["ringing", "answered", "ended", "missed"]),
                "direction": directions,
            },
            optional=source | {"peer": st.none() | peers, "via": vias, "peer_is_bank": flags},
        ),
        st.fixed_dictionaries(line | {"type": st.just("call_status")}, optional=source | {"on_call": flags, "since": instants}),
        st.fixed_dictionaries(
            line | {"type": st.just("sms"), "direction": directions}, optional=source | {"peer": st.none() | peers, "has_code": flags}
        ),
        st.fixed_dictionaries(
            line | {"type": st.just("line"), "change": st.sampled_from(["sim_swapped", "ported"])}, optional={"country": countries}
        ),
    ),
    "otp-entries": st.fixed_dictionaries(
        account | {"otp_id": ids, "outcome": st.sampled_from(["accepted", "rejected", "expired"])},
        optional=place | {"method": st.sampled_from([None, "typed", "pasted", "autofill"])},
    ),
    "phone-links": st.fixed_dictionaries(account | {"phone": phones, "status": st.sampled_from(["linked", "unlinked"])}),
    "account-changes": st.fixed_dictionaries(account | {"change": st.sampled_from(["payee_added", "transfer"])}),
    "dispositions": st.fixed_dictionaries(
        account | {"verdict": st.sampled_from(["benign", "test"]), "source": st.sampled_from(["analyst", "customer"])},
        optional={"otp_id": st.none() | ids},
    ),
    "snoozes": st.fixed_dictionaries(
        account | {"scope": st.sampled_from(["R05", "model", "sim_swapped"]), "status": st.just("in_force"), "expires_at": instants},
        optional={"reason": st.sampled_from(["", "confirmed in branch 12345", "geprüft"]), "who": st.none() | ids},
    ),
}
valid = st.sampled_from(FEEDS).flatmap(lambda feed: st.tuples(st.just(feed), records[feed]))
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters()),
        st.sampled_from([MARK, f"{MARK} - at `$.{MARK}`", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "\udc41"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(feed: str, value: bytes | None, ingest: Ingest = INGEST) -> list[Addressed]:
    """Read, and check that what comes out can be written and read again, and that a refusal is one of ours and gives nothing away."""
    try:
        addressed = ingest.read(feed, value, ARRIVED)
    except InvalidEvent as e:
        refused = e
    else:
        return _checked(addressed)
    assert refused.reason in REFUSALS
    assert len(refused.detail) <= 100
    assert MARK not in f"{refused!r} {refused} {refused.__cause__!r} {refused.__context__!r}"
    return []


def _checked(addressed: list[Addressed]) -> list[Addressed]:
    for topic, key, event in addressed:
        decode = decode_event if topic == "events" else decode_line_event
        assert decode(encode_event(event)) == event
        assert key
    return addressed


@given(st.sampled_from([*FEEDS, "events", ""]), st.none() | st.binary(max_size=300))
@example("logins", b'{"event_id": "\\ud800"}')
@example("telephony", b'{"type": "\\ud800"}')
@example("telephony", b'{"type": {}}')
@example("logins", f'{{"event_id": "{MARK}", "x": "\xff"}}'.encode("latin-1"))
def test_any_bytes_are_read_or_refused(feed: str, value: bytes | None) -> None:
    read(feed, value)


@given(st.none() | st.binary(max_size=80) | st.from_regex(rb"[A-Za-z0-9._:-]{1,64}\|[A-Za-z0-9._:-]{1,64}", fullmatch=True))
@example(b"acct-1|R05\n")
@example(b"acct-1|R05|x")
def test_any_tombstone_of_snoozes_ends_the_one_its_key_names_or_is_refused(key: bytes | None) -> None:
    if key is None or not re.fullmatch(rb"[A-Za-z0-9._:-]{1,64}\|[A-Za-z0-9._:-]{1,64}", key):
        with pytest.raises(InvalidEvent, match="no_value"):
            INGEST.read("snoozes", None, ARRIVED, key)
        return
    (ended,) = INGEST.read("snoozes", None, ARRIVED, key)
    assert isinstance(ended.event, Snoozed)
    assert (ended.topic, ended.key) == ("events", ended.event.account_id)
    assert f"{ended.event.account_id}|{ended.event.scope}".encode() == key
    assert (ended.event.status, ended.event.occurred_at, ended.event.arrived_at) == ("ended", ARRIVED, ARRIVED)
    assert [ended] == INGEST.read("snoozes", None, ARRIVED, key)


@given(st.sampled_from(FEEDS), json_values)
def test_any_json_is_read_or_refused(feed: str, value: object) -> None:
    read(feed, json.dumps(value).encode())


@given(valid)
def test_what_the_contract_allows_is_read(made: tuple[str, dict[str, Any]]) -> None:
    feed, record = made
    addressed = INGEST.read(feed, json.dumps(record).encode(), ARRIVED)
    assert addressed
    assert addressed == INGEST.read(feed, json.dumps(record, ensure_ascii=False).encode(), ARRIVED)
    read(feed, json.dumps(record).encode())


@given(valid, st.data())
def test_a_record_with_one_field_spoilt_is_read_or_refused(made: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    feed, record = made
    field = data.draw(st.sampled_from([*record, MARK]))
    read(feed, json.dumps({**record, field: data.draw(json_values)}).encode())
    read(feed, json.dumps({name: value for name, value in record.items() if name != field}).encode())


@given(valid, st.integers(0), st.integers(0, 4), st.binary(max_size=4))
def test_a_record_with_some_bytes_spoilt_is_read_or_refused(made: tuple[str, dict[str, Any]], at: int, cut: int, put: bytes) -> None:
    feed, record = made
    value = json.dumps(record, ensure_ascii=False).encode()
    at %= len(value)
    read(feed, value[:at] + put + value[at + cut :])


@given(valid)
def test_no_number_name_or_device_gets_past(made: tuple[str, dict[str, Any]]) -> None:
    """Sought in the event with its tokens and ids taken out: those may hold any digits."""
    feed, record = made
    for field in ("event_id", "account_id", "session_id", "otp_id", "call_id"):
        if field in record:
            record[field] = f"{field}:x"
    secrets = [record.get(field) for field in ("phone", "peer", "sender", "device_id", "ip", "user_agent")]
    addressed = read(feed, json.dumps(record).encode(), CLOSED)
    for topic, key, event in addressed:
        said = re.sub(r"k0:[A-Za-z0-9_-]{22}", "", f"{topic} {key} {encode_event(event).decode()}")
        said = re.sub(r'"(user_agent|occurred_at|arrived_at|asn|since|expires_at)":("[A-Za-z0-9_-]{11}"|[0-9]+)', "", said)
        for secret in secrets:
            if secret is not None and len(secret.strip()) > 6:
                assert secret.strip().lstrip("+") not in said


@pytest.mark.parametrize("feed", FEEDS)
@given(data=st.data())
def test_the_same_bytes_give_the_same_events(feed: str, data: st.DataObject) -> None:
    value = json.dumps(data.draw(records[feed])).encode()
    again = Ingest(Policy(), Pseudonyms.for_demo()).read(feed, value, ARRIVED)
    assume(again)
    assert [encode_event(a.event) for a in again] == [encode_event(a.event) for a in INGEST.read(feed, value, ARRIVED)]
