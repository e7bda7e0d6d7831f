"""How does a stage run on Faust? Faust carries offsets and rebalances; this carries each batch through the stage and settles it.

One task per batch, so that while the sends of one partition are under way the others are folded. A batch is settled when all its
effects are durable; a failure ends the worker before anything of it is committed, and the platform starts it again.
"""

import asyncio
import logging
from typing import Any

from faust.exceptions import ConsumerNotStarted
from faust.types.tuples import TP, ConsumerMessage
from mode import Service

from pipeline.live import metrics
from pipeline.live.batch import Batch
from pipeline.live.failure import exit_of
from pipeline.live.health import Health
from pipeline.live.outbox import Outbox
from pipeline.live.stage import ReadAgain, Stage
from pipeline.live.transport import BatchTransport

log = logging.getLogger(__name__)
TICK_S = 0.25
LOOK_EVERY = 8  # ticks between two looks at the progress


async def _subscribe(stream: Any) -> None:
    """An agent, so that Faust subscribes to its topics; batches do not come this way."""
    async for event in stream:
        raise RuntimeError(f"{event!r} came through a stream, and not from the batch consumer")


class Runner(Service):  # type: ignore[misc]  # mode carries no types that mypy could follow
    """Owns the stage, its outbox and its batches; started before the Faust app and stopped after it."""

    def __init__(self, app: Any, stage: Stage, outbox: Outbox, health: Health) -> None:
        """``app``: a Faust app that is not started; ``outbox``: not entered."""
        super().__init__()
        self.app = app
        self.stage = stage
        self._outbox = outbox
        self._health = health
        self._sources = frozenset(stage.sources)
        self._tasks: set[asyncio.Task[None]] = set()
        self._preparing: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self.failure: Exception | None = None  # what ended the worker: the first thing that went wrong
        self._draining = False  # what only waits is given up, from the start of a rebalance (or the end) to the next assignment
        app.transport = BatchTransport(app, stage.admission, self._deliver, self._assigned, self._drain)
        topic = app.topic(*stage.sources, key_type=None, value_type=None, key_serializer="raw", value_serializer="raw")
        app.agent(topic, name=stage.name, concurrency=1)(_subscribe)
        health.expect(stage.name)

    def _deliver(self, message: ConsumerMessage) -> None:
        task = asyncio.create_task(self._carry(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def on_start(self) -> None:
        """Connect, learn the target topics, start the stage. Raises when a topic is missing or no broker answers."""
        await self._outbox.__aenter__()
        await self._outbox.measure(self.stage.targets)
        await self._outbox.know(self.stage.targets)
        await self.stage.start(self._outbox, self)
        self._ticking = asyncio.create_task(self._tick())

    async def on_stop(self) -> None:
        """End what is left; after a graceful stop there is nothing."""
        left = [*self._tasks, *([self._ticking] if self._ticking is not None else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.stage.stop()
        await self._outbox.__aexit__(None, None, None)

    def read_to(self, tp: TP) -> int | None:
        """Up to which arrival time (ms) nothing of the partition is still to be handled; None when that is not known."""
        found: int | None = self.app.consumer.read_to(tp)
        return found

    def committed(self, tp: TP) -> int | None:
        """The offset that the consumer group has committed for the partition; None while there is none or it is not known."""
        found: int | None = self.app.consumer.committed(tp)
        return found

    async def rewind(self, tp: TP, offset: int) -> None:
        """Read a partition again from ``offset`` if its position is beyond; one with a batch in hand is left alone."""
        await self.app.consumer.rewind(tp, offset)

    def _assigned(self, tps: set[TP], generation: int) -> None:
        self._draining = False
        self.stage.assigned(tps, generation)
        self._health.joined(self.stage.name)

    def _drain(self) -> None:
        if self.app.should_stop:  # else it is a rebalance
            self._outbox.hurry()
        self._draining = True
        for task in self._preparing:
            task.cancel()

    async def _carry(self, message: ConsumerMessage) -> None:
        consumer = self.app.consumer
        batch: Batch = message.value
        try:
            await self._prepare(batch)
            batch.waits = False
            await self.stage.handle(batch)
            consumer.settle(message)
            metrics.RECORDS_READ.labels(self.stage.name, batch.tp.topic).inc(len(batch.records))
            metrics.BATCH_RECORDS.labels(self.stage.name).observe(len(batch.records))
        except asyncio.CancelledError:
            consumer.drop(message)
        except ReadAgain as e:
            await self._read_again(message, e.offset)
        except Exception as e:
            await self._fail(e)
            consumer.drop(message)

    async def _read_again(self, message: ConsumerMessage, offset: int) -> None:
        log.info("%s: reading %s again from offset %d", self.stage.name, message.value.tp, offset)
        try:
            await self.app.consumer.give_back(message, offset)
        except Exception as e:
            await self._fail(e)
        finally:
            self.app.consumer.drop(message)  # Faust waits for every message it has tracked, whatever became of it

    async def _prepare(self, batch: Batch) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._draining:  # it was on its way to us when the others were given up
            raise asyncio.CancelledError
        self._preparing.add(task)
        try:
            await self.stage.prepare(batch)
        finally:
            self._preparing.discard(task)
        if batch.generation != self.app.consumer_generation_id:
            raise asyncio.CancelledError

    async def _fail(self, error: Exception) -> None:
        """End the worker. What is in hand is not committed."""
        if self.failure is None:
            self.failure = error
            log.error(
                "%s: ending the worker: %s: %s", self.stage.name, type(error).__name__, error, extra={"action": exit_of(error).action}
            )  # fmt: skip
            await self.app.crash(error)

    async def _tick(self) -> None:
        count = 0
        while not self.should_stop:
            await asyncio.sleep(TICK_S)
            if self.app.rebalancing:
                continue
            try:
                if self._owns():
                    await self.stage.tick()
                    count += 1
                    if not count % LOOK_EVERY:
                        self._look()
            except Exception as e:
                await self._fail(e)
            self._health.looked(self.stage.name)  # a tick that hangs is told by its absence

    def _owns(self) -> bool:
        """Whether partitions are ours; while the app is still being started, its consumer cannot tell."""
        try:
            return bool(self.app.consumer.assignment())
        except ConsumerNotStarted:
            return False

    def _look(self) -> None:
        name = self.stage.name
        for tp in self.app.consumer.assignment():
            progress = self.app.consumer.progress(tp) if tp.topic in self._sources else None
            if progress is not None:
                self._health.observed(name, tp.topic, tp.partition, *progress)
