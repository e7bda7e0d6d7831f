"""What does a claim leave behind? Nothing that waits for a collection: workers collect seldom, and are rebalanced often.

And what if records are missing behind what is folded? They are asked for again, once.
"""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from faust.types.tuples import TP

from pipeline.core.policy import Policy
from pipeline.live.batch import Batch
from pipeline.live.effects import Effects
from pipeline.live.health import Health
from pipeline.live.outbox import Landed, Outgoing
from pipeline.live.route import RouteStage
from pipeline.live.stage import ReadAgain
from pipeline.live.state import OwnedState
from pipeline.wire.dead_letter import DeadLetters
from tests.live.test_align import Fetched


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

    def committed(self, tp: TP) -> None:
        """Nobody has committed anything."""


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


def test_records_that_are_missing_behind_what_is_folded_are_read_again_once_wherever_they_are_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def persisted(state: OwnedState, offset: int) -> int:
        state.folded = offset
        return 0

    async def sent(effects: Effects) -> None: ...

    monkeypatch.setattr(OwnedState, "persist", persisted)
    monkeypatch.setattr(Effects, "send", sent)
    folded: list[int] = []

    async def asked(stage: RouteStage, first: int, last: int) -> int | None:
        """Hand out a batch; from which offset the stage wants to read again, None where it has folded it."""
        try:
            await stage.handle(Batch(TP("lines", 0), 1, [Fetched(0, offset) for offset in range(first, last + 1)]))
        except ReadAgain as e:
            return e.offset
        return None

    async def handed() -> None:
        health = Health()
        health.expect("route")
        stage = RouteStage(Policy(), 1000, "", lambda topic, partition: EmptyChangelog([]), DeadLetters("reference"), health)  # type: ignore[arg-type, return-value]
        monkeypatch.setattr(stage, "fold", lambda held, batch, record, effects: folded.append(record.offset))
        broker: Any = Broker()
        await stage.start(broker, broker)
        stage.assigned({TP("lines", 0)}, 1)
        (held,) = stage._held.values()
        assert held.claim is not None
        await held.claim
        held.state.folded = 2
        assert await asked(stage, 5, 5) == 3, "the first batch after the claim"
        assert await asked(stage, 3, 5) is None
        assert await asked(stage, 8, 9) == 6, "and any other"
        assert await asked(stage, 6, 9) is None
        assert await asked(stage, 12, 13) == 10
        assert await asked(stage, 12, 13) is None, "the topic has a hole there"
        assert await asked(stage, 16, 16) == 14
        await stage.stop()

    asyncio.run(handed())
    assert folded == [3, 4, 5, 6, 7, 8, 9, 12, 13]
