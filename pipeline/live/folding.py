"""How does a stage with state handle a batch? Fold it record by record, send what that leads to, write down the state, in that order.

What route and detect share. A batch waits until its partition is restored and claimed; a record that trips a bug of ours becomes a
dead letter and its entity is set aside (``quarantine``), its neighbours go on.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from faust.types.tuples import TP

from pipeline.core.errors import InvalidEvent
from pipeline.core.policy import Policy
from pipeline.core.store import Encoded, InMemory
from pipeline.live import metrics
from pipeline.live.batch import Batch, OpenAdmission, Record
from pipeline.live.bug import Bug
from pipeline.live.effects import Effects
from pipeline.live.health import Health
from pipeline.live.memory import give_back
from pipeline.live.outbox import Outbox
from pipeline.live.quarantine import Quarantine
from pipeline.live.stage import ReadAgain, Reader
from pipeline.live.state import Fold, OpenChangelog, Overtaken, OwnedState, StateMissing
from pipeline.wire.dead_letter import DeadLetters

log = logging.getLogger(__name__)
RESTORES_AT_ONCE = 4
SET_ASIDE = "it is set aside since a bug of ours"
Place = Callable[[str, int], Encoded]  # of the state of a stage's partition
TURN_S = 0.010  # how long a fold may keep the event loop to itself
LOOK_EVERY = 32  # records between two looks at the clock


class CachingFold(Fold, Protocol):
    """A fold that keeps a bounded number of its values decoded."""

    def resize(self, cached: int, /) -> None:
        """Keep at most so many from now on."""


F = TypeVar("F", bound=CachingFold)


class Turns:
    """Keeps a long loop from holding the event loop for itself."""

    def __init__(self) -> None:
        self._count = 0
        self._until = time.monotonic() + TURN_S

    def over(self) -> bool:
        """Is it time to let others run? Cheap: looks at the clock now and then."""
        self._count += 1
        return not self._count % LOOK_EVERY and time.monotonic() > self._until

    async def give(self) -> None:
        """Let others run."""
        await asyncio.sleep(0)
        self._until = time.monotonic() + TURN_S


def in_memory(stage: str, partition: int) -> Encoded:
    """Keep the state of a partition in memory."""
    return InMemory()


class Held(Generic[F]):
    """A partition that is ours: its fold, its state, and the task that restores and claims it."""

    def __init__(self, fold: F, quarantine: Quarantine, state: OwnedState) -> None:
        self.fold = fold
        self.quarantine = quarantine
        self.state = state
        self.claim: asyncio.Task[None] | None = None
        # A claim beside a batch under way would write down the clock as it is in memory, ahead of what is durable: not waiting for
        # the batch at a rebalance (Faust waits, but not when the session was lost), it made a restarted worker skip records.
        self.turn = asyncio.Lock()
        self.resumed = False  # has the first batch after the claim been checked against the clock?
        self.gap = -1  # behind this offset records were missing, and were asked for again: a topic may have holes


class FoldingStage(ABC, Generic[F]):
    """A stage that folds one topic into state of its own. Topic names are without prefix."""

    name: str
    source: str
    changelog: str
    outputs: tuple[str, ...]

    def __init__(
        self,
        policy: Policy,
        cached: int,
        prefix: str,
        open_changelog: OpenChangelog,
        letters: DeadLetters,
        health: Health,
        place: Place = in_memory,
        without_state: bool = False,
    ) -> None:
        """``cached``: how many decoded values are kept in this process; ``place``: where the others are.

        ``without_state``: start where nothing is kept of input that was read.
        """
        self.sources: tuple[str, ...] = (prefix + self.source,)
        self.targets = tuple(prefix + target for target in (*self.outputs, self.changelog))
        self._policy = policy
        self.admission = OpenAdmission()
        self._changelog = prefix + self.changelog
        self._prefix = prefix
        self._open_changelog = open_changelog
        self._letters = letters
        self._health = health
        self._cached = cached
        self._place = place
        self._without_state = without_state
        self._held: dict[int, Held[F]] = {}
        self._restores = asyncio.Semaphore(RESTORES_AT_ONCE)
        self._outbox: Outbox | None = None
        self._reader: Reader | None = None

    @abstractmethod
    def new_fold(self, encoded: Callable[[], Encoded]) -> F:
        """An empty fold of one partition, whose encoded values are where ``encoded`` says."""

    @abstractmethod
    def fold(self, held: Held[F], batch: Batch, record: Record, effects: Effects) -> None:
        """Fold one record and add what it leads to. Raises InvalidEvent for bytes that are no event, Bug for a fault of ours."""

    async def start(self, outbox: Outbox, reader: Reader) -> None:
        """Take the outbox and the reader."""
        self._outbox, self._reader = outbox, reader

    async def stop(self) -> None:
        """End the restores that are still running."""
        tasks = [held.claim for held in self._held.values() if held.claim is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def assigned(self, tps: set[TP], generation: int) -> None:
        """Restore what is new, catch up on what stays, let go of what went; all on the side."""
        assert self._outbox is not None, "partitions are assigned after the start"
        ours = {tp.partition for tp in tps if tp.topic in self.sources}
        for partition in list(self._held):
            held = self._held[partition]
            if held.claim is not None:
                held.claim.cancel()
            if partition not in ours:
                held.fold.drop()
                del self._held[partition]
                self._health.revoked(self.name, self.sources[0], partition)
        for partition in ours:
            kept = self._held.get(partition)
            if kept is None:
                fold = self.new_fold(partial(self._place, self.name, partition))
                quarantine = Quarantine(fold)
                state = OwnedState(quarantine, self._changelog, self.sources[0], partition, self._open_changelog, self._outbox)
                kept = self._held[partition] = Held(fold, quarantine, state)
            kept.resumed, kept.gap = False, -1
            self._health.assigned(self.name, self.sources[0], partition)
            kept.claim = asyncio.create_task(self._claim(partition, kept, kept.claim, generation))
        for held in self._held.values():
            held.fold.resize(max(1, self._cached // len(self._held)))

    async def _claim(self, partition: int, held: Held[F], before: "asyncio.Task[None] | None", generation: int) -> None:
        if before is not None:
            await asyncio.wait([before])  # two claims of one partition must not meet
        async with held.turn:
            self._health.progressed(self.name)  # a batch under way, if there was one, has ended
            async with self._restores:
                started = time.monotonic()
                await held.state.claim(generation, partial(self._health.progressed, self.name))
                seconds = time.monotonic() - started
        metrics.RESTORE_SECONDS.labels(self.name).observe(seconds)
        self._health.restored(self.name, self.sources[0], partition)
        state = held.state
        log.info("%s: %s is ours, epoch %d, %d entities, after %.2f s", self.name, state, state.epoch, len(state), seconds)
        if not any(other.claim is not None and not other.claim.done() for other in self._held.values() if other is not held):
            give_back()

    async def prepare(self, batch: Batch) -> None:
        """Wait until the batch's partition is claimed. Raises what the claim raised."""
        held = self._held.get(batch.tp.partition)
        if held is None or held.claim is None:
            raise asyncio.CancelledError
        await asyncio.shield(held.claim)

    async def handle(self, batch: Batch) -> None:
        """Fold, send, persist. Records that the durable state already speaks for are skipped."""
        held = self._held[batch.tp.partition]
        async with held.turn:
            await self._handle(held, batch)

    async def _handle(self, held: Held[F], batch: Batch) -> None:
        state = held.state
        if not held.resumed:
            self._require_state(batch.tp, state)
            held.resumed = True
        if 0 <= state.folded < batch.first - 1 and held.gap != state.folded:
            held.gap = state.folded
            raise ReadAgain(state.folded + 1)
        if batch.last <= state.folded:
            metrics.DUPLICATES.labels(self.name).inc(len(batch.records))
            return
        assert self._outbox is not None
        effects = Effects(self._outbox, self._prefix)
        started = time.monotonic()
        await self._fold(held, batch, effects)
        folded = time.monotonic()
        batch.waits = True
        await effects.send()
        foreign = state.foreign
        try:
            await state.persist(batch.last)
        except Overtaken as e:  # we are about to be told of a rebalance; if not, the partition stands still and liveness fails
            action = "nothing, unless it goes on: then two workers own the partition; restart both"
            log.warning("%s: %s; the batch is given up", self.name, e, extra={"action": action})
            raise asyncio.CancelledError from e
        metrics.FOLD_SECONDS.labels(self.name).observe(folded - started)
        metrics.PRODUCE_SECONDS.labels(self.name).observe(time.monotonic() - folded)
        metrics.FOREIGN_WRITES.labels(self.name).inc(state.foreign - foreign)

    async def _fold(self, held: Held[F], batch: Batch, effects: Effects) -> None:
        turns = Turns()
        folded, fold = held.state.folded, self.fold
        for record in batch.records:
            if record.offset <= folded:
                metrics.DUPLICATES.labels(self.name).inc()
            else:
                try:
                    fold(held, batch, record, effects)
                except InvalidEvent as e:
                    metrics.DEAD_LETTERS.labels(batch.tp.topic, e.reason).inc()
                    effects.refuse(self._letters, batch, record, e.reason, e.detail)
                except Bug as e:
                    self.set_aside(held, batch, record, e)
                    metrics.DEAD_LETTERS.labels(batch.tp.topic, "bug").inc()
                    effects.refuse(self._letters, batch, record, "bug", str(e))
                if effects.unsendable:
                    effects.refuse_unsendable(self._letters, batch, record)
            if turns.over():
                await turns.give()

    def set_aside(self, held: Held[F], batch: Batch, record: Record, bug: Bug) -> None:
        """Fold nothing more of the entity that tripped a bug; where it is not known, leave out the record alone."""
        log.error(
            "%s: a bug of ours at %s offset %d, its account or line is set aside: %s", self.name, batch.tp, record.offset, bug,
            extra={"action": "report the place named; a corrected version folds it again from there, or `offhook quarantine release`"},
        )  # fmt: skip
        metrics.QUARANTINED.inc()
        if bug.entity:
            held.quarantine.add(bug.entity, record.offset, str(bug))

    def _require_state(self, tp: TP, state: OwnedState) -> None:
        """Raise StateMissing where input was read and nothing is kept of it, unless that is wanted."""
        assert self._reader is not None
        committed = self._reader.committed(tp)
        if state.folded >= 0 or not committed or self._without_state:
            return
        raise StateMissing(
            f"{state} was read up to offset {committed}, and {self._changelog}-{tp.partition} holds nothing of it: was the changelog"
            " deleted? Restore the topic; or set the group's offsets back, to fold again what the input still holds; or set"
            " OFFHOOK_START_WITHOUT_STATE=true once, to go on as if nothing had been known"
        )

    async def tick(self) -> None:
        """Raise what a restore has raised, and read on from where the state ends, even where no batch comes."""
        assert self._reader is not None
        metrics.STATE_ENTITIES.labels(self.name).set(sum(len(held.state) for held in self._held.values()))
        metrics.SET_ASIDE.labels(self.name).set(sum(len(held.quarantine.entities) for held in self._held.values()))
        metrics.STATE_BYTES.labels(self.name).set(sum(held.fold.size for held in self._held.values()))
        for partition, held in list(self._held.items()):
            if held.claim is not None and held.claim.done() and not held.claim.cancelled():
                held.claim.result()
                if not held.resumed:
                    tp = TP(self.sources[0], partition)
                    self._require_state(tp, held.state)
                    if held.state.folded >= 0:
                        await self._reader.rewind(tp, held.state.folded + 1)
