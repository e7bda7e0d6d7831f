"""A deployment of our own on a real broker: its topics, a log loaded into the raw ones, workers as processes, and what they wrote."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError
from faust.types.tuples import TP

from pipeline.live.app import group
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.settings import Settings
from pipeline.wire.log import LogRecord
from pipeline.wire.topics import TOPICS

ROOT = Path(__file__).parents[2]
PATIENCE_S = 150  # for what takes seconds on a machine of one's own; nothing waits for the whole of it unless it fails
KEY = "d1=" + "5a" * 32
INPUT = {
    "ingest": [t for t, spec in TOPICS.items() if spec.direction == "in"],
    "route": ["lines"],
    "detect": ["events"],
    "campaign": ["sightings"],
    "learn": ["examples"],
    "drift": ["decisions"],
}


class Kept(NamedTuple):
    """A record as read back."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Deployment:
    """Topics under a prefix of their own, and the workers that run on them."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int = 4, feeds: Iterable[str] = INPUT["ingest"], **settings: Any) -> None:
        self.bootstrap, self.prefix, self.partitions = bootstrap, prefix, partitions
        self.feeds = list(feeds)
        self.environment = {
            "OFFHOOK_BROKERS": bootstrap,
            "OFFHOOK_PREFIX": prefix,
            "OFFHOOK_PSEUDONYM_KEY": KEY,
            "OFFHOOK_TRUST_CREATE_TIME": "true",
            "OFFHOOK_SESSION_TIMEOUT_S": "6",
            "OFFHOOK_HTTP_PORT": "0",
            "OFFHOOK_LOG_LEVEL": "warning",
            "OFFHOOK_JSON_LOGS": "false",
        } | {f"OFFHOOK_{name.upper()}": str(value) for name, value in settings.items()}
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> Settings:
        """The settings the workers run with."""
        return Settings.from_env(self.environment)

    def create(self, log_append_time: bool = False) -> None:
        """Make the topics. By default the records of a simulated log keep their time of arrival."""
        asyncio.run(self._create("LogAppendTime" if log_append_time else "CreateTime"))

    async def _create(self, stamp: str) -> None:
        async with _Admin(self.bootstrap) as admin:
            wanted = [spec for spec in TOPICS.values() if spec.direction != "in" or spec.name in self.feeds]
            new = []
            for spec in wanted:
                ours = "LogAppendTime" if spec.log_append_time else "CreateTime"
                config = {"message.timestamp.type": stamp if spec.direction == "in" else ours, "retention.ms": "-1"}
                config["cleanup.policy"] = spec.cleanup
                if spec.name.endswith("-state"):
                    config |= {"cleanup.policy": "compact", "segment.ms": "2000", "min.cleanable.dirty.ratio": "0.01"}
                if spec.max_bytes is not None:
                    config["max.message.bytes"] = str(spec.max_bytes)
                new.append(NewTopic(self.prefix + spec.name, self.partitions_of(spec.name), 1, topic_configs=config))
            await admin.create_topics(new)

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has."""
        return 1 if TOPICS[topic].partitions == 1 else self.partitions

    def load(self, records: Iterable[LogRecord]) -> int:
        """Append the raw records of a log to their topics, with their times of arrival; returns how many."""
        return asyncio.run(self._load(records))

    async def _load(self, records: Iterable[LogRecord]) -> int:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, max_batch_size=1 << 19)
        await producer.start()
        builders: dict[tuple[str, int], Any] = {}
        count = 0
        try:
            for record in records:
                at = (self.prefix + record.topic, record.partition % self.partitions)
                builder = builders.get(at)
                if builder is None:
                    builder = builders[at] = producer.create_batch()
                kept = {"key": record.key, "value": record.value, "headers": list(record.headers)}
                if builder.append(timestamp=record.ts, **kept) is None:
                    await (await producer.send_batch(builder, at[0], partition=at[1]))
                    builder = builders[at] = producer.create_batch()
                    builder.append(timestamp=record.ts, **kept)
                count += 1
            for (topic, partition), builder in builders.items():
                await (await producer.send_batch(builder, topic, partition=partition))
        finally:
            await producer.stop()
        return count

    def start(self, stages: str, pure_python: bool = False, crash: Sequence[object] = (), **settings: Any) -> "subprocess.Popen[bytes]":
        """Start a worker; its log goes to standard error, which pytest shows when a test fails.

        ``pure_python``: with Faust's streams as they are where no compiled ones could be built. ``crash``: what it does to itself, at
        which point, and the how manieth time, see ``crashing``.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | self.environment
        environment |= {f"OFFHOOK_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"NO_CYTHON": "1"} if pure_python else {}
        program = ["tests.broker.crashing", *map(str, crash)] if crash else ["pipeline"]
        command = [sys.executable, "-m", *program, "worker", "--stages", stages]
        worker = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)
        self.workers.append(worker)
        return worker

    def died(self, worker: "subprocess.Popen[bytes]", where: object, within_s: float = PATIENCE_S) -> None:
        """Wait until a worker has killed itself ``where`` it was to."""
        try:
            code = worker.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker has not come to {where} within {within_s} s") from None
        assert code == -signal.SIGKILL, f"the worker ended with {code} before it came to {where}"

    def stop(self, worker: "subprocess.Popen[bytes]", within_s: float = PATIENCE_S) -> int:
        """End a worker gracefully; returns its exit code. One that has only just been started is let come far enough to hear it."""
        deadline = time.monotonic() + within_s
        while worker.poll() is None and not _hears(worker.pid, signal.SIGTERM) and time.monotonic() < deadline:
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        return worker.wait(within_s)

    def finish(self, workers: "dict[str, subprocess.Popen[bytes]]", within_s: float = PATIENCE_S) -> None:
        """Wait until all is read, end the workers gracefully, upstream first: what detect has folded is then all there is."""
        self.settled(tuple(workers), within_s)
        for stage in self.drained(workers, within_s):
            assert self.stop(workers[stage]) == 0, f"{stage} did not end gracefully"

    def drained(self, stages: Collection[str], within_s: float = PATIENCE_S) -> Iterator[str]:
        """Each of the stages once there is nothing more for it to read, for its workers to be ended before the next one comes.

        Campaign reads what detect writes, and detect what campaign writes; that leads to nothing for campaign any more.
        """
        for stage in ("ingest", "route", "campaign", "detect", "learn", "drift"):
            if stage == "campaign" and {"campaign", "detect"} <= set(stages):
                self.settled(("detect",), within_s)
            if stage in stages:
                self.settled((stage,), within_s)
                yield stage

    def close(self) -> None:
        """End what is still running, children included."""
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait(10)

    def until(self, true: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
        """Wait until something is true. Raises AssertionError that says ``what`` was waited for."""
        deadline = time.monotonic() + within_s
        while not true():
            for worker in self.workers:
                if worker.poll() not in (None, 0, -signal.SIGKILL, -signal.SIGTERM):
                    raise AssertionError(f"a worker ended with {worker.returncode} while waiting for: {what}")
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
            time.sleep(0.1)

    def settled(self, stages: Sequence[str] = ("ingest", "route", "detect"), within_s: float = PATIENCE_S) -> float:
        """Wait until the stages have committed all that there is to read, twice in a row; returns the seconds it took.

        Beats go on for ever, so ``events`` counts as settled up to the end it had when its writers were.
        """
        return asyncio.run(self._settled(stages, within_s))

    async def _settled(self, stages: Sequence[str], within_s: float) -> float:
        started = time.monotonic()
        async with _Admin(self.bootstrap) as admin, _Reader(self.bootstrap) as reader:
            for stage in stages:
                topics = [t for t in INPUT[stage] if stage != "ingest" or t in self.feeds]
                places = [TopicPartition(self.prefix + t, p) for t in topics for p in range(self.partitions_of(t))]
                ends = await reader.end_offsets(places)
                while True:
                    committed = await _answered(lambda s=stage: admin.list_consumer_group_offsets(group(self.settings, s)))  # type: ignore[misc]
                    behind = {tp: end for tp, end in ends.items() if end and (tp not in committed or committed[tp].offset < end)}
                    if not behind:
                        break
                    for worker in self.workers:
                        if worker.poll() not in (None, 0, -signal.SIGKILL, -signal.SIGTERM):
                            raise AssertionError(f"a worker ended with {worker.returncode}")
                    if time.monotonic() - started > within_s:
                        raise AssertionError(f"{stage} has not settled within {within_s} s: {behind}, committed {committed}")
                    await asyncio.sleep(0.2)
        return time.monotonic() - started

    def read(self, topic: str) -> list[Kept]:
        """Everything a topic holds, partition by partition."""
        return asyncio.run(self._read(topic))

    async def _read(self, topic: str) -> list[Kept]:
        async with _Reader(self.bootstrap) as reader:
            places = [TopicPartition(self.prefix + topic, p) for p in range(self.partitions_of(topic))]
            reader.assign(places)
            ends = await reader.end_offsets(places)
            await reader.seek_to_beginning(*places)
            found = []
            while any([await reader.position(tp) < end for tp, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=500)).values():
                    found += [
                        Kept(r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
                        for r in records
                        if r.offset < ends[TopicPartition(r.topic, r.partition)]
                    ]
        return sorted(found, key=lambda k: (k.partition, k.offset))

    def committed(self, stage: str) -> dict[tuple[str, int], int]:
        """Committed offsets of a stage's group, by topic without prefix and partition."""
        return asyncio.run(self._committed(stage))

    async def _committed(self, stage: str) -> dict[tuple[str, int], int]:
        async with _Admin(self.bootstrap) as admin:
            found = await _answered(lambda: admin.list_consumer_group_offsets(group(self.settings, stage)))
        return {(tp.topic.removeprefix(self.prefix), tp.partition): at.offset for tp, at in found.items()}

    def owners(self, stage: str) -> int:
        """How many members of a stage's group own partitions; 0 while it is changing hands."""
        return asyncio.run(self._owners(stage))

    async def _owners(self, stage: str) -> int:
        async with _Admin(self.bootstrap) as admin:
            (answer,) = await _answered(lambda: admin.describe_consumer_groups([group(self.settings, stage)]))
        ((_, _, state, _, _, members, *_),) = answer.groups
        topics = [(self.prefix + topic).encode() for topic in INPUT[stage]]
        return sum(any(topic in assignment for topic in topics) for *_, assignment in members) if state == "Stable" else 0

    def commit(self, stage: str, topic: str, offsets: dict[int, int]) -> None:
        """Set the committed offsets of a stage's group, as an operator might, while no worker of it runs."""
        asyncio.run(self._commit(stage, topic, offsets))

    async def _commit(self, stage: str, topic: str, offsets: dict[int, int]) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group(self.settings, stage), enable_auto_commit=False)
        await consumer.start()
        try:
            places = {TopicPartition(self.prefix + topic, p): offset for p, offset in offsets.items()}
            consumer.assign(list(places))
            await consumer.commit(places)
        finally:
            await consumer.stop()

    def append(self, topic: str, records: Iterable[Outgoing], to: int | None = None) -> None:
        """Append records to the partitions of their keys, one without a key to all of them; or all of them ``to`` one."""
        full = self.prefix + topic

        async def run() -> None:
            async with Outbox({"bootstrap_servers": self.bootstrap}) as outbox:
                await outbox.know([full])
                places: dict[tuple[str, int], list[Outgoing]] = {}
                for record in records:
                    if to is not None:
                        chosen = [to]
                    else:
                        chosen = list(range(self.partitions)) if record.key is None else [outbox.partition(full, record.key)]
                    for p in chosen:
                        places.setdefault((full, p), []).append(record)
                await outbox.send(places)

        asyncio.run(run())


async def _answered(ask: Callable[[], Awaitable[Any]], within_s: float = PATIENCE_S) -> Any:
    """Ask a group's coordinator; on a broker that has just started there is none for a while."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await ask()
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def _hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process handles a signal; taken for granted where there is no /proc to tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


class Nowhere:
    """A reader that has read nothing."""

    def read_to(self, tp: TP) -> int | None:
        return None

    def committed(self, tp: TP) -> int | None:
        return None

    async def rewind(self, tp: TP, offset: int) -> None:
        raise AssertionError("there is nothing to read again")


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()
    except OSError:
        return 0, "nobody listens"


class _Admin:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def __aenter__(self) -> Any:
        self._client = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await self._client.start()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


class _Reader:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def __aenter__(self) -> Any:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20
        )
        await self._consumer.start()
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
