"""What does a claim leave behind? Nothing that waits for a collection: workers collect seldom, and are rebalanced often."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from faust.types.tuples import TP

from pipeline.core.policy import Policy
from pipeline.live.health import Health
from pipeline.live.outbox import Landed, Outgoing
from pipeline.live.route import RouteStage
from pipeline.wire.dead_letter import DeadLetters


class Consumer:
    """As aiokafka's after it was stopped: in a cycle, with what it has fetched."""

    def __init__(self) -> None:
        self.own = self


class EmptyChangelog:
    """A reader of a changelog that holds nothing."""

    def __init__(self, opened: list["weakref.ref[Consumer]"]) -> None:
        self._consumer = Consumer()
        opened.append(weakref.ref(self._consumer))

    async def __aenter__(self) -> "EmptyChangelog":
        return self

    async def __aexit__(self, *error: object) -> None: ...

    async def read(self, position: int, take: Callable[[bytes, bytes | None], None]) -> int:
        await asyncio.sleep(0.01)
        return position

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, 0


class Broker:
    """Takes what is appended."""

    async def append(self, topic: str, partition: int, records: list[Outgoing]) -> list[Landed]:
        return [Landed(0, len(records))]


@pytest.mark.parametrize("partitions", [1, 3, 5])
def test_one_collection_behind_the_last_claim_of_a_rebalance(partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Consumer]] = []
    collections = []
    collect = gc.collect
    monkeypatch.setattr(gc, "collect", lambda: collections.append(len(opened)) or collect())

    async def rebalanced() -> None:
        health = Health()
        health.expect("route")
        stage = RouteStage(Policy(), 1000, "", lambda topic, partition: EmptyChangelog(opened), DeadLetters("reference"), health)  # type: ignore[arg-type, return-value]
        broker: Any = Broker()
        await stage.start(broker, broker)
        stage.assigned({TP("lines", number) for number in range(partitions)}, 1)
        await asyncio.gather(*[held.claim for held in stage._held.values() if held.claim is not None])
        await stage.stop()

    gc.disable()
    try:
        asyncio.run(rebalanced())
        assert collections == [partitions]
        assert [consumer for consumer in opened if consumer() is not None] == []
    finally:
        gc.enable()
