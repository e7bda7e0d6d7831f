"""What do the events of an account say? The live stage around core.partition: ``events`` in; alerts, decisions, holds, sightings out."""

import logging
import time
from collections.abc import Callable, Sequence

from faust.types.tuples import TP

from pipeline.core.champion import named_by
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import EVIDENCE_FEEDS, AnyEvent, account_of
from pipeline.core.outcome import Finding, Late, Outcome
from pipeline.core.partition import Partition
from pipeline.core.store import Encoded
from pipeline.live import metrics
from pipeline.live.batch import Batch, Record
from pipeline.live.bug import Bug, decoded, guarded
from pipeline.live.effects import Effects
from pipeline.live.folding import SET_ASIDE, FoldingStage, Held
from pipeline.live.models import LiveShelf, named_in
from pipeline.live.outbox import Outbox
from pipeline.live.stage import Reader
from pipeline.wire.codec import OutcomeEncoder, OutRecord, decode_event

log = logging.getLogger(__name__)


class DetectStage(FoldingStage[Partition]):
    """Fold the partitions of ``events``."""

    name = "detect"
    source = "events"
    changelog = "detect-state"
    outputs = ("alerts", "decisions", "holds", "examples", "sightings", "dead-letters")
    _encode = staticmethod(OutcomeEncoder("live").encode)
    models: LiveShelf | None = None  # where the models are that the log activates
    _floods: frozenset[int] | set[int] = frozenset()  # partitions in which there is one

    async def start(self, outbox: Outbox, reader: Reader) -> None:
        """As every folding stage; nothing has been folded yet."""
        await super().start(outbox, reader)
        self._folded: dict[type[AnyEvent], int] = {}  # of each kind, since they were counted last

    def assigned(self, tps: set[TP], generation: int) -> None:
        """As every folding stage; the deadlines of accounts that are set aside wait too."""
        super().assigned(tps, generation)
        for held in self._held.values():
            held.fold.aside = held.quarantine.entities

    async def handle(self, batch: Batch) -> None:
        """As every folding stage; then count what was folded."""
        await super().handle(batch)
        folded, self._folded = self._folded, {}
        metrics.count_events(folded)

    def new_fold(self, encoded: Callable[[], Encoded]) -> Partition:
        """An empty partition."""
        return Partition(self._policy, self._cached, encoded, self.models)

    async def _handle(self, held: Held[Partition], batch: Batch) -> None:
        """As every folding stage, once the models that the batch is folded with are here."""
        if self.models is not None:
            wanted = set() if held.fold.equipped else set(named_by(held.fold.activation))
            wanted |= named_in(batch.records)
            if wanted:
                await self.models.load(wanted)
            if not held.fold.equipped:
                held.fold.equip()
        await super()._handle(held, batch)

    async def tick(self) -> None:
        """As every folding stage; and tell how far the clock lies back, which feeds it lacks, and which campaigns it knows."""
        await super().tick()
        folds = [held.fold for held in self._held.values() if held.fold.now]
        metrics.CAMPAIGNS.set(max([len(held.fold.detector.campaigns) for held in self._held.values()], default=0))
        metrics.CLOCK_AGE.set(max([time.time() - fold.now / 1000 for fold in folds], default=0.0))
        for feed in EVIDENCE_FEEDS:
            metrics.FEED_MISSING.labels(feed).set(any(feed in fold.missing for fold in folds))
        metrics.MODEL_IN_FORCE.clear()
        for held in self._held.values():
            detector = held.fold.detector
            if held.fold.equipped:
                metrics.MODEL_IN_FORCE.labels(detector.model.id, "champion").inc()
                for shadow in detector.challengers:
                    metrics.MODEL_IN_FORCE.labels(shadow.id, "challenger").inc()
        self._tell_of_floods()

    def _tell_of_floods(self) -> None:
        """Say when a flood of our own findings begins and when it is over."""
        floods = {partition for partition, held in self._held.items() if held.fold.flooded}
        metrics.FLOODED.set(bool(floods))
        flood = self._policy.flood
        for partition in sorted(floods - self._floods):
            log.warning(
                "detect: a flood of new findings in %s-%d: at least %d in %d s; those that are not among the most probable are written as"
                " suppressed, page nobody and hold no code", self.sources[0], partition, flood.findings, flood.window_s,
                extra={"action": "see what the suppressed alerts have in common (an attack wave, a feed that tells wrong, a low"
                       " threshold), work the most probable first, and correct the cause; it ends by itself"},
            )  # fmt: skip
        for partition in sorted((self._floods - floods) & self._held.keys()):
            log.info("detect: the flood of findings in %s-%d is over", self.sources[0], partition)
        self._floods = floods

    def fold(self, held: Held[Partition], batch: Batch, record: Record, effects: Effects) -> None:
        """Fold one record of ``events``. An event that came too late becomes a dead letter."""
        if record.value is None:
            raise InvalidEvent("no_value", "a record of events has a value")
        event = decoded(decode_event, record.value)
        account = account_of(event)
        if held.quarantine.entities and held.quarantine.blocks(account, record.offset):
            raise InvalidEvent("bug", SET_ASIDE)
        try:
            outcomes = held.fold.fold(record.offset, event)
        except Exception as e:
            raise guarded(account, e) from e
        kind = type(event)
        self._folded[kind] = self._folded.get(kind, 0) + 1
        if not outcomes and not held.fold.tripped:
            return
        said, bugs = self._said(held, outcomes)
        metrics.count_outcomes(outcome for outcome, _ in said)
        for outcome, out in said:
            if out is not None:
                effects.add_record(out)
                if isinstance(outcome, Finding) and outcome.activity != "close":
                    effects.alerted.append((outcome.stage, outcome.time))
            elif isinstance(outcome, Late):
                seconds = (outcome.arrived_at - outcome.occurred_at) // 1000
                metrics.DEAD_LETTERS.labels(batch.tp.topic, "late").inc()
                effects.refuse(self._letters, batch, record, "late", f"event arrived {seconds} s after it occurred")
        if bugs:  # what was said of the other accounts stands
            for bug in bugs[1:]:
                self.set_aside(held, batch, record, bug)
            raise bugs[0]

    def _said(self, held: Held[Partition], outcomes: Sequence[Outcome]) -> tuple[list[tuple[Outcome, OutRecord | None]], list[Bug]]:
        """The outcomes as records; without those of accounts that tripped a bug on the way, which stay as they were."""
        tripped, held.fold.tripped = held.fold.tripped, []
        bugs = [Bug(*trip) for trip in tripped]
        said: list[tuple[Outcome, OutRecord | None]] = []
        for outcome in outcomes:
            try:
                said.append((outcome, self._encode(outcome)))
            except Exception as e:
                bugs.append(Bug(outcome.account_id, e))
                held.fold.undo(outcome.account_id)
        failed = {bug.entity for bug in bugs}
        return [(outcome, out) for outcome, out in said if outcome.account_id not in failed] if failed else said, bugs
