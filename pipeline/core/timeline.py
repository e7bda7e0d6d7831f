"""What is kept of one account? The sealed profile, the set of recent events, and what was said about each open challenge.

Written down it is packed: its head (version, offset, deadline) as it is, so that a restore reads no more, and behind it the whole
compressed with the words of ``state_words``, to less than half. The features kept for later dispositions stand beside it as they are, and
code that knows nothing of them passes over them. State of an earlier version is read, and is of this one when it is
written next; state of a later version is refused.
"""

from bisect import bisect_left
from typing import NamedTuple

import msgspec
import zstandard

from pipeline.core.breaker import Raised
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
from pipeline.core.snooze import Kept
from pipeline.core.state_words import WORDS
from pipeline.core.versions import read_versioned

STATE_VERSION = 3  # 1: not packed; 2: packed; 3: with what is kept of decisions, snoozes, whom the open challenges met, what was raised
_LEVEL = -1  # of zstd: half the time of level 1 for 3 % more bytes, measured on simulated accounts
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
    entities: tuple[str, ...] = ()  # callers, senders, devices and addresses it met, as sightings name them


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
    kept: bytes = b""  # the features of the last decisions, packed by ``kept``; written down beside the rest, not in it
    teach_at: Ms | None = None  # when one of them is due to be taught without a label
    snoozes: tuple[Kept, ...] = ()  # sorted by (occurred_at, event_id, scope)
    raised: tuple[Raised, ...] = ()  # the last new findings that would page, for the flood of the partition


class Head(msgspec.Struct, array_like=True, gc=False):
    """The beginning of an encoded Timeline of any version, read alone when state is restored."""

    version: int
    offset: int
    deadline: Ms | None


class _Packed(msgspec.Struct, array_like=True, gc=False):
    """A Timeline as it is written down since version 2; ``kept`` is of version 3."""

    version: int
    offset: int
    deadline: Ms | None
    body: bytes
    kept: bytes = b""


class _PackedMarked(msgspec.Struct, array_like=True, gc=False):
    """The same of an account whose open challenges met somebody, or that raised findings: a restore reads that without unpacking it."""

    version: int
    offset: int
    deadline: Ms | None
    body: bytes
    kept: bytes
    entities: tuple[str, ...]
    raised: tuple[Raised, ...]


_SEVEN = 0x97  # how MessagePack begins an array of seven
_encoder = msgspec.msgpack.Encoder()
plain = _encoder.encode
_decode = msgspec.msgpack.Decoder(Timeline).decode
_decode_packed = msgspec.msgpack.Decoder(_Packed).decode
_decode_marked = msgspec.msgpack.Decoder(_PackedMarked).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_words = zstandard.ZstdCompressionDict(WORDS, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
_words.precompute_compress(level=_LEVEL)
_compress = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_words, write_checksum=True, write_dict_id=False).compress
_decompress = zstandard.ZstdDecompressor(dict_data=_words).decompress


def encode(timeline: Timeline) -> bytes:
    """Write a Timeline down, packed."""
    buffer = bytearray()
    kept, timeline.kept = timeline.kept, b""  # it is packed already: packing it again costs more than all else here
    _encoder.encode_into(timeline, buffer)
    timeline.kept = kept
    body = _compress(buffer)
    entities = tuple(sorted({entity for track in timeline.tracks for entity in track.entities})) if timeline.tracks else ()
    packed: _Packed | _PackedMarked = _Packed(STATE_VERSION, timeline.offset, timeline.deadline, body, kept)
    if entities or timeline.raised:
        packed = _PackedMarked(STATE_VERSION, timeline.offset, timeline.deadline, body, kept, entities, timeline.raised)
    _encoder.encode_into(packed, buffer)
    return bytes(buffer)  # of its exact size: what an encoder gives is made larger and cut, which leaves holes in memory


def read_head(raw: bytes) -> Head:
    """Read version, offset and deadline. Raises UnsupportedState for a version newer than this code, and for what is no state."""
    return read_versioned(_decode_head, raw, STATE_VERSION, "account state", "what is kept of an account is not its state")


class Marks(NamedTuple):
    """What a restore must know of an account: whom its open challenges met, and what it has raised. Nothing before version 3."""

    entities: tuple[str, ...] = ()
    raised: tuple[Raised, ...] = ()


def read_marks(raw: bytes) -> Marks:
    """Read the marks of an encoded Timeline without unpacking it. Raises UnsupportedState for a damaged one."""
    if not raw or raw[0] != _SEVEN:
        return Marks()
    try:
        marked = _decode_marked(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise UnsupportedState(f"what is kept of an account is not its state: {e}") from None
    return Marks(marked.entities, marked.raised)


def decode(raw: bytes) -> Timeline:
    """Read an encoded Timeline of this version or an earlier one. Raises UnsupportedState for a newer one, and for a damaged one."""
    head = read_head(raw)
    try:
        packed = _Packed(head.version, head.offset, head.deadline, raw) if head.version == 1 else _decode_packed(raw)
        timeline = _decode(raw if head.version == 1 else _decompress(packed.body))
    except (msgspec.DecodeError, UnicodeDecodeError, zstandard.ZstdError) as e:
        raise UnsupportedState(f"account state of version {head.version} is damaged: {type(e).__name__}") from None
    if head.version > 1 and read_marks(raw).raised != timeline.raised:
        raise UnsupportedState(f"account state of version {head.version} is damaged: its head is not that of its body")
    timeline.version = STATE_VERSION
    timeline.kept = packed.kept
    return timeline


def order(event: RecentEvent) -> tuple[Ms, str]:
    """The total order of an account's events."""
    return (event.occurred_at, event.event_id)


def inserted(recent: tuple[RecentEvent, ...], event: RecentEvent) -> tuple[RecentEvent, ...]:
    """The set with one more event, in order."""
    if not recent or order(recent[-1]) < order(event):
        return (*recent, event)
    at = bisect_left(recent, order(event), key=order)
    return (*recent[:at], event, *recent[at:])
