"""What does a batch lead to? Records for other topics, gathered by target partition and in order, before they are sent together."""

import time
from collections.abc import Sequence

from pipeline.core.errors import Refusal
from pipeline.core.events import Ms
from pipeline.core.outcome import Stage
from pipeline.live import metrics
from pipeline.live.batch import Batch, Record
from pipeline.live.outbox import Header, Outbox, Outgoing
from pipeline.wire.codec import OutRecord
from pipeline.wire.dead_letter import DeadLetters


class Effects:
    """The records one batch leads to."""

    def __init__(self, outbox: Outbox, prefix: str) -> None:
        self._outbox = outbox
        self._prefix = prefix
        self._records: dict[tuple[str, int], list[Outgoing]] = {}
        self.count = 0
        self.alerted: list[tuple[Stage, Ms]] = []  # of each alert: the stage of its challenge, and its time

    def add(self, topic: str, key: bytes, value: bytes | None, headers: Sequence[Header] = ()) -> None:
        """Add a record; ``topic`` without prefix. The key decides the partition, as for every other producer."""
        full = self._prefix + topic
        self._put((full, self._outbox.partition(full, key)), Outgoing(key, value, headers))

    def add_record(self, record: OutRecord, spread: int = 0) -> None:
        """Add an encoded record; one without a key goes to partition ``spread``, modulo the number there are."""
        if record.key is not None and record.topic != "dead-letters":
            self.add(record.topic, record.key, record.value, record.headers)
            return
        full = self._prefix + record.topic
        self._put((full, spread % self._outbox.partitions(full)), Outgoing(record.key, record.value, record.headers))

    def refuse(self, letters: DeadLetters, batch: Batch, record: Record, reason: Refusal, detail: str) -> None:
        """Add the dead letter of a record of the batch."""
        tp = batch.tp
        self.add_record(
            letters.record(
                tp.topic, tp.partition, record.offset, record.timestamp, reason, detail, record.key, record.value, tuple(record.headers)
            ),
            spread=tp.partition,
        )

    def _put(self, target: tuple[str, int], record: Outgoing) -> None:
        found = self._records.get(target)
        if found is None:
            found = self._records[target] = []
        found.append(record)
        self.count += 1

    async def send(self) -> None:
        """Send everything and wait until the broker has it."""
        await self._outbox.send(self._records)
        if self.alerted:
            now = time.time()
            for stage, at in self.alerted:
                metrics.ALERT_LATENCY.labels(stage).observe(max(0.0, now - at / 1000))
