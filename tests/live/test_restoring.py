"""Is a restore that hangs told from one that is slow? Asked of every stage that restores, on a changelog of the test's own."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from faust.types.tuples import TP
from nacl.signing import SigningKey

from pipeline.core.policy import Policy
from pipeline.live import audit_worker, metrics
from pipeline.live.audit import OtherBuild
from pipeline.live.audit_worker import AuditWorker
from pipeline.live.folding import RESTORES_AT_ONCE
from pipeline.live.health import RESTORE_STALLED_S, Health
from pipeline.live.learn import LearnStage
from pipeline.live.mismatch import Build, Mismatch
from pipeline.live.route import RouteStage
from pipeline.settings import Settings
from pipeline.wire.dead_letter import DeadLetters
from tests.live.test_claims import Broker

HELD = 2 * RESTORES_AT_ONCE + 1  # partitions: most of them wait for their turn
RARELY_S = 0.9 * RESTORE_STALLED_S


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Changelog:
    """A reader of a changelog that hands out a chunk of three whenever the test says, until it has said that this was all."""

    def __init__(self, chunks: "asyncio.Queue[int]") -> None:
        self._chunks = chunks
        self.tell: Callable[[int], None]

    async def __aenter__(self) -> "Changelog":
        return self

    async def __aexit__(self, *error: object) -> None: ...

    async def read(self, position: int, take: Callable[[bytes, bytes | None], None]) -> int:
        while records := await self._chunks.get():
            self.tell(records)
        return position

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, 0


async def settled() -> None:
    """Let everything run as far as it gets."""
    for _ in range(50):
        await asyncio.sleep(0)


def counted(stage: str) -> float:
    return metrics.REGISTRY.get_sample_value("offhook_restored_records_total", {"stage": stage}) or 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def routing(health: Health, chunks: "asyncio.Queue[int]") -> RouteStage:
    """A stage that folds, started, whose changelogs hand out what comes in ``chunks``."""
    open_changelog: Any = lambda topic, partition: Changelog(chunks)  # noqa: E731
    stage = RouteStage(Policy(), 1000, "", open_changelog, DeadLetters("reference"), health)
    broker: Any = Broker()
    await stage.start(broker, broker)
    return stage


def test_a_folding_stage_says_what_its_restores_read(clock: Clock) -> None:
    async def story() -> None:
        health, chunks = Health(clock), asyncio.Queue[int]()
        stage = await routing(health, chunks)
        stage.assigned({TP("lines", number) for number in range(HELD)}, 1)
        await settled()
        before = counted("route")
        for _ in range(3):
            clock.now += RARELY_S
            assert health.alive().ok, "slow is not dead, nor is what waits for its turn"
            chunks.put_nowait(3)
            await settled()
        assert counted("route") - before == 9
        clock.now += RESTORE_STALLED_S + 1
        problems = health.alive().problems
        assert len(problems) == HELD
        assert problems[0] == "route: lines-0 is being restored, and no restore of this stage has read anything for 301 s"
        for _ in range(HELD):
            chunks.put_nowait(0)
        await asyncio.gather(*[held.claim for held in stage._held.values() if held.claim is not None])
        clock.now += RESTORE_STALLED_S + 1
        assert health.alive().ok
        assert health.ready().ok
        await stage.stop()

    asyncio.run(story())


def test_a_partition_that_had_to_wait_for_a_batch_under_way_has_its_time_from_then_on(clock: Clock) -> None:
    async def story() -> None:
        health, chunks = Health(clock), asyncio.Queue[int]()
        stage = await routing(health, chunks)
        chunks.put_nowait(0)
        stage.assigned({TP("lines", 0)}, 1)
        await settled()
        async with stage._held[0].turn:  # as a batch has it
            stage.assigned({TP("lines", 0)}, 2)
            clock.now += RARELY_S
            await settled()
            assert health.alive().ok
        await settled()
        clock.now += RARELY_S
        assert health.alive().ok
        clock.now += RARELY_S
        assert not health.alive().ok
        await stage.stop()

    asyncio.run(story())


def test_the_learner_says_what_its_restore_reads(clock: Clock) -> None:
    async def story() -> None:
        health, chunks = Health(clock), asyncio.Queue[int]()
        open_changelog: Any = lambda topic, partition: Changelog(chunks)  # noqa: E731
        stage = LearnStage(Policy(), SigningKey(b"\x11" * 32), "", open_changelog, DeadLetters("reference"), health)
        stage.assigned({TP("examples", 0)}, 1)
        await settled()
        before = counted("learn")
        clock.now += RARELY_S
        chunks.put_nowait(3)
        await settled()
        assert counted("learn") - before == 3
        clock.now += RARELY_S
        assert health.alive().ok
        clock.now += RARELY_S
        assert health.alive().problems == ("learn: examples-0 is being restored, and no restore of this stage has read anything for 540 s",)
        chunks.put_nowait(0)
        assert stage._claim is not None
        await stage._claim
        assert health.alive().ok
        await stage.stop()

    asyncio.run(story())


class Compared:
    """Where the topics would be: nothing of ``detect-state`` comes but what a test says that was read."""

    def places(self, topic: str) -> list[TP]:
        return [TP(topic, 0)]


def test_an_audit_that_begins_is_like_a_restore_and_one_that_waits_for_its_build_is_not(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    health, stop = Health(clock), asyncio.Event()
    worker = AuditWorker(Settings(), health, stop)

    class Audit:
        def __init__(self, *_: object) -> None: ...

        async def begin(self) -> None:
            before = counted("audit")
            for records in (3, 3):
                clock.now += RARELY_S
                worker._looked(records)
                assert health.alive().ok
            assert counted("audit") - before == 6
            for _ in range(4):
                clock.now += 0.4 * RESTORE_STALLED_S
                worker._looked(0)  # it goes round, and nothing comes
            assert "audit: events-0 is being restored, and no restore of this stage has read anything for 480 s" in health.alive().problems
            raise OtherBuild(Build("p_other", "m_other", "0"))

    async def story() -> None:
        await worker._follow(Compared())  # type: ignore[arg-type]

    monkeypatch.setattr(audit_worker, "Audit", Audit)
    with pytest.raises(OtherBuild):
        asyncio.run(story())
    asyncio.run(worker._wait(0.01))
    clock.now += 0.3 * RESTORE_STALLED_S
    assert health.alive().ok, "there is nothing to read for a worker of another build"


def test_what_an_audit_reads_once_it_has_begun_is_no_restore(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    health, stop = Health(clock), asyncio.Event()
    worker = AuditWorker(Settings(), health, stop)

    class Audit:
        parities = ()

        def __init__(self, *_: object) -> None: ...

        async def begin(self) -> None:
            worker._looked(3)

        async def round(self) -> list[Mismatch]:
            worker._looked(5)
            stop.set()
            return []

    class Empty(Compared):
        async def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
            return {}

    async def story() -> None:
        await worker._follow(Empty())  # type: ignore[arg-type]

    before = counted("audit")
    monkeypatch.setattr(audit_worker, "Audit", Audit)
    asyncio.run(story())
    assert stop.is_set()
    assert counted("audit") - before == 3
