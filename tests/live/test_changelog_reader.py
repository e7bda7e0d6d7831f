"""Does a reader whose library cancels itself end like one that was cancelled? It must not: a claim would end without a word."""

import asyncio

import pytest

from pipeline.live.changelog import close


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
