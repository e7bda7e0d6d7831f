"""What would the bank lose with a feed? The same log with something taken away, record by record, before it is replayed.

Each view answers for a bank that has less than the one whose log it is. Views work on raw records and hold little: memory does not grow
with the log.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush, merge
from operator import attrgetter
from pathlib import Path

import orjson
from msgspec.structs import replace

from pipeline.core.events import Ms
from pipeline.wire.instant import rfc3339
from pipeline.wire.log import LogRecord, merge_logs

HOUR_MS = 3_600_000
ANSWERS_AFTER_MS = (1_000, 20_000)  # a carrier is asked when a code is sent and again a little later, and when it is entered
LONGEST_CALL_MS = HOUR_MS  # without an end a call counts as live for so long (contract.md)
CODE_MS = HOUR_MS  # how long the phone of a code is remembered
_arrival = attrgetter("ts")

View = Callable[[Sequence[Path]], Iterator[LogRecord]]


def everything(logs: Sequence[Path]) -> Iterator[LogRecord]:
    """The log as it is."""
    return merge_logs(logs)


def without_telephony(logs: Sequence[Path]) -> Iterator[LogRecord]:
    """No calls, no messages, no changes of lines."""
    return (record for record in merge_logs(logs) if record.topic != "telephony")


def without_line_state(logs: Sequence[Path]) -> Iterator[LogRecord]:
    """Calls and messages, but nobody tells of a swapped SIM, a ported number or forwarding."""
    return (record for record in merge_logs(logs) if record.topic != "telephony" or _body(record).get("type") != "line")


def without_devices(logs: Sequence[Path]) -> Iterator[LogRecord]:
    """Logins and entries that do not say which device or browser they come from."""
    for record in merge_logs(logs):
        if record.topic in ("logins", "otp-entries"):
            body = _body(record)
            yield _with(record, {**body, "device_id": None, "user_agent": None}) if body else record
        else:
            yield record


def calls_late(logs: Sequence[Path]) -> Iterator[LogRecord]:
    """Everything about phones arrives an hour later than it did."""
    telephony = (replace(r, ts=r.ts + HOUR_MS) for r in merge_logs(logs) if r.topic == "telephony")
    return merge(without_telephony(logs), telephony, key=_arrival)


def app_only(logs: Sequence[Path]) -> Iterator[LogRecord]:
    """The bank's own app on the phone sees that there is a call, and no number; no messages, no changes of the line."""
    hidden = dict.fromkeys(("peer", "attestation", "peer_line", "peer_is_contact", "peer_is_bank"))
    for record in merge_logs(logs):
        if record.topic != "telephony":
            yield record
            continue
        body = _body(record)
        if body.get("type") == "call":
            yield _with(record, {**body, **hidden, "source": "device_sdk"})


def probe_only(logs: Sequence[Path]) -> Iterator[LogRecord]:
    """Nothing but a carrier's answers: is the line on a call, when a code is sent, a little later, and when it is entered?"""
    return _Probe().answers(merge_logs(logs))


VIEWS: dict[str, View] = {
    "all feeds": everything,
    "no telephony": without_telephony,
    "probe answers only": probe_only,
    "app call state only": app_only,
    "no line state": without_line_state,
    "no device": without_devices,
    "calls an hour late": calls_late,
}


class _Probe:
    """Knows which line is on a call, and to which line a code went, as far as an answer needs it."""

    def __init__(self) -> None:
        self._live: dict[str, tuple[str, Ms]] = {}  # line -> the call on it, and since when
        self._codes: dict[str, tuple[str, Ms]] = {}  # account and challenge -> its line, and when it was sent
        self._due: list[tuple[Ms, str]] = []
        self._asked = 0

    def answers(self, records: Iterator[LogRecord]) -> Iterator[LogRecord]:
        for record in records:
            while self._due and self._due[0][0] <= record.ts:
                yield self._answer(*heappop(self._due))
            if record.topic == "telephony":
                self._hear(_body(record), record.ts)
                continue
            yield record
            if record.topic == "otp-dispatches":
                self._sent(_body(record), record.ts)
            elif record.topic == "otp-entries":
                body = _body(record)
                line, _ = self._codes.get(_challenge(body), ("", 0))
                if line:
                    yield self._answer(record.ts, line)
        while self._due:
            yield self._answer(*heappop(self._due))

    def _hear(self, body: dict[str, object], at: Ms) -> None:
        if body.get("type") != "call":
            return
        line, call = str(body.get("phone")), str(body.get("call_id"))
        if body.get("state") == "answered":
            self._live[line] = (call, at)
        elif body.get("state") == "ended" and self._live.get(line, ("", 0))[0] == call:
            del self._live[line]

    def _sent(self, body: dict[str, object], at: Ms) -> None:
        line = body.get("phone")
        if not isinstance(line, str) or body.get("status", "sent") != "sent":
            return
        self._codes[_challenge(body)] = (line, at)
        for name in list(self._codes):  # oldest first
            if self._codes[name][1] >= at - CODE_MS:
                break
            del self._codes[name]
        for after in ANSWERS_AFTER_MS:
            heappush(self._due, (at + after, line))

    def _answer(self, at: Ms, line: str) -> LogRecord:
        _, since = self._live.get(line, ("", 0))
        on_call = since > at - LONGEST_CALL_MS
        self._asked += 1
        body = {
            "event_id": f"probe-{self._asked}",
            "occurred_at": rfc3339(at),
            "type": "call_status",
            "phone": line,
            "source": "probe",
            "on_call": on_call,
            "since": rfc3339(since) if on_call else None,
        }
        return LogRecord("telephony", 0, self._asked, at, line.encode(), orjson.dumps(body))


def _challenge(body: dict[str, object]) -> str:
    return f"{body.get('account_id')}|{body.get('otp_id')}"


def _body(record: LogRecord) -> dict[str, object]:
    """The record's object; empty for what is none (it becomes a dead letter as in every view)."""
    try:
        body = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _with(record: LogRecord, body: dict[str, object]) -> LogRecord:
    return replace(record, value=orjson.dumps(body))
