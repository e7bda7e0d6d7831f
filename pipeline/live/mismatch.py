"""What can differ between what live wrote and what its log says? The values of the comparison, and what is compared of a record.

Read by live.parity, which compares, and by live.audit, which reads the topics.
"""

from hashlib import blake2b
from typing import Final, Literal

import msgspec

from pipeline.core.detector import VERSION
from pipeline.core.events import Ms
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.timeline import decode, read_head

HEAD_BYTES: Final = 8  # of a shortened state: the offset it speaks of
OUTPUTS: Final = ("decisions", "alerts")  # holds follow from findings, and compaction leaves only the last

What = Literal["state", "decisions", "alerts"]
Problem = Literal[
    "missing",  # the log leads to it, and live has not written it
    "unexpected",  # live has written it, and the log does not lead to it
    "different",  # both have it, and not the same
]
Skip = Literal[
    "cut",  # its history begins before the log does
    "other_build",  # folded in part under another policy, model or version
    "bug",  # our own code fails on one of its events, here too: it has an alarm of its own
    "in_flight",  # its state was ahead of the clock when the comparison began
]


class Mismatch(msgspec.Struct, frozen=True):
    """Where live and the log part: what differs and how, of an account, and the event or record at which it was found."""

    what: What
    problem: Problem
    place: str
    account_id: str


class Build(msgspec.Struct, frozen=True):
    """What a decision was made by."""

    policy_id: str
    model_id: str
    version: str


class Said(msgspec.Struct, frozen=True):
    """What a record of ``decisions`` or ``alerts`` says of its time (ms) and, of a decision, of its build."""

    time: Ms
    policy_id: str | None = None
    model_id: str | None = None
    version: str | None = None


decode_said = msgspec.json.Decoder(Said).decode


def build_of(policy: Policy) -> Build:
    """Name what this process would decide by."""
    return Build(policy.id, Partition(policy).detector.model.id, VERSION)


def build_in(decision: bytes) -> Build | None:
    """Read by what a record of ``decisions`` was made; None for one that cannot be read, which is then compared like any other."""
    try:
        said = decode_said(decision)
    except msgspec.DecodeError:
        return None
    return Build(said.policy_id or "", said.model_id or "", said.version or "")


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


def short(state: bytes) -> bytes:
    """The offset that a state speaks of (-1 where it cannot be read), and its digest. Raises UnsupportedState."""
    try:
        offset = read_head(state).offset
    except msgspec.DecodeError:
        offset = -1
    return offset.to_bytes(HEAD_BYTES, "big", signed=True) + digest_of(state)


def digest_of(*parts: bytes) -> bytes:
    """Sixteen bytes that stand for a few longer ones."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def oldest(state: bytes) -> Ms:
    """The oldest thing that a state remembers (ms); 0 where it has counted what it no longer has."""
    try:
        t = decode(state)
    except msgspec.DecodeError:
        return 0
    if t.late or t.conflicts or t.dropped or t.disposals:
        return 0
    p = t.profile
    told = [p.since] if p.since is not None else []
    told += [event.occurred_at for event in t.recent[:1]]
    told += [track.start for track in t.tracks] + [one.start for one in t.settled]
    told += [min(link.since, link.arrived_at, link.counted_at) for link in p.links.values()]
    told += [fact.arrived_at for facts in p.line_facts.values() for fact in facts]
    return min(told, default=0)
