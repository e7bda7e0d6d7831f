"""What do the events of an account say? The live stage around core.partition: ``events`` in; alerts, decisions and holds out."""

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Beat
from pipeline.core.outcome import Finding, Late
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.batch import Batch, Record
from pipeline.live.effects import Effects
from pipeline.live.folding import Bug, FoldingStage, Held, guarded
from pipeline.live.health import Health
from pipeline.live.state import OpenChangelog
from pipeline.wire.codec import OutcomeEncoder, decode_event
from pipeline.wire.dead_letter import DeadLetters


class DetectStage(FoldingStage[Partition]):
    """Fold the partitions of ``events``."""

    name = "detect"

    def __init__(
        self, policy: Policy, cached: int, prefix: str, open_changelog: OpenChangelog, letters: DeadLetters, health: Health
    ) -> None:
        """``cached``: decoded timelines kept per partition."""
        super().__init__(
            "events", "detect-state", ("alerts", "decisions", "holds", "dead-letters"), prefix, open_changelog, letters, health
        )
        self._policy = policy
        self._cached = cached
        self._encode = OutcomeEncoder("live").encode

    def new_fold(self) -> Partition:
        """An empty partition."""
        return Partition(self._policy, self._cached)

    def fold(self, held: Held[Partition], batch: Batch, record: Record, effects: Effects) -> None:
        """Fold one record of ``events``. An event that came too late becomes a dead letter."""
        if record.value is None:
            raise InvalidEvent("no_value", "a record of events has a value")
        event = decode_event(record.value)
        account = "" if isinstance(event, Beat) else event.account_id
        if account in held.quarantined and account:
            raise InvalidEvent("bug", "its account is set aside since a bug of ours")
        try:
            outcomes = held.fold.fold(record.offset, event)
            encoded = [self._encode(outcome) for outcome in outcomes]
        except Exception as e:
            raise guarded(account, e) from e
        metrics.count_event(event)
        metrics.count_outcomes(outcomes)
        for outcome, out in zip(outcomes, encoded, strict=True):
            if out is not None:
                effects.add_record(out)
                if isinstance(outcome, Finding) and outcome.activity != "close":
                    effects.alerted.append((outcome.stage, outcome.time))
            elif isinstance(outcome, Late):
                seconds = (outcome.arrived_at - outcome.occurred_at) // 1000
                metrics.DEAD_LETTERS.labels(batch.tp.topic, "late").inc()
                effects.refuse(self._letters, batch, record, "late", f"event arrived {seconds} s after it occurred")
        tripped, held.fold.tripped = held.fold.tripped, []
        held.quarantined.update(entity for entity, _ in tripped[1:])
        if tripped:  # what the beat said of the other accounts stands
            raise Bug(*tripped[0])
