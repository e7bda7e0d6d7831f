"""Does a reader say how it gets on? And does one whose library cancels itself end like one that was cancelled?

It must not: a claim would end without a word.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from aiokafka import TopicPartition

from pipeline.live.changelog import ChangelogReader, close


class Consumer:
    """Stops as aiokafka's does when its fetcher sleeps between two attempts: with the cancellation of its own task."""

    async def stop(self) -> None:
        fetcher = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetcher.cancel()
        await fetcher


class Slow:
    async def stop(self) -> None:
        await asyncio.sleep(60)


class Record(NamedTuple):
    offset: int
    key: bytes
    value: bytes | None = None


class Fetching:
    """Brings records in the chunks it was given; an empty one is a fetch that brought nothing."""

    def __init__(self, chunks: Sequence[Sequence[Record]], end: int) -> None:
        self._chunks, self._end, self._position = list(chunks), end, 0

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self._end)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._position = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._position

    async def getmany(self, tp: TopicPartition, **_: int) -> dict[TopicPartition, Sequence[Record]]:
        chunk = self._chunks.pop(0)
        if not chunk:
            return {}
        self._position = chunk[-1].offset + 1
        return {tp: chunk}


def test_how_much_is_read_is_told_fetch_by_fetch_and_not_where_nothing_came() -> None:
    async def run() -> None:
        reader = ChangelogReader({}, "detect-state", 0)
        chunks = [[Record(n, b"k") for n in (0, 1, 2)], [], [], [Record(5, b"k")], [Record(n, b"k") for n in (8, 9)]]
        reader._consumer = Fetching(chunks, 9)
        taken, told = list[bytes](), list[tuple[int, int]]()
        reader.tell = lambda records: told.append((records, len(taken)))
        assert await reader.read(0, lambda key, value: taken.append(key)) == 9
        assert told == [(3, 3), (1, 4), (2, 5)], "after they were taken; the last one is beyond the end"

    asyncio.run(run())


def test_the_cancellation_of_a_fetcher_is_not_that_of_the_caller() -> None:
    async def run() -> str:
        await close(Consumer())
        return "went on"

    assert asyncio.run(run()) == "went on"


def test_a_caller_who_is_cancelled_meanwhile_ends() -> None:
    async def run() -> None:
        task = asyncio.create_task(close(Slow()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
