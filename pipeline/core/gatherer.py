"""Which callers, senders, devices and addresses are on several accounts at once, and how many accounts are sent codes? One partition of
``sightings``, folded record by record.

Per entity it keeps the marks of some hours, in slots: as many small tables as there are first bytes of a hash, so that state is bounded
by what happens in those hours and nothing is ever to be deleted. What it says of a campaign is a function of the set of sightings.
"""

import hashlib
from collections.abc import Callable, Iterator

import msgspec

from pipeline.core import surge
from pipeline.core.campaign import joined, runs, short_name, since
from pipeline.core.errors import UnsupportedState
from pipeline.core.events import CampaignMark, CampaignSeen, CodesSurged, Ms
from pipeline.core.outcome import Sighting
from pipeline.core.policy import Policy
from pipeline.core.store import Encoded, InMemory, Store
from pipeline.core.versions import read_versioned

STATE_VERSION = 1


class Slot(msgspec.Struct, array_like=True, gc=False):
    """The entities whose names hash alike, with their marks."""

    version: int = STATE_VERSION
    offset: int = -1
    entities: dict[str, tuple[CampaignMark, ...]] = {}


class GathererState(msgspec.Struct, array_like=True, gc=False):
    """The partition's own record: up to which offset all slots are durable, and the latest arrival."""

    offset: int = -1
    now: Ms = 0


class _Head(msgspec.Struct, array_like=True, gc=False):
    version: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Slot).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode


def _check(raw: bytes) -> None:
    read_versioned(_decode_head, raw, STATE_VERSION, "campaign state", "what is kept of campaigns is not their state")


def _read(raw: bytes) -> Slot:
    _check(raw)
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise UnsupportedState(f"campaign state is damaged: {type(e).__name__}") from None


def slot_of(entity: str) -> str:
    """The slot of an entity: two hexadecimal characters."""
    return hashlib.blake2b(entity.encode(), digest_size=1).hexdigest()


class Gatherer:
    """Fold the records of one partition of ``sightings``. Same protocol as Partition."""

    def __init__(self, policy: Policy, cached: int = 30_000, encoded: Callable[[], Encoded] = InMemory) -> None:
        """``cached``: how many decoded slots are kept beside the encoded ones; ``encoded``: where those are."""
        self._policy = policy
        self._step = 1000 * policy.campaigns.step_s
        # a window, and for as long as a feed or a stage may be behind
        self._keep = 1000 * (policy.campaigns.window_s + policy.bounds.lateness_s + policy.bounds.slack_s + policy.feeds.patience_s)
        self._slots: Store[Slot] = Store(_encode, _read, cached, encoded)
        self._offset = self._settled = -1
        self._now: Ms = 0

    def fold(self, offset: int, sighting: Sighting) -> CampaignSeen | CodesSurged | None:
        """Fold one sighting; returns what there is to say of its entity in every partition of ``events``, if that is new."""
        if offset <= self._settled:
            return None
        self._offset = offset
        self._now = max(self._now, sighting.arrived_at)
        name = slot_of(sighting.entity)
        slot = self._slots.get(name) or Slot()
        if offset <= slot.offset:
            return None
        oldest = self._now - self._keep
        if sighting.occurred_at < oldest:
            return None
        of_codes = surge.is_of_codes(sighting.entity)
        step, most = (surge.STRETCH_MS, surge.NAMES) if of_codes else (self._step, self._policy.campaigns.most)
        at = sighting.occurred_at // step * step
        new = CampaignMark(at, () if sighting.exempt else (short_name(sighting.account_id),), sighting.exempt)
        have = slot.entities.get(sighting.entity, ())
        marks = joined(have, (new,), most)
        if marks == have:
            return None
        kept = {entity: left for entity, known in slot.entities.items() if (left := since(known, oldest))}
        kept[sighting.entity] = marks = since(marks, oldest - step)
        self._slots.put(name, Slot(STATE_VERSION, offset, kept))
        if of_codes:
            return self._surged(have, marks, sighting.arrived_at)
        if not runs(marks, self._policy):
            return None
        return CampaignSeen(entity=sighting.entity, arrived_at=sighting.arrived_at, marks=marks)

    def _surged(self, before: tuple[CampaignMark, ...], now: tuple[CampaignMark, ...], arrived_at: Ms) -> CodesSurged | None:
        codes = self._policy.baselines.codes
        if codes is None or (z := surge.level(now, codes)) <= surge.level(before, codes):
            return None
        return CodesSurged(at=now[-1].at, arrived_at=arrived_at, z=z)

    def changes(self) -> dict[str, bytes]:
        """Encoded state of every slot that changed since the last call."""
        return self._slots.changes()

    def clock(self) -> bytes:
        """Encoded partition state. Valid to persist only after all ``changes()`` up to here are durable."""
        return _encode(GathererState(self._offset, self._now))

    def restore(self, slot: str, state: bytes) -> None:
        """Take a slot's state back. Raises UnsupportedState for a version newer than this code."""
        _check(state)
        self._slots.restore(slot, state)

    def restore_clock(self, state: bytes) -> None:
        """Take the partition's state back. Raises UnsupportedState for what is no such state."""
        try:
            known = msgspec.msgpack.decode(state, type=GathererState)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise UnsupportedState(f"the clock of a partition is damaged: {type(e).__name__}") from None
        self._settled = self._offset = known.offset
        self._now = known.now

    def forget(self, slot: str) -> None:
        """Forget a slot: its state was taken away."""
        self._slots.remove(slot)

    def encoded(self, slot: str) -> bytes | None:
        """Encoded state of a slot; None of one that is not known."""
        return self._slots.encoded(slot)

    def resize(self, cached: int) -> None:
        """Keep at most so many decoded slots from now on."""
        self._slots.cached = cached

    def accounts(self) -> Iterator[str]:
        """All slots held."""
        return self._slots.keys()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def size(self) -> int:
        """Bytes of encoded state held."""
        return self._slots.bytes

    def drop(self) -> None:
        """Forget everything."""
        self._slots.clear()
        self._offset = self._settled = -1
        self._now = 0
