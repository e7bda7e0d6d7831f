"""A worker that ends itself at a named point as kill -9 would, or pauses as SIGSTOP would: the product's own, with one method wrapped.

    python -m tests.broker.crashing kill after-outputs 3 worker --stages detect

dies the third time it has come to the point ``after-outputs``. Production code has no hooks; a method that is no longer there fails
at once. Points that are network requests count them all: join, fetch, produce, commit, whatever the worker happens to do.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka.conn import AIOKafkaConnection

from pipeline.__main__ import main
from pipeline.core.gatherer import Gatherer
from pipeline.core.partition import Partition
from pipeline.core.route import Router
from pipeline.live.consumer import BatchConsumer
from pipeline.live.effects import Effects
from pipeline.live.folding import FoldingStage
from pipeline.live.state import OwnedState

Wrap = Callable[["Fuse"], None]
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Fuse:
    """Burns a step each time a point is reached, and ends (or pauses) the process at the last."""

    def __init__(self, number: signal.Signals, steps: int) -> None:
        self._number, self._steps = number, steps

    def burn(self) -> None:
        """Come one step nearer; the process does not return from the last (or only when it is continued)."""
        self._steps -= 1
        if self._steps == 0:
            os.kill(os.getpid(), self._number)


def _after(owner: type, name: str, when: Callable[..., bool] = lambda *_: True) -> Wrap:
    """The point behind an asynchronous method; ``when``: does a call with these arguments count?"""
    original = getattr(owner, name)

    def wrap(fuse: Fuse) -> None:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if when(*args):
                fuse.burn()
            return result

        setattr(owner, name, wrapped)

    return wrap


def _before(owner: type, name: str, when: Callable[..., bool] = lambda *_: True) -> Wrap:
    """The point in front of a method, asynchronous or not."""
    original = getattr(owner, name)

    def wrap(fuse: Fuse) -> None:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                fuse.burn()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    return wrap


def _all(*wraps: Wrap) -> Wrap:
    def wrap(fuse: Fuse) -> None:
        for one in wraps:
            one(fuse)

    return wrap


def _mark_outputs(_: Fuse) -> None:
    """Note with the state of a partition whether the batch that was folded last leads to outputs: only there can a crash do harm."""
    fold = FoldingStage._fold

    async def wrapped(self: Any, held: Any, batch: Any, effects: Effects) -> None:
        await fold(self, held, batch, effects)
        held.state.leads_to_outputs = effects.count > 0

    FoldingStage._fold = wrapped  # type: ignore[method-assign]


def _leads_to_outputs(state: Any, *_: Any) -> bool:
    return bool(state.leads_to_outputs)


def _inside_changelog(fuse: Fuse) -> None:
    """The point at which the entities of a batch are durable and the clock, which is written last, is not."""
    append = OwnedState._append

    async def wrapped(self: OwnedState, records: list[Any]) -> bool:
        if len(records) > 1:
            await append(self, records[:-1])
            if _leads_to_outputs(self):
                fuse.burn()
            return await append(self, records[-1:])
        return await append(self, records)

    OwnedState._append = wrapped  # type: ignore[method-assign]


def _request(sent: bool) -> Wrap:
    """The point in front of a network request, or right behind it, when no answer can have come."""
    send = AIOKafkaConnection.send

    def wrap(fuse: Fuse) -> None:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if not sent:
                fuse.burn()
            answer = send(*args, **kwargs)
            if sent:
                fuse.burn()
            return answer

        AIOKafkaConnection.send = wrapped

    return wrap


POINTS: dict[str, Wrap] = {
    "after-outputs": _after(Effects, "send", lambda effects: effects.count > 0),  # before the changelog; in ingest: before the beats
    "before-changelog": _all(_mark_outputs, _before(OwnedState, "persist", _leads_to_outputs)),
    "inside-changelog": _all(_mark_outputs, _inside_changelog),
    "after-changelog": _all(_mark_outputs, _after(OwnedState, "persist", _leads_to_outputs)),
    "before-settling": _before(BatchConsumer, "settle"),  # in ingest: after the beats
    "before-commit": _before(BatchConsumer, "_commit_offsets"),
    "after-commit": _after(BatchConsumer, "_commit_offsets"),
    "after-claim": _after(OwnedState, "claim"),  # and before the first batch
    "in-restore": _all(*(_before(fold, "restore") for fold in (Partition, Router, Gatherer))),
    "before-request": _request(sent=False),
    "behind-request": _request(sent=True),
}


def run(arguments: Iterator[str]) -> None:
    """Light the fuse, then be a worker."""
    action, point, steps = next(arguments), next(arguments), int(next(arguments))
    POINTS[point](Fuse(SIGNALS[action], steps))
    sys.argv = ["offhook", *arguments]
    main()


if __name__ == "__main__":
    run(iter(sys.argv[1:]))
