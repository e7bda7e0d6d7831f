"""Does a worker settle every batch it was handed, whatever happens to it on the way? The runner with a stage of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types.tuples import TP, ConsumerMessage

from pipeline.live import folding as folding_module
from pipeline.live import ingest as ingest_module
from pipeline.live import runner as runner_module
from pipeline.live.batch import Batch, OpenAdmission
from pipeline.live.folding import FoldingStage
from pipeline.live.health import Health
from pipeline.live.ingest import IngestStage
from pipeline.live.runner import Runner
from pipeline.live.stage import ReadAgain
from tests.live.test_align import Fetched

A = TP("events", 0)


class OneStage:
    """A stage that does what the test says with a batch."""

    name = "detect"
    sources = ("events",)
    targets: tuple[str, ...] = ()
    admission = OpenAdmission()

    def __init__(self) -> None:
        self.ticks = 0
        self.restored = asyncio.Event()
        self.on_handle: Callable[[], None] = lambda: None

    async def start(self, *_: Any) -> None: ...

    async def stop(self) -> None: ...

    def assigned(self, tps: Collection[TP], generation: int) -> None: ...

    async def prepare(self, batch: Batch) -> None:
        await self.restored.wait()

    async def handle(self, batch: Batch) -> None:
        self.on_handle()

    async def tick(self) -> None:
        self.ticks += 1


class Rig:
    """A runner on an app that is never started, and what became of its batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = faust.App("runner", broker="kafka://localhost:1")
        self.stage = OneStage()
        self.runner = Runner(self.app, self.stage, {}, Health())
        self.consumer = self.app.consumer
        self.app.consumer_generation_id = 1
        self.crashed: list[BaseException] = []
        self.message = ConsumerMessage(
            A.topic, A.partition, 0, 0.0, 0, None, None, Batch(A, 1, [Fetched(0, 0)]), None, None, None, A, generation_id=1
        )
        self.consumer._out[A] = self.message
        monkeypatch.setattr(self.app, "crash", self._crash)

    async def _crash(self, error: BaseException) -> None:
        self.crashed.append(error)

    async def carry(self) -> "asyncio.Task[None]":
        task = asyncio.create_task(self.runner._carry(self.message))
        await asyncio.sleep(0)
        return task


def run(script: Callable[[Rig], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    async def within() -> None:
        rig = Rig(monkeypatch)
        try:
            await asyncio.wait_for(script(rig), 30)
        finally:
            rig.consumer._thread.thread_loop.close()

    asyncio.run(within())


def test_a_batch_that_waits_when_a_rebalance_begins_is_given_up_and_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(rig: Rig) -> None:
        task = await rig.carry()
        rig.runner._drain()
        await task
        assert rig.message.acked
        assert rig.consumer._new_offset(A) is None

    run(script, monkeypatch)


def test_a_batch_that_comes_after_a_rebalance_has_begun_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust waits for it before it lets go of the partitions, and a restore may take longer than the group waits for us."""

    async def script(rig: Rig) -> None:
        rig.runner._drain()
        await (await rig.carry())
        assert rig.message.acked
        assert rig.consumer._new_offset(A) is None

    run(script, monkeypatch)


def test_a_batch_after_the_next_assignment_is_handled_and_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(rig: Rig) -> None:
        rig.runner._drain()
        rig.runner._assigned({A}, 1)
        rig.stage.restored.set()
        await (await rig.carry())
        assert rig.consumer._new_offset(A) == 1

    run(script, monkeypatch)


def test_a_partition_that_cannot_be_sought_back_ends_the_worker_and_nobody_waits_for_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(rig: Rig) -> None:
        def again() -> None:
            raise ReadAgain(0)

        async def fails(*_: Any) -> None:
            raise TimeoutError

        monkeypatch.setattr(rig.consumer, "seek_wait", fails)
        rig.stage.on_handle = again
        rig.stage.restored.set()
        await (await rig.carry())
        assert [type(error) for error in rig.crashed] == [TimeoutError]
        assert rig.message.acked
        assert rig.consumer._new_offset(A) is None

    run(script, monkeypatch)


def test_the_clock_ticks_on_when_the_app_takes_long_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its consumer knows nothing of an assignment before it runs, and says so with an exception."""

    async def script(rig: Rig) -> None:
        monkeypatch.setattr(runner_module, "TICK_S", 0.001)
        ticking = asyncio.create_task(rig.runner._tick())
        await asyncio.sleep(0.05)
        assert not ticking.done()
        monkeypatch.setattr(rig.consumer, "assignment", lambda: {A})
        while rig.stage.ticks < 3:
            await asyncio.sleep(0.001)
        ticking.cancel()
        await asyncio.wait([ticking])
        assert not rig.crashed

    run(script, monkeypatch)


def test_a_batch_counts_as_work_while_it_is_computed_and_not_while_others_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer fetches nothing more while there is too much work: what only waits must not count, and what is computed must."""
    seen: list[tuple[str, bool]] = []

    async def script(rig: Rig) -> None:
        batch: Batch = rig.message.value
        rig.stage.on_handle = lambda: seen.append(("handed over", batch.waits))
        task = await rig.carry()
        seen.append(("restoring", batch.waits))
        rig.stage.restored.set()
        await task

    run(script, monkeypatch)
    assert seen == [("restoring", True), ("handed over", False)]


class Sent:
    """Effects that note whether their batch waits while they are sent."""

    unsendable: tuple[()] = ()

    def __init__(self, *_: object) -> None: ...

    def add(self, *_: object) -> None: ...

    async def send(self) -> None:
        WAITED.append(BATCH.waits)


BATCH = Batch(A, 1, [Fetched(0, 0)])
WAITED: list[bool] = []


def test_folding_and_ingest_say_that_a_batch_waits_once_they_have_computed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None: ...

    state = SimpleNamespace(folded=-1, foreign=0, persist=nothing)
    folding = SimpleNamespace(name="detect", _outbox=object(), _prefix="", _fold=nothing)
    ingest = SimpleNamespace(
        name="ingest", _outbox=object(), _prefix="", _feed={A.topic: "logins"}, _suspended=(), _read=lambda *_: (), _letters=None,
        _flood=SimpleNamespace(floods=lambda *_: False), _read_up_to=lambda *_: None, _beats=SimpleNamespace(is_due=lambda at: False),
    )  # fmt: skip
    WAITED.clear()
    monkeypatch.setattr(folding_module, "Effects", Sent)
    monkeypatch.setattr(ingest_module, "Effects", Sent)
    for handled in (
        FoldingStage._handle(folding, SimpleNamespace(state=state, resumed=True), BATCH),  # type: ignore[arg-type]
        IngestStage.handle(ingest, BATCH),  # type: ignore[arg-type]
    ):
        BATCH.waits = False
        asyncio.run(handled)
    assert WAITED == [True, True]
