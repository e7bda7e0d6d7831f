"""What do the verdicts teach? The live stage that reads ``examples`` in order, learns the blend, and writes snapshots of it to ``models``.

Its state is its newest own snapshot, which says through which offset it has learned: after a restart it goes on from there and learns
again what follows, whatever the group has committed. It stands off the hot path, in a process of its own: scoring never waits for it.
"""

import asyncio
import logging
from functools import partial
from math import log as ln
from typing import Final

from faust.types.tuples import TP
from nacl.signing import SigningKey

from pipeline.core.errors import InvalidEvent
from pipeline.core.learn.prediction import sigmoid
from pipeline.core.learn.restored import learner_of
from pipeline.core.learn.shelf import checked, goes_on
from pipeline.core.learn.snapshot import Snapshot, SnapshotRefused, read_snapshot
from pipeline.core.learn.student import Student
from pipeline.core.outcome import Example
from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.batch import Batch, OpenAdmission, Record
from pipeline.live.effects import Effects
from pipeline.live.folding import Turns
from pipeline.live.health import Health
from pipeline.live.models import TOPIC
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.live.stage import ReadAgain, Reader
from pipeline.live.state import OpenChangelog, StateAhead
from pipeline.wire.codec import decode_example
from pipeline.wire.dead_letter import DeadLetters

log = logging.getLogger(__name__)
MEMORY: Final = 1 / 500  # weight of the newest example in the mean losses
LEAST_P: Final = 1e-6  # decisions have six decimals


class LearnStage:
    """Learn the one partition of ``examples``."""

    name = "learn"

    def __init__(
        self, policy: Policy, key: SigningKey, prefix: str, open_changelog: OpenChangelog, letters: DeadLetters, health: Health
    ) -> None:
        self.sources: tuple[str, ...] = (prefix + "examples",)
        self.targets = tuple(prefix + topic for topic in (TOPIC, "dead-letters"))
        self.admission = OpenAdmission()
        self._policy, self._key, self._prefix = policy, key, prefix
        self._open, self._letters, self._health = open_changelog, letters, health
        self._tp = TP(self.sources[0], 0)
        self._claim: asyncio.Task[None] | None = None
        self._student: Student | None = None
        self._resumed = False  # was the input read on from where the snapshot ends?
        self._losses: dict[str, float] = {}
        self._outbox: Outbox | None = None
        self._reader: Reader | None = None

    async def start(self, outbox: Outbox, reader: Reader) -> None:
        """Take the outbox and the reader."""
        self._outbox, self._reader = outbox, reader

    async def stop(self) -> None:
        """End a restore that is still running."""
        if self._claim is not None:
            self._claim.cancel()
            await asyncio.gather(self._claim, return_exceptions=True)

    def assigned(self, tps: set[TP], generation: int) -> None:
        """Begin anew from the newest snapshot: another learner may have gone on meanwhile."""
        if self._claim is not None:
            self._claim.cancel()
        self._claim, self._student, self._resumed = None, None, False
        if self._tp in tps:
            self._health.assigned(self.name, self.sources[0], 0)
            self._claim = asyncio.create_task(self._restore())
        else:
            self._health.revoked(self.name, self.sources[0], 0)

    async def _restore(self) -> None:
        newest: list[Snapshot] = []

        def take(key: bytes, value: bytes | None) -> None:
            name = b"" if key is None else key
            if value is None or not name.startswith(b"m_"):
                return
            try:
                snapshot = checked(name.decode(errors="replace"), value, self._key.verify_key)
            except SnapshotRefused as e:
                self._refused(name, e)
                return
            if goes_on(snapshot) and (not newest or snapshot.content.reached > newest[0].content.reached):
                newest[:] = [snapshot]

        async with self._open(self._prefix + TOPIC, 0) as reader:
            reader.tell = partial(self._health.progressed, self.name)
            await reader.read(0, take)
            _, end = await reader.bounds(self.sources[0], 0)
        self._student = await asyncio.to_thread(self._begun, newest[0] if newest else None)
        if self._student.through > end:
            raise StateAhead(
                f"the newest snapshot has learned through offset {self._student.through} of {self.sources[0]}, which ends at {end}: was the"
                f" topic made anew? Then make {self._prefix + TOPIC} anew too, or restore the topic."
            )
        self._health.restored(self.name, self.sources[0], 0)
        log.info("learn: goes on at offset %d, %d examples learned", self._student.through, self._student.examples)

    def _begun(self, newest: Snapshot | None) -> Student:
        if newest is None:
            return Student(self._policy)
        learner = learner_of(newest)
        try:
            return Student.after(self._policy, newest.content, learner)  # type: ignore[arg-type]  # a snapshot of the learner is a blend
        except ValueError as e:
            raise SnapshotRefused("malformed", str(e)) from None

    def _refused(self, name: bytes, error: SnapshotRefused) -> None:
        metrics.MODELS_REFUSED.labels(self.name, error.reason).inc()
        log.warning(
            "learn: the snapshot %s is passed over: %s",
            name.decode(errors="replace"),
            error,
            extra={"action": "nothing, if another key signed it; else find out who wrote to the topic models"},
        )

    async def prepare(self, batch: Batch) -> None:
        """Wait until the learner is restored. Raises what the restore raised."""
        if self._claim is None:
            raise asyncio.CancelledError
        await asyncio.shield(self._claim)

    async def handle(self, batch: Batch) -> None:
        """Learn the batch, and write down what is due before it is acknowledged."""
        student, outbox = self._student, self._outbox
        assert student is not None
        assert outbox is not None
        if not self._resumed:
            self._resumed = True
            if student.through < batch.first:
                raise ReadAgain(student.through)
        effects, turns = Effects(outbox, self._prefix), Turns()
        for record in batch.records:
            if record.offset < student.through:
                metrics.DUPLICATES.labels(self.name).inc()
                continue
            try:
                example = decoded(record)
                learned = student.take(record.offset, example)
            except InvalidEvent as e:
                student.through = record.offset + 1
                effects.refuse(self._letters, batch, record, e.reason, e.detail)
                metrics.DEAD_LETTERS.labels(batch.tp.topic, e.reason).inc()
            except ValueError as e:  # a feature of a kind that the schema does not know it by
                effects.refuse(self._letters, batch, record, "invalid_field", f"features: {type(e).__name__}")
                metrics.DEAD_LETTERS.labels(batch.tp.topic, "invalid_field").inc()
            else:
                if learned:
                    self._told(example, student.said)
                if student.due:
                    await self._publish(student, outbox)
            if turns.over():
                await turns.give()
        await effects.send()

    async def _publish(self, student: Student, outbox: Outbox) -> None:
        try:
            data = await asyncio.to_thread(student.write, self._key, f"learned live through offset {student.through}")
        except SnapshotRefused as e:
            metrics.MODELS_REFUSED.labels(self.name, e.reason).inc()
            log.error("learn: what was learned cannot be written down: %s", e, extra={"action": "report it; the model in force goes on"})
            return
        model_id = await asyncio.to_thread(self._id_of, data)
        await outbox.append(self._prefix + TOPIC, 0, [Outgoing(model_id.encode(), data)])
        metrics.MODELS_PUBLISHED.inc()
        log.info("learn: %s, %d examples, through offset %d, %d bytes", model_id, student.examples, student.through, len(data))

    def _id_of(self, data: bytes) -> str:
        return read_snapshot(data, self._key.verify_key).id

    def _told(self, example: Example, said: float | None) -> None:
        """Count an example, and say how well it was foreseen."""
        metrics.LEARNED.labels(str(example.label).lower(), example.source).inc()
        if said is not None:
            self._loss("learner", sigmoid(said), example)
        if example.probability is not None:
            self._loss("champion", example.probability, example)

    def _loss(self, role: str, probability: float, example: Example) -> None:
        p = min(max(probability, LEAST_P), 1 - LEAST_P)
        loss = -ln(p if example.label else 1 - p)
        share = min(1.0, MEMORY * example.weight)
        self._losses[role] = loss if role not in self._losses else self._losses[role] + share * (loss - self._losses[role])
        metrics.LEARN_LOSS.labels(role).set(self._losses[role])

    async def tick(self) -> None:
        """Raise what a restore has raised, and read on from where the snapshot ends, even where no batch comes."""
        claim = self._claim
        if claim is None or not claim.done() or claim.cancelled():
            return
        claim.result()
        if not self._resumed and self._student is not None and self._reader is not None:
            await self._reader.rewind(self._tp, self._student.through)


def decoded(record: Record) -> Example:
    """The example in a record. Raises InvalidEvent."""
    if record.value is None:
        raise InvalidEvent("no_value", "a record of examples has a value")
    return decode_example(record.value)
