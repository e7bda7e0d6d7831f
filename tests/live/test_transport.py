"""What becomes of fetched records when a partition is sought back, or all are forgotten, at an awkward moment? Without a broker."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import faust
import pytest
from faust.types.tuples import TP, ConsumerMessage
from mode import Service

from pipeline.live.batch import OpenAdmission
from pipeline.live.transport import BatchConsumer, BatchTransport
from tests.live.test_align import Fetched

A, B = TP("events", 0), TP("events", 1)


class ScriptedThread(Service):
    """What stands in for Faust's consumer thread."""

    def __init__(self, consumer: "ScriptedConsumer") -> None:
        super().__init__()
        self._consumer = consumer

    def read_state(self, tp: TP) -> tuple[int | None, int | None, int | None]:
        return self._consumer.at[tp], len(self._consumer.logs[tp]), 0


class ScriptedConsumer(BatchConsumer):
    """A consumer whose broker is a list: each fetch gives the records from the position on, after ``meanwhile`` ran."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logs = {A: list(range(10)), B: list(range(10))}
        self.at = {A: 0, B: 0}
        self.meanwhile: Callable[[], Any] | None = None

    def _new_consumer_thread(self) -> Any:
        return ScriptedThread(self)

    def highwater(self, tp: TP) -> int:
        return len(self.logs[tp])

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self.at.update(partitions)

    async def _wait_next_records(self, timeout: float) -> tuple[Mapping[TP, Sequence[Any]], set[TP]]:
        found = {tp: [Fetched(0, offset) for offset in log[self.at[tp] :]] for tp, log in self.logs.items()}
        for tp, records in found.items():
            self.at[tp] += len(records)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return {tp: records for tp, records in found.items() if records}, set(self.logs)

    async def handed(self) -> dict[TP, list[int]]:
        """What one round of fetching hands out, as offsets."""
        return {message.tp: offsets(message) async for _, message in self.getmany(0)}


def offsets(message: ConsumerMessage) -> list[int]:
    return [record.offset for record in message.value.records]


Script = Callable[[ScriptedConsumer], Awaitable[None]]


def run(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script with a consumer of an app that is never started."""

    async def within() -> None:
        app = faust.App("transport", broker="kafka://localhost:1")
        monkeypatch.setattr(BatchTransport, "Consumer", ScriptedConsumer)
        app.transport = BatchTransport(app, OpenAdmission(), lambda tps, generation: None, lambda: None)
        app.flow_control.resume()
        consumer = app.consumer
        consumer.flow_active = True
        await script(consumer)

    asyncio.run(within())


def test_records_of_a_fetch_that_a_seek_overtook_are_read_again_from_the_place_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        consumer.at = {A: 6, B: 6}
        consumer.meanwhile = lambda: consumer.rewind(A, 3)
        assert await consumer.handed() == {B: [6, 7, 8, 9]}
        assert await consumer.handed() == {A: [3, 4, 5, 6, 7, 8, 9]}

    run(script, monkeypatch)


def test_a_partition_sought_back_between_two_messages_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        seen: dict[TP, list[int]] = {}
        async for tp, message in consumer.getmany(0):
            seen[tp] = offsets(message)
            await consumer.rewind(B, 4)
        assert seen == {A: list(range(10))}
        assert await consumer.handed() == {}, "the records of after the seek cannot be told from those of before"
        assert await consumer.handed() == {B: [4, 5, 6, 7, 8, 9]}

    run(script, monkeypatch)


def test_a_rebalance_between_two_messages_hands_out_nothing_more_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        seen: dict[TP, list[int]] = {}
        async for tp, message in consumer.getmany(0):
            seen[tp] = offsets(message)
            consumer._forget()
        assert seen == {A: list(range(10))}

    run(script, monkeypatch)
