"""Which calls were there, and was the line busy? Joins the states of each call, and answers about the line, into calls.

Records of the same call fill each other: a later state may say what an earlier one left open.
"""

from collections.abc import Iterable

import msgspec

from pipeline.core.events import (
    Attestation,
    CallChanged,
    Direction,
    LineAsked,
    Ms,
    OtpDispatched,
    PeerLine,
    Via,
)
from pipeline.core.policy import Windows
from pipeline.core.timeline import RecentEvent

NUMBERLESS_SOURCES = ("probe", "device_sdk")  # they cannot see numbers: a missing peer means "not known", never "withheld"


class CallSeen(msgspec.Struct, gc=False):
    """One call, joined. Instants in ms; ``asked``: known only from answers about the line."""

    line: str
    call_id: str
    started: Ms
    direction: Direction | None
    answered: Ms | None = None
    ended: Ms | None = None
    missed: bool = False
    asked: bool = False
    source: str | None = None
    peer: tuple[str, ...] = ()
    peer_abroad: bool | None = None
    attestation: Attestation | None = None
    peer_line: PeerLine | None = None
    is_contact: bool | None = None
    is_bank: bool | None = None
    via: Via | None = None
    delivery: bool = False  # the code itself was told in this call
    event_ids: list[str] = []
    events: list[RecentEvent] = []

    @property
    def withheld(self) -> bool | None:
        """The number was suppressed; None when the source cannot see numbers."""
        if self.peer:
            return False
        return None if self.asked or self.source in NUMBERLESS_SOURCES else True

    def live_at(self, at: Ms, windows: Windows) -> bool:
        """Whether somebody was talking at that moment."""
        if self.answered is None or self.answered > at:
            return False
        return at < self.end(windows)

    def end(self, windows: Windows) -> Ms:
        """When the call ended, or the latest it can have ended (ms)."""
        if self.ended is not None:
            return self.ended
        return (self.answered if self.answered is not None else self.started) + 1000 * windows.call_live_s


def join_calls(events: Iterable[RecentEvent], windows: Windows) -> list[CallSeen]:
    """Join call states and answers about the line, given in order, into calls sorted by start."""
    calls: dict[tuple[str, str], CallSeen] = {}
    asked: list[LineAsked] = []
    for event in events:
        if type(event) is LineAsked:
            asked.append(event)
            continue
        if type(event) is not CallChanged:
            continue
        key = (event.line, event.call_id)
        call = calls.get(key)
        at = event.occurred_at
        if call is None:
            call = calls[key] = CallSeen(event.line, event.call_id, at, event.direction, source=event.source)
        call.events.append(event)
        if event.state == "answered":
            call.answered = at if call.answered is None else min(call.answered, at)
        elif event.state == "ended":
            call.ended = at if call.ended is None else max(call.ended, at)
            if call.answered is None:
                call.answered = call.started  # `ended` follows `answered` only; that record is still to come or lost
        elif event.state == "missed":
            call.missed = True
        if event.peer:
            call.peer = event.peer
        if event.peer_abroad is not None:
            call.peer_abroad = event.peer_abroad
        if event.attestation is not None:
            call.attestation = event.attestation
        if event.peer_line is not None:
            call.peer_line = event.peer_line
        if event.peer_is_contact is not None:
            call.is_contact = event.peer_is_contact
        if event.peer_is_bank is not None:
            call.is_bank = event.peer_is_bank
        call.via = "app" if event.via == "app" else call.via or "network"
    if asked:
        _join_answers(calls, asked, windows)
    return sorted(calls.values(), key=lambda c: (c.started, c.line, c.call_id))


def _join_answers(calls: dict[tuple[str, str], CallSeen], asked: list[LineAsked], windows: Windows) -> None:
    """Answers "on a call" become a call of their own, unless the call itself was seen; they fill what it left open."""
    running: dict[str, CallSeen] = {}
    for answer in asked:
        at = answer.occurred_at
        if answer.on_call is None:
            continue
        seen = next((c for c in calls.values() if not c.asked and c.line == answer.line and c.live_at(at, windows)), None)
        if not answer.on_call:
            ended = running.pop(answer.line, None)
            if ended is not None:
                ended.ended = at
                ended.events.append(answer)
            continue
        call = seen or running.get(answer.line)
        if call is None:
            since = answer.since if answer.since is not None else at
            call = CallSeen(
                answer.line, f"asked:{answer.event_id}", since, answer.direction, answered=since, asked=True, source=answer.source
            )
            calls[(answer.line, call.call_id)] = running[answer.line] = call
        elif answer.since is not None and call.asked:
            call.started = call.answered = min(call.started, answer.since)
        call.events.append(answer)
        call.direction = call.direction or answer.direction
        call.is_contact = call.is_contact if answer.peer_is_contact is None else answer.peer_is_contact
        call.is_bank = call.is_bank if answer.peer_is_bank is None else answer.peer_is_bank
        call.via = call.via or answer.via


def mark_deliveries(calls: list[CallSeen], dispatches: Iterable[OtpDispatched], windows: Windows) -> None:
    """Recognise the calls that told the code themselves: by sender, or by the institution's trunk, or by being first in time (B17)."""
    for dispatch in dispatches:
        if dispatch.channel != "voice":
            continue
        start, stop = dispatch.occurred_at, dispatch.occurred_at + 1000 * windows.delivery_s
        for call in calls:
            if call.delivery or call.direction == "outbound" or (dispatch.line is not None and call.line != dispatch.line):
                continue
            if not start - 2000 <= call.started <= stop:  # two seconds for clocks that differ
                continue
            if call.is_bank is False:
                continue
            if dispatch.sender and call.withheld is not None and not set(dispatch.sender) & set(call.peer):
                continue  # where the source sees no numbers, channel and time have to do
            call.delivery = True
            break
