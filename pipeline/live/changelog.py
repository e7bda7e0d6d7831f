"""How is the state of a partition written down? As records of a compacted topic, keyed by entity and owner epoch, newest owner wins.

Stands between the state in memory and the broker. A worker that was paused past its session writes when it wakes, before it learns
that others own its partitions. So the key carries the *owner epoch*: a stale owner writes other keys than the new one, and of
all records of an entity the highest (epoch, input offset) is true, never the last one in the log.
"""

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

CLOCK = ""  # the reserved entity under which a partition's clock is kept; identifiers are never empty
_EPOCH_BYTES = 8
_OFFSET_BYTES = 8
CHUNK = 2_000  # records read at a time, so that a restore leaves room for others


class Kept(NamedTuple):
    """The state of an entity as of an input offset, written by the owner of an epoch."""

    epoch: int
    offset: int
    state: bytes


def encode_key(entity: str, epoch: int) -> bytes:
    """Key of an entity's record: its bytes, a zero byte, the epoch in eight bytes."""
    return entity.encode() + b"\0" + epoch.to_bytes(_EPOCH_BYTES, "big")


def decode_key(key: bytes) -> tuple[str, int]:
    """Entity and epoch of a key. Raises ValueError for what is not a key of ours."""
    end = len(key) - _EPOCH_BYTES - 1
    if end < 0 or key[end] != 0:
        raise ValueError("not a changelog key")
    return key[:end].decode(), int.from_bytes(key[end + 1 :], "big")


def encode_value(offset: int, state: bytes) -> bytes:
    """Value of a record: the input offset it speaks for (signed, -1 before the first) and the state."""
    return offset.to_bytes(_OFFSET_BYTES, "big", signed=True) + state


def decode_value(value: bytes) -> tuple[int, bytes]:
    """Input offset and state of a value. Raises ValueError for what is not a value of ours."""
    if len(value) < _OFFSET_BYTES:
        raise ValueError("not a changelog value")
    return int.from_bytes(value[:_OFFSET_BYTES], "big", signed=True), value[_OFFSET_BYTES:]


class Image:
    """What a changelog partition says, read in any number of pieces from its beginning."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self.superseded: dict[bytes, None] = {}  # keys that lost and have no tombstone yet, in order
        self.top = 0  # the highest epoch seen
        self._fresh: dict[str, None] = {}  # set or forgotten since ``news`` was last called

    def take(self, key: bytes, value: bytes | None) -> None:
        """Read one record. A tombstone clears what lost, or forgets what it names."""
        entity, epoch = decode_key(key)
        self.top = max(self.top, epoch)
        have = self.kept.get(entity)
        if value is None:
            self.superseded.pop(key, None)
            if have is not None and have.epoch == epoch:
                del self.kept[entity]
                self._fresh[entity] = None
            return
        offset, state = decode_value(value)
        if have is None or (epoch, offset) >= have[:2]:
            self.kept[entity] = Kept(epoch, offset, state)
            self._fresh[entity] = None
            if have is not None and have.epoch != epoch:
                self.superseded[encode_key(entity, have.epoch)] = None
        elif epoch != have.epoch:
            self.superseded[key] = None

    def unread(self) -> int:
        """For how many entities ``news`` would speak."""
        return len(self._fresh)

    def news(self) -> Iterator[tuple[str, Kept | None]]:
        """What is true of every entity that changed since the last call, None for what is forgotten.

        The states of entities leave the image with it, so that it stays small; that of the clock stays.
        """
        fresh, self._fresh = self._fresh, {}
        for entity in fresh:
            found = self.kept.get(entity)
            if found is not None and entity != CLOCK:
                self.kept[entity] = Kept(found.epoch, found.offset, b"")
            yield entity, found


class ChangelogReader:
    """Read one changelog partition from a position to its end. Use as an asynchronous context."""

    def __init__(self, connection: dict[str, Any], topic: str, partition: int) -> None:
        self._tp = TopicPartition(topic, partition)
        self._connection = connection
        self._consumer: Any = None
        self.tell: Callable[[int], None] = lambda records: None  # called with how many records were read, once for each fetch that had some

    async def __aenter__(self) -> "ChangelogReader":
        self._consumer = await bulk_reader(self._connection, max_partition_fetch_bytes=8 << 20)
        self._consumer.assign([self._tp])
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await close(self._consumer)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset and end offset of any partition."""
        tp = TopicPartition(topic, partition)
        first, end = await asyncio.gather(self._consumer.beginning_offsets([tp]), self._consumer.end_offsets([tp]))
        return first[tp], end[tp]

    async def read(self, position: int, take: Callable[[bytes, bytes | None], None]) -> int:
        """Hand every record from ``position`` to the end offset of now to ``take``; returns that end offset.

        Ends when the *position* has reached the end: compaction may have removed the last records.
        """
        end: int = (await self._consumer.end_offsets([self._tp]))[self._tp]
        self._consumer.seek(self._tp, position)
        while await self._consumer.position(self._tp) < end:
            fetched = await self._consumer.getmany(self._tp, timeout_ms=500, max_records=CHUNK)
            for records in fetched.values():
                for record in records:
                    if record.offset < end:
                        take(record.key, record.value)
                self.tell(len(records))
        return end


async def bulk_reader(connection: dict[str, Any], **options: Any) -> Any:
    """Start a consumer of aiokafka that reads a great deal from where it is told to, and commits nothing. End it with ``close``."""
    consumer = AIOKafkaConsumer(
        **connection,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=32 << 20,
        fetch_max_wait_ms=50,
        **options,
    )
    try:
        await consumer.start()
    except BaseException:
        await close(consumer)
        raise
    return consumer


async def close(consumer: Any) -> None:
    """Stop a consumer of aiokafka, whose fetcher lets its own cancellation out when it is stopped between two attempts to reach a broker.

    Taken for a cancellation of the caller, that would end a claim without a word, and its partition would wait for ever.
    """
    task = asyncio.current_task()
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        if task is None or task.cancelling():
            raise
