"""What does a batch lead to? Records for other topics, gathered by target partition and in order, before they are sent together.

An output that is larger than its topic takes can never be sent. It is left out, and the record that led to it becomes a dead letter:
a worker that ended instead would meet it again at each start, and nothing behind it would ever be read.
"""

import logging
import time
from collections.abc import Sequence

from pipeline.core.errors import Refusal
from pipeline.core.events import Ms
from pipeline.core.outcome import Stage
from pipeline.live import metrics
from pipeline.live.batch import Batch, Record
from pipeline.live.limits import RecordTooLarge
from pipeline.live.outbox import Header, Outbox, Outgoing
from pipeline.wire.codec import OutRecord
from pipeline.wire.dead_letter import DeadLetters

log = logging.getLogger(__name__)
_REFERENCES = DeadLetters("reference")  # for a dead letter that is itself too large with its original


class Effects:
    """The records one batch leads to."""

    def __init__(self, outbox: Outbox, prefix: str) -> None:
        self._outbox = outbox
        self._prefix = prefix
        self._records: dict[tuple[str, int], list[Outgoing]] = {}
        self.count = 0
        self.unsendable: list[RecordTooLarge] = []  # outputs that were left out since the last dead letter
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
        """Add the dead letter of a record of the batch; only a reference where the copy is more than the topic takes."""
        tp, headers = batch.tp, tuple(record.headers)
        topic = self._prefix + "dead-letters"
        for form in (letters, _REFERENCES):
            letter = form.record(tp.topic, tp.partition, record.offset, record.timestamp, reason, detail, record.key, record.value, headers)
            if self._outbox.excess(topic, Outgoing(letter.key, letter.value, letter.headers)) is None:
                break
        self.add_record(letter, spread=tp.partition)

    def refuse_unsendable(self, letters: DeadLetters, batch: Batch, record: Record) -> None:
        """Add a dead letter of the record whose outputs had to be left out, and forget them. Its other outputs stand."""
        for excess in self.unsendable:
            log.error(
                "%s offset %d: an output is left out, its record is a dead letter: %s",
                batch.tp,
                record.offset,
                excess,
                extra={"action": "raise max.message.bytes of the topic named; what was left out is not sent later"},
            )
            metrics.UNSENDABLE.inc()
        metrics.DEAD_LETTERS.labels(batch.tp.topic, "too_large").inc()
        self.refuse(letters, batch, record, "too_large", "; ".join(excess.short for excess in self.unsendable))
        self.unsendable.clear()

    def _put(self, target: tuple[str, int], record: Outgoing) -> None:
        if record.value is not None and len(record.value) > self._outbox.ample:
            excess = self._outbox.excess(target[0], record)
            if excess is not None:
                self.unsendable.append(excess)
                return
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
