"""Is this worker alive, and may it be counted on? Progress against lag, partition by partition, and the listener that tells.

``/healthz`` fails when a partition has records to read and its committed offset stands still, and when a restore reads nothing;
``/readyz`` until every assigned partition is restored, and while a feed is suspended that detection cannot do without; ``/metrics``
serves the metrics.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from pipeline.core.events import ESSENTIAL_FEEDS
from pipeline.live import metrics

UNSEEN_S: Final = 120.0  # nobody has looked at the progress for so long: a look is due every two seconds, and a rebalance takes at most 60
STALLED_S: Final = 60.0  # a batch is committed within seconds; ten times the broker's usual worst hiccup is a fault
# No restore of a stage has read anything for so long. A batch that a restore waits for sends twice, and each send ends within 60 s; a
# request within 40; and brokers that are restarted, or elect anew, are back by then. What is read counts, so a large state may take hours.
RESTORE_STALLED_S: Final = 300.0
LOOP_TICK_S: Final = 0.5


class _Partition(msgspec.Struct):
    position: int = -1
    lag: int = 0
    moved_at: float = 0.0
    assigned_at: float = 0.0
    restored: bool = False


class State(msgspec.Struct, frozen=True):
    """An answer: whether all is well, and what is not."""

    ok: bool
    problems: tuple[str, ...] = ()


Place = tuple[str, str, int]  # stage, topic, partition


class Health:
    """What the stages of a worker report, and what follows from it. Touched from the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, stalled_s: float = STALLED_S) -> None:
        """``clock``: seconds that only go forward."""
        self._clock = clock
        self._stalled_s = stalled_s
        self._partitions: dict[Place, _Partition] = {}
        self._suspended: set[str] = set()
        self._waiting: set[str] = set()  # the topics of suspended feeds
        self._joined: set[str] = set()
        self._looked: dict[str, float] = {}  # of each stage that belongs to this worker
        self._progress: dict[str, float] = {}  # of the restores of each stage, when last seen

    def expect(self, stage: str) -> None:
        """A stage belongs to this worker: not ready before it has its first assignment, even one of no partitions."""
        self._looked[stage] = self._clock()

    def looked(self, stage: str) -> None:
        """A stage has come round to look at its own progress; tell it every few seconds, idle or not."""
        self._looked[stage] = self._clock()

    def assigned(self, stage: str, topic: str, partition: int, restored: bool = False) -> None:
        """A partition is ours; ``restored`` at once where a stage keeps no state for it."""
        self._joined.add(stage)
        now = self._clock()
        self._partitions[stage, topic, partition] = _Partition(moved_at=now, assigned_at=now, restored=restored)
        self._count(stage)

    def joined(self, stage: str) -> None:
        """A stage has its assignment, be it empty."""
        self._joined.add(stage)

    def progressed(self, stage: str, records: int = 0) -> None:
        """A restore has got on, by so many records read. It counts for every restore of its stage, since some wait for their turn."""
        self._progress[stage] = self._clock()
        metrics.RESTORED_RECORDS.labels(stage).inc(records)

    def restored(self, stage: str, topic: str, partition: int) -> None:
        """The state of a partition is here. A partition that was revoked meanwhile is passed over."""
        found = self._partitions.get((stage, topic, partition))
        if found is not None:
            found.restored = True
            found.moved_at = self._clock()
            self.progressed(stage)
            self._count(stage)

    def revoked(self, stage: str, topic: str, partition: int) -> None:
        """A partition is no longer ours."""
        if self._partitions.pop((stage, topic, partition), None) is not None:
            metrics.LAG.remove(stage, topic, str(partition))
            metrics.COMMIT_AGE.remove(stage, topic, str(partition))
            self._count(stage)

    def observed(self, stage: str, topic: str, partition: int, position: int, end: int) -> None:
        """The committed offset and the end offset of a partition, as seen now; report it every few seconds, idle or not."""
        found = self._partitions.get((stage, topic, partition))
        if found is None:
            return
        had_lag = found.lag > 0
        found.lag = max(0, end - position)
        now = self._clock()
        if position != found.position or not had_lag or topic in self._waiting:  # the age counts from when there was something to do
            found.position = position
            found.moved_at = now
        metrics.LAG.labels(stage, topic, str(partition)).set(found.lag)
        metrics.COMMIT_AGE.labels(stage, topic, str(partition)).set(now - found.moved_at if found.lag else 0)

    def suspended(self, feed: str, topic: str, yes: bool = True) -> None:
        """A feed is left out, or read again. Meanwhile its topic waits, and that is no standstill."""
        (self._suspended.add if yes else self._suspended.discard)(feed)
        (self._waiting.add if yes else self._waiting.discard)(topic)
        metrics.FEED_SUSPENDED.labels(feed).set(yes)

    def alive(self) -> State:
        """Say whether every partition with lag makes progress, or else its restore, and whether that is still known."""
        now = self._clock()
        stalled = [
            f"{stage}: {topic}-{partition} has {p.lag} records to read and has not moved for {now - p.moved_at:.0f} s"
            for (stage, topic, partition), p in sorted(self._partitions.items())
            if p.restored and p.lag and now - p.moved_at > self._stalled_s
        ]
        hung = [
            f"{stage}: {topic}-{partition} is being restored, and no restore of this stage has read anything for {idle:.0f} s"
            for (stage, topic, partition), p in sorted(self._partitions.items())
            if not p.restored and (idle := now - max(p.assigned_at, self._progress.get(stage, p.assigned_at))) > RESTORE_STALLED_S
        ]
        unseen = [
            f"{stage}: nobody has looked at its progress for {now - at:.0f} s: it hangs"
            for stage, at in sorted(self._looked.items())
            if now - at > UNSEEN_S
        ]
        return State(not (stalled or hung or unseen), (*stalled, *hung, *unseen))

    def ready(self) -> State:
        """Say whether every stage has its partitions, all restored, and no feed is suspended that detection rests on."""
        problems = [f"{stage}: no assignment yet" for stage in sorted(self._looked.keys() - self._joined)]
        problems += [
            f"{stage}: {topic}-{partition} is being restored"
            for (stage, topic, partition), p in sorted(self._partitions.items())
            if not p.restored
        ]
        problems += [f"the feed {feed} is suspended" for feed in sorted(self._suspended & ESSENTIAL_FEEDS)]
        return State(not problems, tuple(problems))

    def _count(self, stage: str) -> None:
        mine = [p for (name, _, _), p in self._partitions.items() if name == stage]
        metrics.PARTITIONS.labels(stage, "assigned").set(len(mine))
        metrics.PARTITIONS.labels(stage, "restored").set(sum(p.restored for p in mine))


class Listener:
    """The HTTP listener, in the worker's own event loop: a loop that is stuck answers no probe."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        """``port`` 0 takes any free one; see ``port`` after ``start``."""
        self._health = health
        self._host = host
        self._wanted = port
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._wanted)
            await site.start()
        except OSError:
            await self.stop()
            raise
        self.port = self._runner.addresses[0][1]
        self._ticking = asyncio.create_task(_watch_loop(), name="loop lag")

    async def stop(self) -> None:
        """Stop listening."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
            self._ticking = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, request: web.Request) -> web.Response:
        return _answer(self._health.alive())

    async def _readyz(self, request: web.Request) -> web.Response:
        return _answer(self._health.ready())

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics.REGISTRY), headers={"Content-Type": content_type})


def _answer(state: State) -> web.Response:
    return web.Response(status=200 if state.ok else 503, body=msgspec.json.encode(state), content_type="application/json")


async def _watch_loop() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOP_TICK_S
        await asyncio.sleep(LOOP_TICK_S)
        metrics.LOOP_LAG.observe(max(0.0, loop.time() - due))
