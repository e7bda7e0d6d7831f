"""What would a broker do to the workers? A log in memory that answers, or does not, when it is told to; and workers that run on it.

All above the client libraries is the product's own: Runner, BatchConsumer, Outbox, OwnedState, DetectStage and its fold. The broker
stands where aiokafka does. Every request waits until ``Broker.land`` carries it out and ``Broker.answer`` tells its sender, so a
crash, a pause or another owner fits between any two effects. Each worker has an event loop of its own that is run step by step,
with a clock that only goes when told: the same calls give the same run.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import faust
from aiokafka.errors import KafkaError
from faust.types.tuples import TP
from mode import Service

from pipeline.core.policy import Policy
from pipeline.live import outbox
from pipeline.live.consumer import BatchConsumer
from pipeline.live.detect import DetectStage
from pipeline.live.health import Health
from pipeline.live.runner import Runner
from pipeline.live.transport import BatchTransport
from pipeline.wire.dead_letter import DeadLetters

SOURCE, CHANGELOG = "events", "detect-state"
OUTPUT_PARTITIONS = 2
RECORDS_A_REQUEST = 2  # of a produce batch: a batch of input leads to several, and a crash fits between them
SPIN = 5_000  # turns of an event loop after which a worker that still finds something to do is said to spin
Headers = tuple[tuple[str, bytes], ...]


class Written(NamedTuple):
    """A record in the log of the broker."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0


class Request:
    """Something a worker has asked of the broker: first it is carried out, then its answer comes, or the sender never hears of it."""

    def __init__(self, sender: "Worker", kind: str, place: TP, carry_out: Callable[[], Any]) -> None:
        self.sender, self.kind, self.place = sender, kind, place
        self.answer: asyncio.Future[Any] = sender.loop.create_future()
        self._carry_out = carry_out
        self.landed = False
        self._result: Any = None

    def land(self) -> None:
        """Carry it out."""
        if not self.landed:
            self.landed = True
            self._result = self._carry_out()

    def tell(self, error: Exception | None = None) -> None:
        """Answer the sender, if it still waits."""
        if not self.answer.done():
            self.answer.set_result(self._result) if error is None else self.answer.set_exception(error)


class Partition:
    """One partition of a topic: what is left of its records, and its end."""

    def __init__(self) -> None:
        self.records: list[Written] = []
        self.end = 0

    def append(self, key: bytes | None, value: bytes | None, headers: Headers = (), timestamp: int = 0) -> int:
        self.records.append(Written(self.end, key, value, headers, timestamp))
        self.end += 1
        return self.end - 1

    def compact(self, below: int, tombstones_too: bool) -> None:
        """Of the records below an offset keep the last of each key, as a log cleaner does; what it leaves keeps its offset."""
        last = {r.key: r.offset for r in self.records if r.offset < below}
        self.records = [
            r for r in self.records if r.offset >= below or (last[r.key] == r.offset and not (tombstones_too and r.value is None))
        ]


class Broker:
    """Topics, one consumer group, and the requests that are under way."""

    def __init__(self, partitions: int) -> None:
        self.partitions = range(partitions)
        self.logs: dict[TP, Partition] = {}
        self.committed: dict[int, int] = {}
        self.generation = 0
        self.owners: dict[int, Worker] = {}  # of this generation
        self.requests: list[Request] = []
        self.appended: list[Callable[[TP, list[Written]], None]] = []  # told of every produce batch that landed
        self.commits: list[Callable[[int, int], None]] = []  # told of every commit that was taken

    def log(self, topic: str, partition: int) -> Partition:
        return self.logs.setdefault(TP(topic, partition), Partition())

    def ask(self, request: Request) -> "asyncio.Future[Any]":
        if not request.sender.dead:
            self.requests.append(request)
        return request.answer

    def of(self, worker: "Worker") -> list[Request]:
        """The requests of a worker that may be carried out next: writes to one partition keep their order."""
        found: dict[tuple[str, TP], Request] = {}
        for request in self.requests:
            if request.sender is worker:
                found.setdefault((request.kind, request.place), request)
        return list(found.values())

    def finish(self, request: Request, error: Exception | None = None) -> None:
        """Carry a request out unless it fails, and answer it."""
        if error is None:
            request.land()
        self.requests.remove(request)
        request.tell(error)

    def produce(self, place: TP, records: list[tuple[bytes | None, bytes | None, Headers]]) -> int:
        log = self.log(*place)
        first = log.end
        written = [log.records[-1] for record in records if log.append(*record) >= 0]
        for tell in self.appended:
            tell(place, written)
        return first

    def commit(self, worker: "Worker", generation: int, offsets: Mapping[TP, int]) -> bool:
        """Take the offsets of a member of this generation; others are refused, as a group coordinator does."""
        if generation != self.generation or any(self.owners.get(tp.partition) is not worker for tp in offsets):
            return False
        for tp, offset in offsets.items():
            self.committed[tp.partition] = offset
            for tell in self.commits:
                tell(tp.partition, offset)
        return True


class Builder:
    """A produce batch, as aiokafka's, that is soon full."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None, Headers]] = []

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> object | None:
        if len(self.records) >= RECORDS_A_REQUEST:
            return None
        self.records.append((key, value, tuple(headers)))
        return self

    def record_count(self) -> int:
        return len(self.records)

    def close(self) -> None:
        """Nothing is compressed here."""


class Metadata(NamedTuple):
    offset: int


class Producer:
    """Where aiokafka's producer would be."""

    def __init__(self, broker: Broker, worker: "Worker") -> None:
        self._broker, self._worker = broker, worker

    def __call__(self, **options: Any) -> "Producer":
        assert options["acks"] == "all"
        assert options["enable_idempotence"], "writes may only be repeated or overtaken by nothing"
        return self

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(OUTPUT_PARTITIONS))

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, builder: Builder, topic: str, *, partition: int) -> "asyncio.Future[Metadata]":
        place = TP(topic, partition)
        broker, records = self._broker, builder.records
        return broker.ask(Request(self._worker, "produce", place, lambda: Metadata(broker.produce(place, records))))


class Outbox(outbox.Outbox):
    """The product's outbox; how large a batch may be is not asked."""

    async def measure(self, topics: Iterable[str]) -> None:
        """Every topic takes what it takes by default."""


class Reader:
    """Where ChangelogReader's consumer would be: the same reads from a position to the end offset of now."""

    def __init__(self, broker: Broker, worker: "Worker", topic: str, partition: int) -> None:
        self._broker, self._worker = broker, worker
        self._place = TP(topic, partition)
        self.tell: Callable[[int], None] = lambda records: None

    async def __aenter__(self) -> "Reader":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        log = self._broker.log(topic, partition)
        return 0, log.end

    async def read(self, position: int, take: Callable[[bytes, bytes | None], None]) -> int:
        log = self._broker.log(*self._place)
        ask = Request(self._worker, "end offset", self._place, lambda: log.end)
        end: int = await self._broker.ask(ask)
        fetch = Request(self._worker, "read", self._place, lambda: [r for r in log.records if position <= r.offset < end])
        records = await self._broker.ask(fetch)
        for record in records:
            take(record.key or b"", record.value)
        if records:
            self.tell(len(records))
        return end


class Thread(Service):
    """Where Faust's consumer thread would be: positions, fetches, seeks and commits."""

    def __init__(self, worker: "Worker") -> None:
        super().__init__(loop=worker.loop)
        self._worker = worker
        self._broker = worker.broker
        self.position: dict[TP, int] = {}

    def read_state(self, tp: TP) -> tuple[int | None, int | None, int | None]:
        return self.position.get(tp), self.highwater(tp), None

    def highwater(self, tp: TP) -> int:
        return self._broker.log(*tp).end

    def assignment(self) -> set[TP]:
        return set(self.position)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self.position |= {tp: offset for tp, offset in partitions.items() if tp in self.position}

    async def seek_to_beginning(self, *partitions: Any) -> None:
        await self.seek_wait({TP(tp.topic, tp.partition): 0 for tp in partitions})

    async def seek_to_committed(self) -> Mapping[TP, int]:
        found = {tp: self._broker.committed.get(tp.partition, 0) for tp in self.position}
        self.position |= found
        return found

    async def getmany(self, active: set[TP], timeout: float) -> Mapping[TP, list[Written]]:
        def carry_out() -> dict[TP, list[Written]]:
            found = {}
            for tp in sorted(active & self.position.keys()):
                records = [r for r in self._broker.log(*tp).records if r.offset >= self.position[tp]][: self._worker.batch]
                if records:
                    found[tp] = records
                    self.position[tp] = records[-1].offset + 1
            return found

        found: Mapping[TP, list[Written]] = await self._broker.ask(Request(self._worker, "fetch", TP(SOURCE, -1), carry_out))
        return found

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        worker, kept = self._worker, dict(offsets)
        generation = worker.app.consumer_generation_id
        ask = Request(worker, "commit", TP(SOURCE, -1), lambda: self._broker.commit(worker, generation, kept))
        taken: bool = await self._broker.ask(ask)
        return taken


class Consumer(BatchConsumer):
    """The product's consumer on the simulated thread."""

    def _new_consumer_thread(self) -> Any:
        return self.app.worker.make_thread()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        self._last_fetch = -1.0  # the pace of fetches follows a clock that is not simulated
        return await super()._getmany(active_partitions, timeout)


class PromptOutbox(Outbox):
    """The product's outbox, whose sends leave at once: a machine that must let time go for each one takes few steps that matter."""

    async def _gathered(self) -> None:
        """Nothing is gathered."""


_FAUST = faust.App("machine", broker="kafka://localhost:1", broker_max_poll_records=2)


async def _nobody(message: Any) -> None:
    """Who is called with each message by Faust's own consumer."""
    raise AssertionError("a message came by way of a stream")


class App:
    """What Runner and BatchConsumer ask of a Faust app; for the rest there is one real app that is never started."""

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.consumer_generation_id = 0
        self.rebalancing = False
        self.should_stop = False
        self.topics = self.producer = self.tables = self
        self.transport: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(_FAUST, name)

    def topic(self, *names: str, **options: Any) -> tuple[str, ...]:
        return names

    def agent(self, topic: Any, **options: Any) -> Callable[[Any], Any]:
        return lambda subscriber: None

    async def crash(self, error: Exception) -> None:
        self.worker.error = error

    def acks_enabled_for(self, topic: str) -> bool:
        return True

    async def flush(self) -> None:
        """Faust's own producer sends nothing."""

    def on_commit(self, offsets: Mapping[TP, int]) -> None:
        """There are no tables."""

    @property
    def consumer(self) -> Any:
        return self.worker.consumer


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time goes only when told."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Run all that can run without an answer from outside and without time going on."""
        for _ in range(SPIN):
            self.call_soon(self.stop)
            self.run_forever()
            if not self._ready:  # type: ignore[attr-defined]  # callbacks that wait for a turn
                return
        raise AssertionError("a worker spins")

    def drop_all(self) -> None:
        """Forget every task and timer, as a process that is killed does."""
        for _ in range(10):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.settle()
        assert not asyncio.all_tasks(self), "a task does not end when it is cancelled"
        for timer in self._scheduled:  # type: ignore[attr-defined]
            timer.cancel()


class Worker:
    """A process of the detect stage, from its start to its death."""

    def __init__(self, broker: Broker, loop: SteppedLoop, batch: int, policy: Policy) -> None:
        """``batch``: how many records one fetch brings from a partition at most."""
        self.broker, self.loop, self.batch = broker, loop, batch
        self.dead = False
        self.error: Exception | None = None
        self.app = App(self)
        self.stage = DetectStage(
            policy,
            2,
            "",
            lambda topic, partition: Reader(broker, self, topic, partition),
            DeadLetters("reference"),
            Health(),  # type: ignore[arg-type, return-value]
        )
        self.thread: Thread
        self.run(self._start())

    def make_thread(self) -> Thread:
        self.thread = Thread(self)
        return self.thread

    async def _start(self) -> None:
        self.runner = Runner(self.app, self.stage, PromptOutbox({}, Producer(self.broker, self)), Health())
        transport: BatchTransport = self.app.transport
        self.consumer = Consumer(transport, _nobody, self._revoked, self._assigned, loop=self.loop)
        self.consumer.stop_flow()
        await self.runner.on_start()
        self._draining = asyncio.create_task(self.consumer._drain_messages(self.consumer))

    def run(self, work: Any) -> "asyncio.Task[Any]":
        """Start a piece of work and let it run as far as it gets."""
        task = self.loop.create_task(work)
        self.loop.settle()
        if task.done():
            task.result()
        return task

    # --- what Faust does around the consumer at a rebalance

    async def _revoked(self, revoked: set[TP]) -> None:
        self.consumer.stop_flow()
        await self.consumer.wait_empty()

    async def _assigned(self, assigned: set[TP], generation: int) -> None:
        await self.consumer.perform_seek()
        self.consumer.resume_flow()

    async def _revoke(self) -> None:
        self.app.rebalancing = True
        await self.consumer.on_partitions_revoked(set(self.thread.position))

    async def _assign(self, tps: set[TP], generation: int) -> None:
        self.app.consumer_generation_id = generation
        self.thread.position = dict.fromkeys(tps, 0)
        await self.consumer.on_partitions_assigned(tps, generation)
        self.app.rebalancing = False

    async def _stop(self) -> None:
        await self._revoke()
        await self.runner.on_stop()

    # --- what may happen to a worker

    def revoke(self) -> "asyncio.Task[None]":
        """Begin to give up its partitions: what is in hand is finished and committed."""
        return self.run(self._revoke())

    def assign(self, partitions: set[int], generation: int) -> None:
        """Get partitions in a generation of the group."""
        self.run(self._assign({TP(SOURCE, p) for p in partitions}, generation))

    def stop(self) -> "asyncio.Task[None]":
        """Begin to end gracefully."""
        return self.run(self._stop())

    def commit(self) -> None:
        """Commit, as Faust does every second."""
        self.run(self.consumer.commit())

    def pass_time(self, seconds: float) -> None:
        """Let time go on: ticks and timeouts come."""
        self.loop.now += seconds
        self.loop.settle()

    def die(self) -> None:
        """End at once. What it has sent may still land, nobody waits for it."""
        self.dead = True
        self.loop.drop_all()

    def fail(self, request: Request) -> None:
        """Let a request fail."""
        self.broker.finish(request, KafkaError("the broker says no"))
        self.loop.settle()
