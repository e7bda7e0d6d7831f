"""Which accounts does a phone line concern? One partition of ``lines``, folded record by record.

Per line it keeps the accounts, the calls and messages of the last half hour (a call that came before the link was known is
delivered when the link appears) and the last line changes of each kind. What it writes is a function of the line's records; one that is
read again leads to nothing, also where accounts were linked meanwhile: they were told when they were.
"""

import hashlib
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Literal

import msgspec

from pipeline.core.beats import Clock, ClockState
from pipeline.core.errors import UnsupportedState
from pipeline.core.events import (
    AccountEvent,
    Beat,
    CallChanged,
    LineAsked,
    LineChanged,
    LineEvent,
    LineLinked,
    LinkChanged,
    MessageSeen,
    Ms,
    TelephonyEvent,
)
from pipeline.core.policy import Policy
from pipeline.core.profile import FACTS_PER_CHANGE
from pipeline.core.store import Encoded, InMemory, Store
from pipeline.core.versions import read_versioned

STATE_VERSION = 2  # 1: the last change of each kind only
DAY_MS = 86_400_000
_event_id = attrgetter("event_id")
_order = attrgetter("occurred_at", "event_id")


class Link(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One account of a line: what was last declared, by (occurred_at, event_id), and the last code sent to the line; 0 and "" for never."""

    occurred_at: Ms = 0
    event_id: str = ""
    declared: Literal["linked", "unlinked"] | None = None
    dispatched_at: Ms = 0

    def merged(self, event: LinkChanged) -> "Link":
        """The link after an event, in whatever order events come."""
        if event.status == "learned":
            return msgspec.structs.replace(self, dispatched_at=max(self.dispatched_at, event.occurred_at))
        if (event.occurred_at, event.event_id) <= (self.occurred_at, self.event_id):
            return self
        return Link(event.occurred_at, event.event_id, event.status, self.dispatched_at)

    @property
    def heard_at(self) -> Ms:
        """When the account was last heard of on this line (ms)."""
        return max(self.occurred_at, self.dispatched_at)

    def status(self, learned_from: Ms) -> Literal["linked", "unlinked", "learned"]:
        """A declared link stands; a code sent to the line since its end, and not too long ago, teaches one too."""
        if self.declared == "linked":
            return "linked"
        return "learned" if self.dispatched_at > self.occurred_at and self.dispatched_at >= learned_from else "unlinked"


_NEVER = Link()


class LineState(msgspec.Struct, array_like=True, gc=False):
    """All that is kept of one phone line."""

    version: int = STATE_VERSION
    offset: int = -1
    links: dict[str, Link] = {}
    recent: tuple[CallChanged | LineAsked | MessageSeen, ...] = ()
    changes: dict[str, tuple[LineChanged, ...]] = {}  # the last few of each kind, as a profile keeps them, by (occurred_at, event_id)


class _LineState1(msgspec.Struct, array_like=True, gc=False):
    """A LineState as version 1 wrote it down."""

    version: int
    offset: int
    links: dict[str, Link]
    recent: tuple[CallChanged | LineAsked | MessageSeen, ...]
    changes: dict[str, LineChanged]


class RouterState(msgspec.Struct, array_like=True, gc=False):
    """The partition's own record: up to which offset all line states are durable, and what is known of time."""

    offset: int = -1
    clock: ClockState | None = None


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The beginning of an encoded LineState of any version."""

    version: int


_decode_line = msgspec.msgpack.Decoder(LineState).decode
_decode_line_1 = msgspec.msgpack.Decoder(_LineState1).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_encode = msgspec.msgpack.Encoder().encode


def _check(raw: bytes) -> int:
    return read_versioned(_decode_head, raw, STATE_VERSION, "route state", "what is kept of a line is not its state").version


def _read_line(raw: bytes) -> LineState:
    version = _check(raw)
    try:
        if version == 1:
            old = _decode_line_1(raw)
            return LineState(STATE_VERSION, old.offset, old.links, old.recent, {kind: (change,) for kind, change in old.changes.items()})
        return _decode_line(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise UnsupportedState(f"route state is damaged: {type(e).__name__}") from None


class Router:
    """Fold the records of one ``lines`` partition: learn links, address telephony to accounts. Same protocol as Partition."""

    def __init__(self, policy: Policy, cached: int = 30_000, encoded: Callable[[], Encoded] = InMemory) -> None:
        """``cached``: how many decoded lines are kept beside the encoded ones; ``encoded``: where those are."""
        self._policy = policy
        self._lines: Store[LineState] = Store(_encode, _read_line, cached, encoded)
        self._clock = Clock(policy)
        self._offset = -1
        self._settled = -1
        self.overfull = 0  # events not fanned out because the line serves too many accounts

    def fold(self, offset: int, event: LineEvent) -> list[AccountEvent]:
        """Fold one record; returns the events to write, each with its account_id (the key in ``events``)."""
        if offset <= self._settled:
            return []
        self._offset = offset
        if isinstance(event, Beat):
            self._clock.advance(event)
            return []
        old = self._lines.get(event.line) or LineState()
        if offset <= old.offset:
            return []
        new = LineState(STATE_VERSION, offset, old.links, old.recent, old.changes)
        out = self._link(new, event) if isinstance(event, LinkChanged) else self._address(new, event)
        self._lines.put(event.line, new)
        return out

    @property
    def routed_to(self) -> Ms:
        """All that arrived up to here and travels through this partition has been folded (ms); 0 while that is not known."""
        return self._clock.now

    def _learned_from(self, now: Ms) -> Ms:
        return now - DAY_MS * self._policy.windows.link_learned_days

    def _active(self, links: dict[str, Link], learned_from: Ms) -> list[str] | None:
        """The accounts of a line, in order; None, and counted, where there are too many for what happens on it to be fanned out."""
        active: list[str] = []
        for account, link in links.items():
            if link.status(learned_from) != "unlinked":
                active.append(account)
                if len(active) > self._policy.bounds.line_accounts:
                    self.overfull += 1
                    return None
        return sorted(active)

    def _address(self, state: LineState, event: TelephonyEvent) -> list[AccountEvent]:
        """Tell the accounts of the line what is new of it: what is known has been told, also to those linked since."""
        if isinstance(event, LineChanged):
            kept = _with_change(state.changes.get(event.change, ()), event)
            if kept is None:
                return []
            state.changes = {**state.changes, event.change: kept}
        elif event.event_id in map(_event_id, state.recent):
            if event in state.recent:
                return []
        else:
            since = event.arrived_at - 1000 * self._policy.windows.route_recent_s
            state.recent = (*[e for e in state.recent if e.arrived_at >= since], event)[-self._policy.bounds.recent_events :]
        accounts = self._active(state.links, self._learned_from(event.arrived_at))
        if accounts is None:
            return []
        return [msgspec.structs.replace(event, account_id=account) for account in accounts]

    def _link(self, state: LineState, event: LinkChanged) -> list[AccountEvent]:
        account = event.account_id
        learned_from = self._learned_from(event.arrived_at)
        links = state.links
        have = links.get(account, _NEVER)
        link = have.merged(event)
        state.links = links = {**links, account: link}
        if len(links) > self._policy.bounds.line_links:  # the one not heard of for longest goes; ties by id, so that no order shows
            del links[min(links, key=lambda who: (links[who].heard_at, who))]
        before = have.status(learned_from)
        if before == link.status(learned_from) or account not in links:
            return []
        after = self._active(links, learned_from)
        if after is None:
            return []
        out: list[AccountEvent] = []
        for who in sorted({*after, account}):  # the others are told that there is one more, or one less
            told = state.links[who]
            status = told.status(learned_from)
            out.append(
                LineLinked(
                    event_id=_derived_id(event, who),
                    account_id=who,
                    occurred_at=told.dispatched_at if status == "learned" else told.occurred_at,
                    arrived_at=event.arrived_at,
                    line=event.line,
                    status=status,
                    accounts=len(after),
                )
            )
        if before == "unlinked":
            since = event.arrived_at - 1000 * self._policy.windows.route_recent_s
            changed_since = event.arrived_at - DAY_MS * self._policy.windows.route_line_days
            known: list[TelephonyEvent] = [c for _, kept in sorted(state.changes.items()) for c in kept if c.occurred_at >= changed_since]
            known += [e for e in state.recent if e.arrived_at >= since]
            out += [msgspec.structs.replace(e, account_id=account) for e in known]
        return out

    def changes(self) -> dict[str, bytes]:
        """Encoded state of every line that changed since the last call."""
        return self._lines.changes()

    def clock(self) -> bytes:
        """Encoded partition state (offset, watermarks). Valid to persist only after all ``changes()`` up to here are durable."""
        self._clock.state.offset = self._offset
        return _encode(RouterState(self._offset, self._clock.state))

    def restore(self, line: str, state: bytes) -> None:
        """Take a line's state back. Raises UnsupportedState for a version newer than this code."""
        _check(state)
        self._lines.restore(line, state)

    def forget(self, line: str) -> None:
        """Forget a line: its state was taken away."""
        self._lines.remove(line)

    def encoded(self, line: str) -> bytes | None:
        """Encoded state of a line; None of one that is not known."""
        return self._lines.encoded(line)

    def resize(self, cached: int) -> None:
        """Keep at most so many decoded lines from now on."""
        self._lines.cached = cached

    def restore_clock(self, state: bytes) -> None:
        """Take the partition's state back. Raises UnsupportedState for what is no such state."""
        try:
            known = msgspec.msgpack.decode(state, type=RouterState)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise UnsupportedState(f"the clock of a partition is damaged: {type(e).__name__}") from None
        self._clock = Clock(self._policy, known.clock)
        self._settled = self._offset = known.offset

    def accounts(self) -> Iterator[str]:
        """All lines held."""
        return self._lines.keys()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def size(self) -> int:
        """Bytes of encoded state held."""
        return self._lines.bytes

    def drop(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._clock = Clock(self._policy)
        self._offset = self._settled = -1


def _with_change(kept: tuple[LineChanged, ...], event: LineChanged) -> tuple[LineChanged, ...] | None:
    """The changes of one kind with one more; None when it is known, or older than all of as many as are kept."""
    if any(known.event_id == event.event_id for known in kept):
        return None
    merged = tuple(sorted((*kept, event), key=_order)[-FACTS_PER_CHANGE:])
    return None if merged == kept else merged


def _derived_id(event: LinkChanged, account: str) -> str:
    digest = hashlib.blake2b(f"{event.event_id}|{event.line}|{account}".encode(), digest_size=12).hexdigest()
    return f"link:{digest}"
