"""Has the world changed? The live stage that watches ``decisions``, and tells of a day that shows a change when it is over, labels or not.

Its state is in memory alone. A worker that starts, or that owns other partitions than before, reads the last days of what its group
has committed once more and says nothing of them: whoever had committed it has told. What comes after is told, were it a day that ended
while nobody read. A change is measured from the state of those days, so that a trend too slow for a week to show is told by a worker that
lives for weeks, and not by one that starts each week. A worker that is killed within a second of telling tells again.
Each worker watches the partitions that it owns, so two of them tell of the same change twice.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final

from faust.types.tuples import TP

from pipeline.core.errors import InvalidEvent
from pipeline.core.learn.drift import Drift
from pipeline.core.learn.drift_days import DAY_MS
from pipeline.core.learn.drift_watch import DriftWatch, Entry
from pipeline.core.learn.prediction import logit
from pipeline.core.learn.vocabulary import episode_schema
from pipeline.live import metrics
from pipeline.live.batch import Batch, OpenAdmission, Record
from pipeline.live.effects import Effects
from pipeline.live.folding import Turns
from pipeline.live.health import Health
from pipeline.live.outbox import Outbox
from pipeline.live.past import Past, Span
from pipeline.live.stage import ReadAgain, Reader
from pipeline.wire.codec import DecisionHead, decode_decision_head, decode_features
from pipeline.wire.dead_letter import DeadLetters

log = logging.getLogger(__name__)
# A week, so that the state before a change has every weekday in it, and one more day: the first is left out, since it may be a piece.
DAYS_AGAIN: Final = 8
# A decision is made of what has arrived. One that claims to be of much later would end the days of all others: less than their patience.
AHEAD_MS: Final = 1_800_000
AT_END_MS: Final = 60_000  # a partition is at its end when nothing of it was to be read a minute ago: its end is asked for every second
LEAST_P: Final = 1e-6  # decisions have six decimals


class DriftStage:
    """Watch partitions of ``decisions``."""

    name = "drift"

    def __init__(
        self, prefix: str, open_past: Callable[[], Past], letters: DeadLetters, health: Health, now: Callable[[], float] = time.time
    ) -> None:
        """``open_past``: what the group has committed; ``now``: seconds since 1970."""
        self.sources: tuple[str, ...] = (prefix + "decisions",)
        self.targets: tuple[str, ...] = (prefix + "dead-letters",)
        self.admission = OpenAdmission()
        self._prefix, self._open_past, self._letters, self._health, self._now = prefix, open_past, letters, health, now
        self._ours: frozenset[int] = frozenset()
        self._watch = DriftWatch(episode_schema(), ())
        self._spans: dict[int, Span] = {}
        self._next: dict[int, int] = {}  # the offset behind what the watch has seen of each partition
        self._asked: dict[int, int] = {}  # behind this one records were missing, and were asked for again: retention leaves holes
        self._claim: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()  # two batches may end days at a time, and a day is told once
        self._outbox: Outbox | None = None
        self._reader: Reader | None = None

    async def start(self, outbox: Outbox, reader: Reader) -> None:
        """Take the outbox and the reader; a count of drifts that begins at its first one could not be seen to rise."""
        self._outbox, self._reader = outbox, reader
        for name in self._watch.names:
            metrics.DRIFTS.labels(*what(name))

    async def stop(self) -> None:
        """End a reading of the past that is still going on."""
        if self._claim is not None:
            self._claim.cancel()
            await asyncio.gather(self._claim, return_exceptions=True)

    def assigned(self, tps: set[TP], generation: int) -> None:
        """Go on where the partitions are the same as before; else begin a new watch with what was read of those that are ours now."""
        ours = frozenset(tp.partition for tp in tps if tp.topic in self.sources)
        if ours == self._ours:
            return
        if self._claim is not None:
            self._claim.cancel()
        for partition in self._ours:
            self._health.revoked(self.name, self.sources[0], partition)
        for partition in ours:
            self._health.assigned(self.name, self.sources[0], partition)
        self._ours, self._watch = ours, DriftWatch(episode_schema(), ours)
        self._claim = asyncio.create_task(self._read_past(self._watch, ours)) if ours else None

    async def _read_past(self, watch: DriftWatch, ours: frozenset[int]) -> None:
        started, topic, turns, records = time.monotonic(), self.sources[0], Turns(), 0
        since = (int(self._now() * 1000) // DAY_MS - DAYS_AGAIN) * DAY_MS
        async with self._open_past() as past:
            spans = await past.spans(topic, ours, since)
            async for partition, read in past.read(topic, spans):
                for record in read:
                    with suppress(InvalidEvent):  # it is a dead letter since it was read first
                        take(watch, partition, record)
                    if turns.over():
                        await turns.give()
                records += len(read)
                self._health.progressed(self.name, len(read))
                await self._look(watch, turns, tell=False)
        # A day that a partition was still in has not been told, unless it was at its end.
        watch.at_end([partition for partition, span in spans.items() if span.behind >= span.end])
        await self._look(watch, turns, tell=False)
        watch.at_end(())
        self._spans, self._next = spans, {partition: max(span.first, span.behind) for partition, span in spans.items()}
        for partition in ours:
            self._health.restored(self.name, topic, partition)
        seconds = time.monotonic() - started
        metrics.RESTORE_SECONDS.labels(self.name).observe(seconds)
        log.info("drift: goes on with %d partitions, after %d decisions of before, read in %.2f s", len(ours), records, seconds)

    async def prepare(self, batch: Batch) -> None:
        """Wait until the past of all partitions has been read. Raises what that raised."""
        if self._claim is None:
            raise asyncio.CancelledError
        await asyncio.shield(self._claim)

    async def handle(self, batch: Batch) -> None:
        """Watch the batch, and tell of the days it ends, before it is acknowledged.

        What is older than the past that a start reads is passed over; what somebody else has read meanwhile is read all the same.
        """
        assert self._outbox is not None
        watch, partition = self._watch, batch.tp.partition
        if batch.first < self._spans[partition].first:
            raise ReadAgain(self._spans[partition].first)
        if self._next[partition] < batch.first and self._next[partition] != self._asked.get(partition):
            self._asked[partition] = self._next[partition]
            raise ReadAgain(self._next[partition])
        effects, turns = Effects(self._outbox, self._prefix), Turns()
        for record in batch.records:
            try:
                take(watch, partition, record)
            except InvalidEvent as e:
                effects.refuse(self._letters, batch, record, e.reason, e.detail)
                metrics.DEAD_LETTERS.labels(batch.tp.topic, e.reason).inc()
            if turns.over():
                await turns.give()
        await self._look(watch, turns)
        await effects.send()
        if watch is self._watch:
            self._next[partition] = max(self._next[partition], batch.last + 1)

    async def tick(self) -> None:
        """Raise what reading the past has raised, and end days where no batch does: a partition at its end is not waited for."""
        claim = self._claim
        if claim is None or not claim.done() or claim.cancelled():
            return
        claim.result()
        assert self._reader is not None
        lately, topic = int(self._now() * 1000) - AT_END_MS, self.sources[0]
        read_to = {partition: self._reader.read_to(TP(topic, partition)) for partition in self._ours}
        self._watch.at_end([partition for partition, at in read_to.items() if at is not None and at >= lately])
        await self._look(self._watch, Turns())

    async def _look(self, watch: DriftWatch, turns: Turns, tell: bool = True) -> None:
        """Say what has changed where a day is over: some 0.2 s of work and 1 s for a million codes, in turns with the others."""
        async with self._looking:
            for looked in watch.look():
                if looked is not None:
                    log.info(
                        "drift: %s is over: %d codes, %d alarms, %d changes%s; %d decisions came too late so far",
                        *(dated(looked.day), looked.challenges, looked.alerts, len(looked.drifts)),
                        *("" if tell else ", told before", watch.late),
                    )
                    for drift in looked.drifts if tell else ():
                        self._drifted(drift)
                if turns.over():
                    await turns.give()

    def _drifted(self, drift: Drift) -> None:
        metrics.DRIFTS.labels(*what(drift.name)).inc()
        metrics.DRIFT_TOLD_AT.labels(*what(drift.name)).set(self._now())
        log.warning(
            "drift: %s went %s from %.3g to %.3g (%s, on %s)",
            *(drift.name, drift.direction, drift.before, drift.after, drift.detector, dated(drift.day)),
            extra={
                "drift": drift.name,
                "before": drift.before,
                "after": drift.after,
                "action": "see whether a feed, the customers or the attackers changed; then `offhook models compare`, and promote",
            },
        )


def take(watch: DriftWatch, partition: int, record: Record) -> None:
    """Show a record of ``decisions`` to the watch.

    Raises InvalidEvent: of a record that cannot be read, one of a time that cannot be, or one on which our own code fails (``bug``). The
    features of a decision that is not kept are not looked at, be they readable or not.
    """
    try:
        if record.value is None:
            raise InvalidEvent("no_value", "a record of decisions has a value")
        head = decode_decision_head(record.value)
        if head.time > record.timestamp + AHEAD_MS:
            raise InvalidEvent("future", "time lies beyond the record's arrival")
        watch.add(partition, f"{head.account_id}|{head.otp_id}", head.time, head.level == "alert", entry_of(head))
    except InvalidEvent:
        raise
    except Exception as e:
        action = "report it: the record is in the dead letters with reason bug, the others are read"
        log.error(
            "drift: a bug of ours at partition %d offset %d: %s", partition, record.offset, type(e).__name__, extra={"action": action}
        )
        raise InvalidEvent("bug", type(e).__name__) from e


def entry_of(head: DecisionHead) -> Entry | None:
    """What was decided at the entry, where the decision was made there."""
    if head.stage != "at_entry":
        return None
    return Entry(logit(min(max(head.probability, LEAST_P), 1 - LEAST_P)), partial(decode_features, head))


def what(name: str) -> tuple[str, str]:
    """What has changed, and of which feature, if of one."""
    of, _, feature = name.partition(":")
    return of, feature


def dated(day: int) -> str:
    """The date of a day since 1970."""
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).date().isoformat()
