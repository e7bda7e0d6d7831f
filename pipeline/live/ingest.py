"""What do the bank's records say, and who must hear it? The live stage around wire.ingest: raw topics in; events, lines and beats out.

It keeps no state: a record that is read again gives the same events again, and the folds behind know their ids. A beat says how far
each raw partition has been read; it leaves after all that it speaks for, to every partition of ``events`` and, for what route must
carry on, of ``lines``.
"""

import logging
import time
from collections import Counter

from faust.types.tuples import TP

from pipeline.core.beats import BeatMaker, for_lines
from pipeline.core.errors import InvalidEvent, Refusal
from pipeline.core.events import Feed, Ms
from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.align import Alignment
from pipeline.live.batch import Batch
from pipeline.live.effects import Effects
from pipeline.live.flood import FloodWatch, Suspensions
from pipeline.live.folding import Turns
from pipeline.live.health import Health
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.live.stage import ReadAgain, Reader
from pipeline.wire.codec import encode_event
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.ingest import Ingest

log = logging.getLogger(__name__)
FOLLOWING: tuple[Feed, ...] = ("otp-entries", "account-changes", "dispositions")  # read after what explains them


class IngestStage:
    """Read the raw topics that exist."""

    name = "ingest"

    def __init__(
        self,
        policy: Policy,
        ingest: Ingest,
        feeds: dict[Feed, int],
        prefix: str,
        letters: DeadLetters,
        health: Health,
    ) -> None:
        """``feeds``: the raw topics that exist, without ``prefix``, and how many partitions they have."""
        self.sources = tuple(prefix + feed for feed in feeds)
        self.targets = tuple(prefix + topic for topic in ("events", "lines", "dead-letters"))
        self.admission = Alignment(prefix + feed for feed in FOLLOWING)
        self._feed: dict[str, Feed] = {prefix + feed: feed for feed in feeds}
        self._prefix = prefix
        self._read = ingest.read
        self._letters = letters
        self._flood = FloodWatch(policy.feeds)
        self._suspended = Suspensions()
        self._feeds = feeds
        self._beats = BeatMaker(feeds)
        self._marks: dict[TP, Ms | None] = {}  # how far each partition of ours has been read
        self._newest: dict[Feed, Ms] = {}  # the newest arrival in partitions of ours
        self._health = health
        self._outbox: Outbox | None = None
        self._reader: Reader | None = None

    async def start(self, outbox: Outbox, reader: Reader) -> None:
        """Take the outbox and the reader."""
        self._outbox, self._reader = outbox, reader
        self._beats = BeatMaker(self._feeds, outbox.partitions(self._prefix + "lines"))

    async def stop(self) -> None:
        """Nothing runs on the side."""

    def assigned(self, tps: set[TP], generation: int) -> None:
        """Speak only of the partitions that are ours now."""
        ours = {tp for tp in tps if tp.topic in self._feed}
        for tp in self._marks.keys() - ours:
            self._beats.forget(self._feed[tp.topic], tp.partition)
            self._health.revoked(self.name, tp.topic, tp.partition)
        for tp in ours - self._marks.keys():
            self._health.assigned(self.name, tp.topic, tp.partition, restored=True)
        for feed in {self._feed[tp.topic] for tp in self._marks} - {self._feed[tp.topic] for tp in ours}:
            if feed in self._suspended:  # whoever has it now judges for himself
                self._resume(feed)
        self._marks = {tp: self._marks.get(tp) for tp in ours}
        self.admission.keep(ours)

    async def prepare(self, batch: Batch) -> None:
        """There is nothing to wait for."""

    async def handle(self, batch: Batch) -> None:
        """Read every record, send what it says, then let the beats speak of it. Raises ReadAgain when the feed is suspended."""
        assert self._outbox is not None
        feed = self._feed[batch.tp.topic]
        if feed in self._suspended and not self._suspended.probed(feed):  # it was handed out before
            raise ReadAgain(batch.first)
        effects = Effects(self._outbox, self._prefix)
        read, add = self._read, effects.add
        refused: list[int] = []
        why: Counter[tuple[Refusal, str]] = Counter()
        started = time.monotonic()
        turns = Turns()
        for number, record in enumerate(batch.records):
            try:
                for topic, key, event in read(feed, record.value, record.timestamp, record.key):
                    add(topic, key.encode(), encode_event(event))
            except InvalidEvent as e:
                refused.append(number)
                why[e.reason, e.detail] += 1
                effects.refuse(self._letters, batch, record, e.reason, e.detail)
            except Exception as e:  # a bug of ours: this record is set aside, the next one is read
                log.error(
                    "ingest: a bug of ours at %s offset %d: %s", batch.tp, record.offset, type(e).__name__,
                    extra={"action": "report the place named: the record is in the dead letters with reason bug, the others are read"},
                )  # fmt: skip
                refused.append(number)
                why["bug", type(e).__name__] += 1
                effects.refuse(self._letters, batch, record, "bug", type(e).__name__)
            if effects.unsendable:
                effects.refuse_unsendable(self._letters, batch, record)
            if turns.over():
                await turns.give()
        probed = feed in self._suspended
        if not probed and self._flood.floods(feed, len(batch.records), refused):
            self._suspend(feed, batch, why)
        folded = time.monotonic()
        batch.waits = True
        await effects.send()
        for (reason, _), count in why.items():
            metrics.DEAD_LETTERS.labels(batch.tp.topic, reason).inc(count)
        metrics.FOLD_SECONDS.labels(self.name).observe(folded - started)
        metrics.PRODUCE_SECONDS.labels(self.name).observe(time.monotonic() - folded)
        arrived_at = max(record.timestamp for record in batch.records)
        self._read_up_to(batch, arrived_at)
        if probed:
            self._judge(feed, batch, len(refused))
        if self._beats.is_due(arrived_at):  # else no beat can be: its time is not beyond what any partition that is read has come to
            await self._beat()

    def _suspend(self, feed: Feed, batch: Batch, why: Counter[tuple[Refusal, str]]) -> None:
        pause = self._suspended.pause(feed, again=not self._flood.steady(feed))
        (reason, detail), count = why.most_common(1)[0]
        log.error(
            "ingest: %s is suspended: too much of it cannot be read (%d of these %d records: %s, %s). Its records wait at %s offset %d, it"
            " counts as absent, the other feeds go on; a probe reads on in %.0f s",
            feed, count, len(batch.records), reason, detail, batch.tp, batch.first, pause,
            extra={"action": f"correct the producer of {feed}: it is read again by itself once its records can be read"},
        )  # fmt: skip
        self._flood.forget(feed)
        self.admission.close(batch.tp.topic)
        self._beats.suspend(feed)
        self._health.suspended(feed, batch.tp.topic)
        raise ReadAgain(batch.first)

    def _judge(self, feed: Feed, batch: Batch, refused: int) -> None:
        """What does a batch of a probe say? Read the feed again, or wait longer once the probe has read all it may."""
        if not self._suspended.probed(feed):  # another partition of it has ended the probe meanwhile
            return
        if not self._flood.most(len(batch.records), refused):
            log.info("ingest: %s can be read again, from %s offset %d on", feed, batch.tp, batch.first)
            self._resume(feed)
        elif self.admission.spent(batch.tp.topic):
            pause = self._suspended.pause(feed, again=True)
            log.warning(
                "ingest: %s stays suspended, %s offset %d; the next probe is in %.0f s", feed, batch.tp, batch.last, pause,
                extra={"action": "see what cannot be read with `offhook dead-letters show`, and call the team that produces the feed"},
            )  # fmt: skip

    def _resume(self, feed: Feed) -> None:
        self._suspended.end(feed)
        self._flood.forget(feed)
        self.admission.open(self._prefix + feed)
        self._beats.resume(feed)
        self._health.suspended(feed, self._prefix + feed, False)

    def _read_up_to(self, batch: Batch, arrived_at: Ms) -> None:
        feed = self._feed[batch.tp.topic]
        self._newest[feed] = max(arrived_at, self._newest.get(feed, 0))
        if batch.tp in self._marks:  # else it went to somebody else meanwhile
            self._beats.arrived(self._feed[batch.tp.topic], batch.tp.partition, arrived_at)
            self._marks[batch.tp] = max(arrived_at, self._marks[batch.tp] or 0)

    async def tick(self) -> None:
        """Beat even where nothing arrives, and tell how long that has been."""
        for feed, newest in self._newest.items():
            metrics.WATERMARK_AGE.labels(feed).set(max(0.0, time.time() - newest / 1000))
        for suspended, records in self._suspended.due().items():
            self.admission.probe(self._prefix + suspended, records)
        await self._beat()

    async def _beat(self) -> None:
        at = self._time()
        beat = None if at is None else self._beats.due(at)
        if beat is None:
            return
        assert self._outbox is not None
        records: dict[tuple[str, int], list[Outgoing]] = {}
        for topic, said in (("events", beat), ("lines", for_lines(beat))):
            if said.marks:
                record = [Outgoing(None, encode_event(said))]
                full = self._prefix + topic
                records |= {(full, partition): record for partition in range(self._outbox.partitions(full))}
        await self._outbox.send(records)

    def _time(self) -> Ms | None:
        """Up to which arrival everything of ours has been read, idle partitions moved along; None while one has not been heard of.

        An idle partition moves with the slowest one that is not, so that no feed runs ahead of a backlog: nor of one that is all held back,
        where nothing is in hand and none but empty partitions has come to its end.
        """
        assert self._reader is not None
        idle: dict[TP, Ms] = {}
        oldest: Ms | None = None
        for tp, mark in self._marks.items():
            if self.admission.suspended(tp):
                continue
            read_to = self._reader.read_to(tp)
            if read_to is not None:
                idle[tp] = read_to
            elif self.admission.stalled(tp):
                continue
            elif mark is None:
                return None
            elif oldest is None or mark < oldest:
                oldest = mark
        slowest = min(idle.values(), default=None) if oldest is None else oldest
        if slowest is None:
            return None
        for tp, read_to in idle.items():
            at = min(read_to, slowest)
            if at > (self._marks[tp] or 0):
                self._marks[tp] = at
                self._beats.caught_up(self._feed[tp.topic], tp.partition, at)
        return slowest
