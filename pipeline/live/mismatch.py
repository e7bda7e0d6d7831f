"""What can differ between what live wrote and what its log says? The values of the comparison, and what is compared of a record.

Read by live.parity, which compares, and by live.audit, which reads the topics.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from pipeline.core.beats import QUIET_FEEDS
from pipeline.core.champion import is_by_hand
from pipeline.core.detector import VERSION
from pipeline.core.errors import UnsupportedState
from pipeline.core.events import Ms
from pipeline.core.model import WEIGHED
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.suppression import FLOOD
from pipeline.core.timeline import STATE_VERSION, Head, decode
from pipeline.live.quarantine import MARK

OUTPUTS: Final = ("decisions", "alerts")  # holds follow from findings, and compaction leaves only the last

What = Literal["state", "decisions", "alerts"]
Problem = Literal[
    "missing",  # the log leads to it, and live has not written it
    "unexpected",  # live has written it, and the log does not lead to it
    "different",  # both have it, and not the same
]
Skip = Literal[
    "cut",  # it differs, and its history begins before the log does
    "other_build",  # folded in part under another policy, model or version
    "bug",  # our own code fails on one of its events, here too: it has an alarm of its own
    "in_flight",  # its state was ahead of the clock when the comparison began
    "flood",  # it was silenced in a flood, which a sample of the accounts cannot know of
]


class Mismatch(msgspec.Struct, frozen=True):
    """Where live and the log part: what differs and how, of an account, and the event or record at which it was found."""

    what: What
    problem: Problem
    place: str
    account_id: str


class Expected(msgspec.Struct, frozen=True):
    """A record that the log leads to: by the event at ``offset``, appended at ``arrived``; ``required``: live must have written it."""

    topic: What
    offset: int
    arrived: Ms
    required: bool


class Found(msgspec.Struct, frozen=True):
    """A record that live has written; ``counts``: the log must lead to it."""

    topic: What
    place: str
    time: Ms
    counts: bool


class Build(msgspec.Struct, frozen=True):
    """What a decision was made by."""

    policy_id: str
    model_id: str
    version: str


class _Suppressed(msgspec.Struct, frozen=True):
    cause: str = ""


class _Unmapped(msgspec.Struct, frozen=True):
    suppressed: _Suppressed = _Suppressed()


class Said(msgspec.Struct, frozen=True):
    """What a record of ``decisions`` or ``alerts`` says of its time (ms), of its build, and of why it is not heard."""

    time: Ms
    policy_id: str | None = None
    model_id: str | None = None
    version: str | None = None
    unmapped: _Unmapped = _Unmapped()

    @property
    def flooded(self) -> bool:
        """Whether it is an alert that was silenced in a flood."""
        return self.unmapped.suppressed.cause == FLOOD.cause


_decode_said = msgspec.json.Decoder(Said).decode


def read_said(value: bytes) -> Said:
    """Read a record; one that cannot be read is of the end of time."""
    try:
        return _decode_said(value)
    except msgspec.DecodeError:
        return Said(1 << 62)


def build_of(policy: Policy) -> Build:
    """Name what this process would decide by."""
    return Build(policy.id, Partition(policy).detector.model.id, VERSION)


def build_in(decision: bytes) -> Build | None:
    """Read by what a record of ``decisions`` was made; None for one that cannot be read, which is then compared like any other.

    A learned model is no build: the log says when it takes force, and any build that reads the log scores with it.
    """
    try:
        said = _decode_said(decision)
    except msgspec.DecodeError:
        return None
    model_id = said.model_id or ""
    return Build(said.policy_id or "", model_id if not model_id or is_by_hand(model_id) else WEIGHED, said.version or "")


class Share:
    """A share of all accounts, chosen by a hash: the same ones in every process and every run."""

    def __init__(self, share: float) -> None:
        """``share``: above 0, up to 1."""
        self._below = int(share * (1 << 64))

    def __call__(self, account: bytes) -> bool:
        """Is the account one of them?"""
        return int.from_bytes(blake2b(account, digest_size=8).digest(), "big") < self._below


def compared(topic: str) -> What | None:
    """The topic, if what is in it is compared."""
    match topic:
        case "decisions" | "alerts":
            return topic
        case _:
            return None


def account_in(entity: str) -> tuple[str, bool]:
    """The account that a key of the changelog speaks of, and whether it says that the account is set aside."""
    return entity.removeprefix(MARK), entity.startswith(MARK)


_decode_head = msgspec.msgpack.Decoder(Head).decode
_plain = msgspec.msgpack.Encoder(order="deterministic").encode


def shorten(state: bytes) -> tuple[int, bytes]:
    """The offset that a state speaks of (-1 where it cannot be read), and the digest of what it says, however it is packed.

    Raises UnsupportedState for state of a newer version.
    """
    try:
        head = _decode_head(state)
    except msgspec.DecodeError:
        return -1, digest_of(state)
    if head.version > STATE_VERSION:
        raise UnsupportedState(f"account state version {head.version}; this code reads up to {STATE_VERSION}: upgrade the audit")
    try:
        return head.offset, digest_of(_plain(decode(state)))
    except (UnsupportedState, msgspec.DecodeError):  # damaged
        return head.offset, digest_of(state)


def packed(state: bytes) -> bytes:
    """What is kept of a state: its offset in eight bytes, and its digest."""
    offset, digest = shorten(state)
    return offset.to_bytes(8, "big", signed=True) + digest


def unpacked(kept: bytes) -> tuple[int, bytes]:
    """Offset and digest again."""
    return int.from_bytes(kept[:8], "big", signed=True), kept[8:]


def digest_of(*parts: bytes) -> bytes:
    """Sixteen bytes that stand for a few longer ones."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def knows_feeds(policy: Policy, clock: bytes | None, missing: Iterable[str]) -> bool:
    """Is a feed in which silence is normal missing to live's ``clock`` too? Else it may have come before a log that is cut."""
    if clock is None:
        return False
    live = Partition(policy)
    live.restore_clock(clock)
    return QUIET_FEEDS & set(missing) <= set(live.missing)


def flooded(state: bytes) -> bool:
    """Whether an account has a finding that was silenced in a flood."""
    try:
        t = decode(state)
    except (UnsupportedState, msgspec.DecodeError):
        return False
    told = [*(x.finding for x in t.tracks), *(x.finding for x in t.settled)]
    return any(f is not None and f.suppressed == FLOOD for f in told)


def oldest(state: bytes) -> Ms:
    """The oldest thing that a state remembers (ms); 0 where it has counted what it no longer has."""
    try:
        t = decode(state)
    except (UnsupportedState, msgspec.DecodeError):
        return 0
    if t.late or t.conflicts or t.dropped or t.disposals:
        return 0
    p = t.profile
    told = [p.since] if p.since is not None else []
    told += [event.occurred_at for event in t.recent[:1]]
    told += [track.start for track in t.tracks] + [one.start for one in t.settled]
    told += [min(link.since, link.arrived_at, link.counted_at) for link in p.links.values()]
    told += [s.arrived_at for s in t.snoozes] + [one.at for one in t.raised]
    told += [fact.arrived_at for facts in p.line_facts.values() for fact in facts]
    return min(told, default=0)
