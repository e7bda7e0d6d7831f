"""On what is live measured? A broker of our own, topics stamped by the broker, and how to see from outside how far a stage has come."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local_kafka import LocalKafka
from pipeline.live.changelog import CLOCK, decode_key
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.wire.topics import TOPICS
from tests.broker.harness import Deployment

PARTITIONS = 4
WITHIN_S = 240.0


class Broker:
    """A running broker; ``cpu`` is the processor time it has used (s), 0 where that is not known."""

    def __init__(self, bootstrap: str, cpu: Callable[[], float]) -> None:
        self.bootstrap = bootstrap
        self.cpu = cpu

    def create(self, topics: Mapping[str, str], partitions: int = PARTITIONS) -> None:
        """Make topics, given their cleanup policies; the broker stamps their records."""

        async def run() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                config = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}
                new = [NewTopic(name, partitions, 1, topic_configs=config | {"cleanup.policy": how}) for name, how in topics.items()]
                answer = await admin.create_topics(new)
                wrong = [error for error in answer.topic_errors if error[1]]
                assert not wrong, f"topics could not be made: {wrong}"
            finally:
                await admin.close()

        asyncio.run(run())

    def deployment(self, prefix: str, **settings: Any) -> Deployment:
        """Topics of their own, every one of them stamped by the broker, so that what is measured is between two appends."""
        patient = {"session_timeout_s": 30} | settings  # a machine that is busy with measuring loses no member of a group
        live = Deployment(self.bootstrap, prefix, PARTITIONS, trust_create_time="false", **patient)
        for single in (True, False):
            found = {prefix + name: spec.cleanup for name, spec in TOPICS.items() if (spec.partitions == 1) is single}
            self.create(found, 1 if single else PARTITIONS)
        return live

    def append(self, prefix: str, topic: str, records: Iterable[Outgoing]) -> None:
        """Append records to the partitions of their keys; one without a key to every partition."""

        async def run() -> None:
            full = prefix + topic
            async with Outbox({"bootstrap_servers": self.bootstrap}) as outbox:
                await outbox.know([full])
                places: dict[tuple[str, int], list[Outgoing]] = {}
                for record in records:
                    chosen = range(PARTITIONS) if record.key is None else [outbox.partition(full, record.key)]
                    for p in chosen:
                        places.setdefault((full, p), []).append(record)
                await outbox.send(places)

        asyncio.run(run())

    def count(self, topic: str) -> int:
        """How many records a topic has had."""

        async def run(consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> int:
            return sum((await consumer.end_offsets(places)).values())

        return self._ask(topic, run)

    def wait(self, topic: str, records: float) -> None:
        """Wait until a topic has had so many records."""

        async def run(consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> None:
            until = time.monotonic() + WITHIN_S
            while sum((await consumer.end_offsets(places)).values()) < records:
                assert time.monotonic() < until, f"{topic} has not come to {records} records"
                await asyncio.sleep(0.05)

        self._ask(topic, run)

    def ends(self, topic: str) -> list[tuple[int, int]]:
        """When the first and the last record of each partition were appended (ms), of those that have any."""

        async def run(consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> list[tuple[int, int]]:
            found = []
            consumer.assign(places)
            first, last = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            for tp in places:
                if last[tp] > first[tp]:
                    stamps = []
                    for offset in (first[tp], last[tp] - 1):
                        consumer.seek(tp, offset)
                        stamps.append((await consumer.getone(tp)).timestamp)
                    found.append((stamps[0], stamps[1]))
            return found

        return self._ask(topic, run)

    def _ask(self, topic: str, question: Callable[[AIOKafkaConsumer, list[TopicPartition]], Any]) -> Any:
        async def run() -> Any:
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, max_partition_fetch_bytes=1 << 16)
            await consumer.start()
            try:
                return await question(consumer, [TopicPartition(topic, p) for p in range(PARTITIONS)])
            finally:
                await consumer.stop()

        return asyncio.run(run())


def is_clock(key: bytes) -> bool:
    """Whether a changelog record is a partition's clock."""
    return decode_key(key)[0] == CLOCK


@contextlib.contextmanager
def running() -> Iterator[Broker]:
    """The broker that KAFKA_BOOTSTRAP names, or a local one for as long as the block runs."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield Broker(given, lambda: 0.0)
        return
    with LocalKafka(heap="1g") as local:
        yield Broker(local.bootstrap, lambda: cpu_of(local.pid))


def cpu_of(pid: int | None) -> float:
    """Processor time of a process so far (s); 0 where the system does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if pid is None or not stat.exists():
        return 0.0
    fields = stat.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    """Resident memory of a process (bytes); 0 where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


class Stolen:
    """How much of the cores the host keeps from this machine while the block runs: ``share`` of all, and ``most`` of any second (0 to 1).

    What a guest misses so is no one's fault inside it, and comes in bursts: a percentile of latencies that missed its bar may be theirs.
    """

    share = most = 0.0

    def __enter__(self) -> "Stolen":
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        first = last = _stolen()
        while not self._ended.wait(1.0):
            now = _stolen()
            self.most = max(self.most, _share(last, now))
            self.share = _share(first, now)
            last = now


def _stolen() -> tuple[int, int]:
    """Ticks stolen and ticks in all since the start, over all cores; none where the system does not tell."""
    stat = Path("/proc/stat")
    ticks = [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:9]] if stat.exists() else [0]
    return (ticks[7] if len(ticks) > 7 else 0), sum(ticks)


def _share(before: tuple[int, int], after: tuple[int, int]) -> float:
    return (after[0] - before[0]) / max(1, after[1] - before[1])
