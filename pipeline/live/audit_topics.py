"""How does the audit read what is compared? All partitions of a few topics, without a group; commits nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.core.events import Ms
from pipeline.live.changelog import close
from pipeline.live.fetching import share_of
from pipeline.live.mismatch import OUTPUTS
from pipeline.live.partitioner import Partitioner
from pipeline.settings import Settings

CHUNK: Final = 2_000  # records taken at a time, so that a listener in the same loop answers


class NotThere(OSError):
    """A topic that is compared does not exist; the message says what to do."""


class Log:
    """Readers of the topics that are compared. Use as an asynchronous context: ``open_log``."""

    def __init__(self, settings: Settings, partitions: dict[str, int], consumers: dict[str, Any], looked: Callable[[int], None]) -> None:
        self.looked = looked
        self.prefix = settings.prefix
        self.partitions = partitions
        self._consumers = consumers
        self._of: Partitioner = Partitioner(partitions["events"])

    def places(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic."""
        return [TopicPartition(self.prefix + topic, p) for p in range(self.partitions[topic])]

    def partition(self, key: bytes) -> int:
        """The partition of ``events`` that an account is in."""
        return self._of(key)

    async def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """First offset and end offset of each partition of a topic."""
        consumer, places = self._consumers[topic], self.places(topic)
        first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        return {tp.partition: (first[tp], end[tp]) for tp in places}

    async def since(self, topic: str, at: Ms) -> dict[int, tuple[int, Ms] | None]:
        """Offset and time of the first record of each partition from a time on (ms), None where there is none."""
        found = await self._consumers[topic].offsets_for_times(dict.fromkeys(self.places(topic), at))
        return {tp.partition: None if one is None else (one.offset, one.timestamp) for tp, one in found.items()}

    def seek(self, topic: str, offsets: dict[int, int]) -> None:
        """Read the partitions from these offsets."""
        for partition, offset in offsets.items():
            tp = TopicPartition(self.prefix + topic, partition)
            self._consumers[topic].seek(tp, offset)
            self._consumers[topic].resume(tp)

    async def to_the_end(self, topic: str) -> AsyncIterator[Sequence[Any]]:
        """Read every partition of a topic to the end it has now, or a little further; records come in order per partition."""
        consumer = self._consumers[topic]
        behind: dict[TopicPartition, int] = await consumer.end_offsets(self.places(topic))
        while behind := {tp: end for tp, end in behind.items() if await consumer.position(tp) < end}:
            fetched = await consumer.getmany(*behind, timeout_ms=500, max_records=CHUNK)
            for records in fetched.values():
                yield records
            self.looked(sum(map(len, fetched.values())))
            await asyncio.sleep(0)


@asynccontextmanager
async def open_log(settings: Settings, looked: Callable[[int], None] = lambda records: None) -> AsyncIterator[Log]:
    """Open readers of what is compared, all partitions of it. ``looked`` is called as long as reading goes on, with how much was read.

    Raises NotThere, and KafkaError without brokers.
    """
    names = ("events", "detect-state", "dead-letters", *OUTPUTS)
    partitions = await _partitions(settings, names)
    consumers: dict[str, Any] = {}
    try:
        for name in names:
            consumer = consumers[name] = AIOKafkaConsumer(
                **settings.connection(),
                enable_auto_commit=False,
                auto_offset_reset="none",  # what retention removes while we read is missed, and that must be said
                fetch_max_wait_ms=50,
                max_partition_fetch_bytes=share_of(settings.fetch_bytes, partitions[name]),
            )
            await consumer.start()
            places = [TopicPartition(settings.topic(name), p) for p in range(partitions[name])]
            consumer.assign(places)
            consumer.pause(*places)  # until it is said from where to read
        yield Log(settings, partitions, consumers, looked)
    finally:
        for consumer in consumers.values():
            await close(consumer)


async def _partitions(settings: Settings, names: Iterable[str]) -> dict[str, int]:
    admin = AIOKafkaAdminClient(**settings.connection())
    await admin.start()
    try:
        there = set(await admin.list_topics())
        missing = [settings.topic(name) for name in names if settings.topic(name) not in there]
        if missing:
            raise NotThere(f"{', '.join(missing)}: not there; see OFFHOOK_PREFIX, and run `offhook topics create`")
        described = await admin.describe_topics([settings.topic(name) for name in names])
    finally:
        await admin.close()
    return {one["topic"].removeprefix(settings.prefix): len(one["partitions"]) for one in described}
