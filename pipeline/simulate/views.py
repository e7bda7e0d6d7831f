"""What does the bank get to see of the world: facts become records of the input topics, by the feeds that it has.

``full``: every state of every call from the carriers that take part, messages, changes of the line. ``probe``: nothing but the
answers to questions asked when a code is sent, a little later and when it is entered. ``app``: call states that the bank's own app
notices on the phone, without numbers. ``no-telephony``: none of it. The other topics are the same under all four.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from random import Random
from typing import Any, Literal, NamedTuple

from pipeline.core.events import Feed
from pipeline.simulate.chance import DAY, MINUTE
from pipeline.simulate.facts import Call, Changed, Dispatch, Disposed, Entry, Fact, LineChanged, Link, Login, Text
from pipeline.simulate.people import Line
from pipeline.simulate.scene import Diary

View = Literal["full", "no-telephony", "probe", "app"]
Body = dict[str, Any]


class Row(NamedTuple):
    """One record to be: ``known_at`` is when its producer could write it, ms."""

    topic: Feed
    key: str
    occurred_at: int
    known_at: int
    body: Body


MINUTES = tuple(f"{m // 60:02d}:{m % 60:02d}:" for m in range(24 * 60))


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86400, UTC).strftime("%Y-%m-%dT")


@lru_cache(maxsize=64)
def _zone(offset_min: int) -> str:
    return "Z" if offset_min == 0 else f"{'+' if offset_min > 0 else '-'}{abs(offset_min) // 60:02d}:{abs(offset_min) % 60:02d}"


def rfc3339(ms: int, offset_min: int = 0) -> str:
    """Format an instant with milliseconds and the producer's offset."""
    day, rest = divmod(ms + offset_min * MINUTE, DAY)
    minute, rest = divmod(rest, MINUTE)
    return f"{_date(day)}{MINUTES[minute]}{rest // 1000:02d}.{rest % 1000:03d}{_zone(offset_min)}"


CARRIER_OFFSET = 60  # carriers and the bank's data centre keep different clocks, as they do


def login(f: Login) -> Row:
    n = f.network
    body: Body = {
        "event_id": f.event_id, "occurred_at": rfc3339(f.at), "account_id": f.account_id, "session_id": f.session_id, "outcome": f.outcome,
        "flow": f.flow, "device_id": f.device.device_id, "ip": n.ip, "asn": n.asn, "asn_kind": n.kind, "country": n.country,
        "user_agent": f.device.user_agent,
    }  # fmt: skip
    return Row("logins", f.account_id, f.at, f.at, body)


def dispatch(f: Dispatch) -> Row:
    body: Body = {
        "event_id": f.event_id, "occurred_at": rfc3339(f.at), "account_id": f.account_id, "otp_id": f.otp_id, "session_id": f.session_id,
        "phone": f.line.number if f.line is not None else None, "sender": f.sender, "channel": f.channel, "purpose": f.purpose,
        "initiated_by": f.initiated_by, "status": f.status, "expires_at": rfc3339(f.expires_at) if f.expires_at is not None else None,
    }  # fmt: skip
    return Row("otp-dispatches", f.account_id, f.at, f.at, body)


def entry(f: Entry) -> Row:
    n = f.network
    body: Body = {
        "event_id": f.event_id, "occurred_at": rfc3339(f.at), "account_id": f.account_id, "otp_id": f.otp_id, "session_id": f.session_id,
        "outcome": f.outcome, "method": f.method, "device_id": f.device.device_id, "ip": n.ip, "asn": n.asn, "country": n.country,
    }  # fmt: skip
    return Row("otp-entries", f.account_id, f.at, f.at, body)


def changed(f: Changed) -> Row:
    body: Body = {
        "event_id": f.event_id, "occurred_at": rfc3339(f.at), "account_id": f.account_id, "session_id": f.session_id, "change": f.change,
    }  # fmt: skip
    return Row("account-changes", f.account_id, f.at, f.at, body)


def disposed(f: Disposed) -> Row:
    body: Body = {
        "event_id": f.event_id, "occurred_at": rfc3339(f.at), "account_id": f.account_id, "otp_id": f.otp_id, "session_id": f.session_id,
        "finding_uid": None, "verdict": f.verdict, "source": f.source,
    }  # fmt: skip
    return Row("dispositions", f.account_id, f.at, f.at, body)


def link(f: Link) -> Row:
    number = f.line.number
    body: Body = {"event_id": f.event_id, "occurred_at": rfc3339(f.at), "phone": number, "account_id": f.account_id, "status": "linked"}
    return Row("phone-links", f"{number}|{f.account_id}", f.at, f.told_at, body)


def _call_states(f: Call, source: str, *, numbers: bool) -> Iterator[Row]:
    """Tell each state as it happens. The end repeats nothing of what the beginning said."""
    number, peer = f.line.number, f.peer
    about: Body = {
        "phone": number,
        "source": source,
        "call_id": f.call_id,
        "direction": f.direction,
        "via": "app" if f.in_app else "network",
    }
    if numbers:
        about |= {
            "peer": peer.number,
            "attestation": peer.attestation,
            "peer_line": peer.line,
            "peer_is_contact": peer.is_contact if f.line.says_contacts and not peer.is_bank else None,
            # the bank's trunk knows its own calls; of its number on other calls it is asked in half of the cases
            "peer_is_bank": True if peer.is_bank else False if peer.poses_as_bank and f.call_id[-1] in "02468ace" else None,
        }
    tail: Body = {"phone": number, "source": source, "call_id": f.call_id, "direction": f.direction}
    if f.line.says_ringing:
        yield _state(f, "ringing", f.at, about)
    if f.answered_at is not None:
        yield _state(f, "answered", f.answered_at, about)
        yield _state(f, "ended", f.ended_at, tail)
    else:
        yield _state(f, "missed", f.ended_at, tail if f.line.says_ringing else about)


def _state(f: Call, state: str, at: int, about: Body) -> Row:
    body = {"event_id": f"{f.event_id}.{state[0]}", "occurred_at": rfc3339(at, CARRIER_OFFSET), "type": "call", "state": state, **about}
    return Row("telephony", f.line.number, at, at, body)


def _text(f: Text) -> Row:
    line = f.line
    body: Body = {
        "event_id": f.event_id, "occurred_at": rfc3339(f.at, CARRIER_OFFSET), "type": "sms", "phone": line.number, "source": "carrier",
        "direction": f.direction, "peer": f.peer, "peer_is_contact": f.is_contact if line.says_contacts else None,
        "has_code": f.has_code if line.says_codes else None, "has_link": f.has_link if line.says_codes else None,
    }  # fmt: skip
    return Row("telephony", line.number, f.at, f.at, body)


def _line_changed(f: LineChanged, source: str, told_at: int) -> Row:
    body: Body = {
        "event_id": f.event_id, "occurred_at": rfc3339(f.at, CARRIER_OFFSET), "type": "line", "phone": f.line.number, "source": source,
        "change": f.change, "country": f.country,
    }  # fmt: skip
    return Row("telephony", f.line.number, f.at, told_at, body)


def full(diary: Diary, rng: Random, coverage: float) -> Iterator[Row]:
    """Tell what the carriers tell; of lines that they do not cover, the bank knows its own calls."""
    for f in diary.facts:
        match f:
            case Call():
                if f.in_app:
                    if f.line.has_app and f.phone_notices:
                        yield from _call_states(f, "device_sdk", numbers=False)
                elif f.line.coverage_rank < coverage:
                    yield from _call_states(f, "carrier", numbers=True)
                elif f.peer.is_bank:
                    yield from _call_states(f, "bank_trunk", numbers=True)
            case Text() if f.line.coverage_rank < coverage:
                yield _text(f)
            case LineChanged() if f.line.coverage_rank < coverage:
                yield _line_changed(f, "carrier", f.told_at)
            case _:
                continue


def app(diary: Diary, rng: Random, coverage: float) -> Iterator[Row]:
    for f in diary.facts:
        if isinstance(f, Call) and f.line.has_app and (f.phone_notices or not f.in_app):
            yield from _call_states(f, "device_sdk", numbers=False)


def probe(diary: Diary, rng: Random, coverage: float) -> Iterator[Row]:
    """Ask at each dispatch, again some seconds later, and at each entry; at a dispatch also for changes of the line."""
    entered = sorted(f.at for f in diary.facts if isinstance(f, Entry))
    untold = [f for f in diary.facts if isinstance(f, LineChanged)]
    asked = sorted((f for f in diary.facts if isinstance(f, Dispatch | Entry) and f.line is not None), key=lambda f: f.at)
    for f in asked:
        assert f.line is not None
        if isinstance(f, Entry):
            yield _answer(diary, f.line, f.at - 40, f"{f.event_id}.q", rng)
        elif f.status == "sent":
            at = f.at + 150 + int(rng.random() * 600)
            yield _answer(diary, f.line, at, f"{f.event_id}.q", rng)
            again = at + 8000 + int(rng.random() * 12_000)
            if not any(at < e < again for e in entered):
                yield _answer(diary, f.line, again, f"{f.event_id}.qq", rng)
            for change in [u for u in untold if u.line is f.line and u.at < at]:
                untold.remove(change)
                yield _line_changed(change, "probe", at)


def _talking(call: Call, at: int) -> bool:
    return not call.in_app and call.answered_at is not None and call.answered_at <= at < call.ended_at


def _answer(diary: Diary, line: Line, at: int, event_id: str, rng: Random) -> Row:
    live = next((c for c in diary.calls if c.line is line and _talking(c, at)), None)
    told = rng.random() < 0.95  # the carrier's interface fails now and then
    body: Body = {
        "event_id": event_id, "occurred_at": rfc3339(at, CARRIER_OFFSET), "type": "call_status", "phone": line.number, "source": "probe",
        "on_call": live is not None if told else None,
    }  # fmt: skip
    if live is not None and told:
        assert live.answered_at is not None
        body |= {
            "since": rfc3339(live.answered_at, CARRIER_OFFSET) if line.says_direction and line.says_ringing else None,
            "direction": live.direction if line.says_direction else None,
            "peer_is_bank": True if live.peer.is_bank else None,
            "via": "network",
        }
    return Row("telephony", line.number, at, at, body)


def _nothing(diary: Diary, rng: Random, coverage: float) -> Iterator[Row]:
    return iter(())


TELEPHONY: dict[View, Callable[[Diary, Random, float], Iterator[Row]]] = {
    "full": full,
    "no-telephony": _nothing,
    "probe": probe,
    "app": app,
}
BANK: dict[type[Fact], Callable[[Any], Row]] = {
    Login: login,
    Dispatch: dispatch,
    Entry: entry,
    Changed: changed,
    Disposed: disposed,
    Link: link,
}


def bank_rows(diary: Diary) -> Iterator[Row]:
    """Turn what happens at the bank itself into records."""
    for f in diary.facts:
        make = BANK.get(type(f))
        if make is not None:
            yield make(f)
