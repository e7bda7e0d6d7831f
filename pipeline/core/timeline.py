"""What is kept of one account? The sealed profile, the set of recent events, and what was said about each open challenge."""

from bisect import bisect_left

import msgspec

from pipeline.core.errors import UnsupportedState
from pipeline.core.events import (
    AccountChanged,
    CallChanged,
    LineAsked,
    LoggedIn,
    MessageSeen,
    Ms,
    OtpDispatched,
    OtpEntered,
)
from pipeline.core.outcome import Finding, Level
from pipeline.core.profile import Profile

STATE_VERSION = 1
RecentEvent = LoggedIn | OtpDispatched | CallChanged | LineAsked | MessageSeen | OtpEntered | AccountChanged


class Track(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An open challenge: when it is over, and what has been said about it so far.

    ``expires_at``: the code's end (ms); ``until``: the end of what concerns it; ``final_at``: when nothing on time can touch it any more.
    """

    otp_id: str
    start: Ms
    expires_at: Ms
    until: Ms
    final_at: Ms
    used: bool = False
    expired: bool = False  # the deadline has fired
    level: Level = "clear"
    probability: float = 0.0
    seen: str = ""  # fingerprint of the last assessment, empty when nobody asked for it
    said: str = ""  # fingerprint of the last decision
    revision: int = -1  # of the profile at the last assessment
    finding: Finding | None = None  # the last one sent
    open: bool = False
    hold_until: Ms | None = None


class Settled(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A finished challenge: what became of it, for a later disposition."""

    otp_id: str
    session_id: str | None
    start: Ms
    until: Ms
    level: Level
    probability: float
    finding: Finding | None = None
    open: bool = False


class Timeline(msgspec.Struct, array_like=True, gc=False):
    """One account. Never written to after it was made: a step makes a new one."""

    version: int = STATE_VERSION
    offset: int = -1
    deadline: Ms | None = None  # when it wants to be looked at next
    account_id: str = ""
    now: Ms = 0  # the latest arrival or fired deadline
    sealed_to: Ms = 0
    profile: Profile = msgspec.field(default_factory=Profile)
    recent: tuple[RecentEvent, ...] = ()  # sorted by (occurred_at, event_id)
    tracks: tuple[Track, ...] = ()  # sorted by (start, otp_id)
    settled: tuple[Settled, ...] = ()
    late: int = 0
    conflicts: int = 0  # same event_id, other content: the first stands
    dropped: int = 0  # recent events beyond the policy's bound
    disposals: tuple[tuple[Ms, str], ...] = ()  # the last dispositions taken in, so that a redelivery says nothing again


class Head(msgspec.Struct, array_like=True, gc=False):
    """The beginning of an encoded Timeline, read alone when state is restored."""

    version: int
    offset: int
    deadline: Ms | None


_decode = msgspec.msgpack.Decoder(Timeline).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode
encode = msgspec.msgpack.Encoder().encode


def read_head(raw: bytes) -> Head:
    """Read version, offset and deadline. Raises UnsupportedState for a version newer than this code."""
    head = _decode_head(raw)
    if head.version > STATE_VERSION:
        raise UnsupportedState(f"account state version {head.version}; this code reads up to {STATE_VERSION}: upgrade the worker")
    return head


def decode(raw: bytes) -> Timeline:
    """Read an encoded Timeline. Raises UnsupportedState for a version newer than this code."""
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        read_head(raw)
        raise


def order(event: RecentEvent) -> tuple[Ms, str]:
    """The total order of an account's events."""
    return (event.occurred_at, event.event_id)


def inserted(recent: tuple[RecentEvent, ...], event: RecentEvent) -> tuple[RecentEvent, ...]:
    """The set with one more event, in order."""
    if not recent or order(recent[-1]) < order(event):
        return (*recent, event)
    at = bisect_left(recent, order(event), key=order)
    return (*recent[:at], event, *recent[at:])
