"""Which callers, senders, devices and addresses are on several accounts at once, and do unusually many get codes? The live stage around
core.gatherer: ``sightings`` in.

What it says goes to every partition of ``events``, where detect keeps it: the accounts that an entity has met may be in any of them.
"""

from collections.abc import Callable

from pipeline.core.errors import InvalidEvent
from pipeline.core.gatherer import Gatherer, slot_of
from pipeline.core.store import Encoded
from pipeline.live import metrics
from pipeline.live.batch import Batch, Record
from pipeline.live.bug import decoded, guarded
from pipeline.live.effects import Effects
from pipeline.live.folding import SET_ASIDE, FoldingStage, Held
from pipeline.wire.codec import OutRecord, decode_sighting, encode_event


class CampaignStage(FoldingStage[Gatherer]):
    """Fold the partitions of ``sightings``."""

    name = "campaign"
    source = "sightings"
    changelog = "campaign-state"
    outputs = ("events", "dead-letters")

    def new_fold(self, encoded: Callable[[], Encoded]) -> Gatherer:
        """An empty gatherer."""
        return Gatherer(self._policy, self._cached, encoded)

    def fold(self, held: Held[Gatherer], batch: Batch, record: Record, effects: Effects) -> None:
        """Fold one sighting; what is new of its entity goes to all accounts."""
        if record.value is None:
            raise InvalidEvent("no_value", "a record of sightings has a value")
        sighting = decoded(decode_sighting, record.value)
        slot = slot_of(sighting.entity)
        if held.quarantine.blocks(slot, record.offset):
            raise InvalidEvent("bug", SET_ASIDE)
        try:
            seen = held.fold.fold(record.offset, sighting)
        except Exception as e:
            raise guarded(slot, e) from e
        if seen is None:
            return
        metrics.CAMPAIGN_NEWS.labels(metrics.kind_of(sighting.entity)).inc()
        assert self._outbox is not None
        said = OutRecord("events", None, encode_event(seen), ())
        for partition in range(self._outbox.partitions(self._prefix + "events")):
            effects.add_record(said, spread=partition)
