"""What arrived on Kafka in a span of time? Its records merged by arrival, as ``wire.log.merge_logs`` gives those of files.

Reads without a consumer group and commits nothing. Ends at the end offsets seen at the start, so a topic that is being written to has
an end. Memory holds a few thousand records of each partition, however long the span.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from pipeline.core.events import FEEDS, Ms
from pipeline.reach import reach, refused
from pipeline.wire.log import LogRecord

CHUNK: Final = 5_000  # records handed over at once: less than a second of folding, so that the connections live on
HIGH: Final = 20_000  # records of a partition kept: above this it is left alone
LOW: Final = 5_000  # until below this
PARTITION_BYTES: Final = 1 << 20
FETCH_BYTES: Final = 32 << 20


class KafkaUnreadable(OSError):
    """The topics are not there, or records went while they were read."""


class _Queue:
    """The records of one partition that were fetched and not yet handed over, in offset order."""

    __slots__ = ("end", "latest", "order", "paused", "records", "through", "tp")

    def __init__(self, tp: TopicPartition, order: tuple[int, int], end: int) -> None:
        self.tp = tp
        self.order = order  # of records with the same arrival: by topic as named, then by partition
        self.end = end
        self.latest: Ms = 0  # where a timestamp goes back, the running maximum counts
        self.records: deque[tuple[Ms, LogRecord]] = deque()
        self.paused = False
        self.through = False  # read to its end

    def take(self, fetched: Sequence[Any]) -> None:
        for r in fetched:
            if r.offset >= self.end:
                self.through = True
                return
            self.latest = max(self.latest, r.timestamp)
            headers = tuple((name, value or b"") for name, value in r.headers)
            self.records.append((self.latest, LogRecord(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, headers)))

    def head(self) -> tuple[Ms, tuple[int, int], "_Queue"]:
        return self.records[0][0], self.order, self


def read_kafka(
    connection: Mapping[str, Any], since_ms: Ms, until_ms: Ms | None = None, topics: Sequence[str] = FEEDS, prefix: str = ""
) -> Iterator[LogRecord]:
    """Read the records that arrived from ``since_ms`` to before ``until_ms`` (None: to the end), merged by arrival.

    ``connection``: as ``Settings.connection`` builds it. ``topics``: without ``prefix``; one that does not exist is passed over, as an
    absent feed is; records carry the full names. Offset order stands within a partition. Not for use inside a running event loop.
    Raises Unreachable, and KafkaUnreadable where the topics are not there or retention overtakes the reading.
    """
    reach(connection)
    loop = asyncio.new_event_loop()
    chunks = _chunks(connection, [prefix + t for t in topics], since_ms, until_ms)
    try:
        while True:
            try:
                chunk = loop.run_until_complete(anext(chunks))
            except StopAsyncIteration:
                return
            except OffsetOutOfRangeError as e:
                raise KafkaUnreadable("retention has removed records while they were read; begin later") from e
            except KafkaError as e:
                raise refused(connection, e) from e
            yield from chunk
    finally:
        loop.run_until_complete(chunks.aclose())
        loop.close()


async def _chunks(
    connection: Mapping[str, Any], topics: list[str], since_ms: Ms, until_ms: Ms | None
) -> AsyncGenerator[list[LogRecord], None]:
    partitions = await _partitions(connection, topics)
    consumer = AIOKafkaConsumer(
        **connection,
        enable_auto_commit=False,
        auto_offset_reset="none",  # records that retention removes while we read are missed, and that must be said
        isolation_level="read_committed",
        max_partition_fetch_bytes=PARTITION_BYTES,
        fetch_max_bytes=FETCH_BYTES,
        fetch_max_wait_ms=50,
    )
    try:
        await consumer.start()
        queues = await _open(consumer, partitions, since_ms, until_ms)
        async for chunk in _merge(consumer, queues):
            yield chunk
    finally:
        await consumer.stop()


async def _partitions(connection: Mapping[str, Any], topics: list[str]) -> dict[TopicPartition, tuple[int, int]]:
    """Find the partitions of the topics that exist, with their order."""
    admin = AIOKafkaAdminClient(**connection)
    try:
        await admin.start()
        there = set(await admin.list_topics())
        names = [t for t in topics if t in there]
        if not names:
            raise KafkaUnreadable(f"none of these topics exists: {', '.join(topics)}")
        described = {one["topic"]: one["partitions"] for one in await admin.describe_topics(names)}
    finally:
        await admin.close()
    return {TopicPartition(t, p["partition"]): (n, p["partition"]) for n, t in enumerate(names) for p in described[t]}


async def _open(
    consumer: Any, tps: dict[TopicPartition, tuple[int, int]], since_ms: Ms, until_ms: Ms | None
) -> dict[TopicPartition, _Queue]:
    """Find where to begin and end in every partition, and begin."""
    starts = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
    ends = await consumer.end_offsets(list(tps))
    stops = await consumer.offsets_for_times(dict.fromkeys(tps, until_ms)) if until_ms is not None else {}
    queues: dict[TopicPartition, _Queue] = {}
    for tp, order in tps.items():
        stop = stops.get(tp)
        end = min(ends[tp], stop.offset) if stop is not None else ends[tp]
        if starts[tp] is not None and starts[tp].offset < end:
            queues[tp] = _Queue(tp, order, end)
    consumer.assign(list(queues))
    for tp in queues:
        consumer.seek(tp, starts[tp].offset)
    return queues


async def _merge(consumer: Any, queues: dict[TopicPartition, _Queue]) -> AsyncGenerator[list[LogRecord], None]:
    """Hand over the earliest record as long as every partition that is not through has one to compare."""
    waiting = set(queues.values())
    heap: list[tuple[Ms, tuple[int, int], _Queue]] = []
    while waiting or heap:
        chunk: list[LogRecord] = []
        while heap and not waiting:
            queue = heap[0][2]
            chunk.append(queue.records.popleft()[1])
            if queue.records:
                heapq.heapreplace(heap, queue.head())
            else:
                heapq.heappop(heap)
                if not queue.through:
                    waiting.add(queue)
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
        if waiting:
            await _fetch(consumer, queues)
            for queue in [q for q in waiting if q.records or q.through]:
                waiting.remove(queue)
                if queue.records:
                    heapq.heappush(heap, queue.head())


async def _fetch(consumer: Any, queues: dict[TopicPartition, _Queue]) -> None:
    for tp, records in (await consumer.getmany(timeout_ms=500)).items():
        queues[tp].take(records)
    for tp, queue in queues.items():
        # by position, not by the last record seen: compaction removes records, and transactions end in markers that nobody sees
        queue.through = queue.through or await consumer.position(tp) >= queue.end
        too_many = len(queue.records) > (LOW if queue.paused else HIGH)
        if (queue.through or too_many) != queue.paused:
            queue.paused = not queue.paused
            (consumer.pause if queue.paused else consumer.resume)(tp)
