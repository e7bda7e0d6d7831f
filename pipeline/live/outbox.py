"""How do records leave a stage? In order per partition, one produce batch at a time, and the sender learns that the broker has them.

Stands between the stages and the broker. Tasks of several source partitions write to the same target partitions: while one
produce batch is under way, what is handed in next gathers behind it and leaves as the next one (a group commit). aiokafka's
``send`` costs 9 to 14 us a record; a batch builder costs 1.6 us. Every send ends: in the broker's answer, or in SendFailed.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from pipeline.live.limits import DEFAULT_BYTES, RecordTooLarge, batch_bytes, largest_batches, refused, unanswered
from pipeline.live.partitioner import Partitioner

GATHER_S = 0.002  # what is appended within it leaves in one request to each broker: a request costs both sides more than a record
BATCH_BYTES = 512 * 1024  # half of the broker's default message.max.bytes
ANSWER_S = 60.0  # a broker that was restarted answers within 30 s; after twice that somebody should know
HURRY_S = 5.0  # what an answer still gets once the worker has been told to end
CLOSE_S = 3.0  # what the producer gets to close its connections
ROOM_BYTES = 4096  # more than the key and the headers of any record of ours, dead letters apart
Header = tuple[str, bytes]


class Outgoing(NamedTuple):
    """A record to be appended to a partition; a ``value`` of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


class Landed(NamedTuple):
    """Where a produce batch landed: the offset of its first record, and how many records it has."""

    offset: int
    records: int


class _Lane:
    """What is on its way to one partition."""

    __slots__ = ("queue", "running")

    def __init__(self) -> None:
        self.queue: list[tuple[Sequence[Outgoing], asyncio.Future[None]]] = []
        self.running: asyncio.Task[None] | None = None


class Outbox:
    """An idempotent producer that sends batches in order and answers when the broker has them."""

    def __init__(self, connection: dict[str, Any], make_producer: Callable[..., Any] = AIOKafkaProducer) -> None:
        """``connection``: where the broker is and how to reach it, as aiokafka's keyword arguments."""
        self._connection = connection
        self._make_producer = make_producer
        self._producer: Any = None
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._partitioners: dict[str, Partitioner] = {}
        self._largest: dict[str, int] = {}
        self.ample = DEFAULT_BYTES - ROOM_BYTES  # a value of so many bytes fits into every topic, whatever its key and our headers
        self._waiting: set[asyncio.Timeout] = set()
        self._hurried = False
        self._leaving: asyncio.Future[None] | None = None  # when what is being gathered leaves

    async def __aenter__(self) -> "Outbox":
        self._producer = self._make_producer(
            **self._connection,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=8 * BATCH_BYTES,
            linger_ms=0,
        )
        try:
            await self._producer.start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        lanes = [lane.running for lane in self._lanes.values() if lane.running is not None]
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        """Close the producer. It would wait for ever for what the brokers do not take, so that is given up: nobody counts on it."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._producer.stop()
        except TimeoutError:
            sender = self._producer._sender.sender_task
            sender.cancel()
            await self._producer.client.close()
            await asyncio.wait([sender], timeout=CLOSE_S)

    async def measure(self, topics: Iterable[str]) -> None:
        """Ask how large a batch the topics take; else the broker's default is taken for granted. Raises as ``know`` does, but at once."""
        self._largest |= await largest_batches(self._connection, topics)
        self.ample = min(self._largest.values(), default=DEFAULT_BYTES) - ROOM_BYTES

    async def know(self, topics: Iterable[str]) -> None:
        """Learn how many partitions the topics have. Raises UnknownTopicOrPartitionError for one that does not exist."""
        for topic in topics:
            found = await self._producer.partitions_for(topic)
            if not found:
                raise UnknownTopicOrPartitionError(topic)
            self._partitioners[topic] = Partitioner(len(found))

    def hurry(self) -> None:
        """The worker has been told to end: wait a little for the answers that are still to come, not as long as else."""
        self._hurried = True
        latest = asyncio.get_running_loop().time() + HURRY_S
        for waiting in self._waiting:
            when = waiting.when()
            if when is not None and when > latest:
                waiting.reschedule(latest)

    def excess(self, topic: str, record: Outgoing) -> RecordTooLarge | None:
        """What is wrong with a record that is larger than its topic takes; None for one that fits. Exact, and not for every record."""
        size, most = batch_bytes(*record), self._largest.get(topic, DEFAULT_BYTES)
        return RecordTooLarge(topic, size, most) if size > most else None

    def partition(self, topic: str, key: bytes) -> int:
        """The partition of a key in a topic that is known."""
        return self._partitioners[topic](key)

    def partitions(self, topic: str) -> int:
        """How many partitions a known topic has."""
        return self._partitioners[topic].partitions

    async def send(self, records: dict[tuple[str, int], list[Outgoing]]) -> None:
        """Append records to the partitions (topic, number) they are for, and wait for the broker's answer to all of them."""
        if records:
            await asyncio.gather(*[self.enqueue(topic, partition, found) for (topic, partition), found in records.items()])

    def enqueue(self, topic: str, partition: int, records: Sequence[Outgoing]) -> "asyncio.Future[None]":
        """Put records in line for a partition; the future ends when the broker has them. Order of calls is order in the log."""
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.queue.append((records, done))
        if lane.running is None:
            lane.running = asyncio.create_task(self._run(topic, partition, lane))
        return done

    async def _run(self, topic: str, partition: int, lane: _Lane) -> None:
        taken: list[tuple[Sequence[Outgoing], asyncio.Future[None]]] = []
        try:
            while lane.queue:
                await self._gathered()
                taken, lane.queue = lane.queue, []
                await self._append(topic, partition, [record for records, _ in taken for record in records])
                for _, done in taken:
                    if not done.done():
                        done.set_result(None)
        except BaseException as e:
            # Whoever waits must learn it: what was sent after a failure would land in another order.
            for _, done in taken + lane.queue:
                if not done.done():
                    done.set_exception(e) if isinstance(e, Exception) else done.cancel()
            lane.queue = []
            if not isinstance(e, Exception):
                raise
        finally:
            lane.running = None

    async def append(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Landed]:
        """Append records to one partition in as few produce batches as they fit in, one after the other. For one writer at a time.

        Raises SendFailed when the brokers refuse them or do not answer, RecordTooLarge before anything of them is sent.
        """
        await self._gathered()
        return await self._append(topic, partition, records)

    async def _append(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Landed]:
        for record in records:
            if record.value is not None and len(record.value) > self.ample:
                excess = self.excess(topic, record)
                if excess is not None:
                    raise excess
        return [await self._send(builder, topic, partition) for builder in self._batches(topic, records)]

    async def _gathered(self) -> None:
        """Wait until what is being gathered leaves."""
        if self._leaving is None or self._leaving.done():
            loop = asyncio.get_running_loop()
            self._leaving = loop.create_future()
            loop.call_later(GATHER_S, self._leaving.set_result, None)
        await asyncio.shield(self._leaving)  # others wait for it too

    def _batches(self, topic: str, records: Sequence[Outgoing]) -> Iterator[Any]:
        most = self._largest.get(topic, DEFAULT_BYTES)
        tight = most < BATCH_BYTES  # then the builder, which is made for BATCH_BYTES, does not know when it is full
        builder = self._producer.create_batch()
        for key, value, headers in records:
            full = tight and builder.record_count() and builder.size() + batch_bytes(key, value, headers) > most
            if full or builder.append(timestamp=None, key=key, value=value, headers=list(headers)) is None:
                yield builder
                builder = self._producer.create_batch()
                builder.append(timestamp=None, key=key, value=value, headers=list(headers))
        if builder.record_count():
            yield builder

    async def _send(self, builder: Any, topic: str, partition: int) -> Landed:
        count = builder.record_count()
        builder.close()
        patience = HURRY_S if self._hurried else ANSWER_S
        try:
            async with asyncio.timeout(patience) as waiting:
                self._waiting.add(waiting)
                try:
                    # Shielded: aiokafka's sender dies of a batch that was cancelled by the one who waits and must be sent again.
                    answer = await self._producer.send_batch(builder, topic, partition=partition)
                    answer.add_done_callback(_heard)
                    metadata = await asyncio.shield(answer)
                finally:
                    self._waiting.discard(waiting)
        except TimeoutError:
            raise await unanswered(self._producer.client, topic, partition, count) from None
        except KafkaError as e:
            if e.retriable:  # it was tried for as long as aiokafka does, as with a topic that nobody leads any more
                raise await unanswered(self._producer.client, topic, partition, count) from None
            raise refused(topic, partition, count, e) from None
        return Landed(metadata.offset, count)


def _heard(answer: "asyncio.Future[Any]") -> None:
    """Look at the answer to a batch that nobody may wait for any more, or asyncio complains."""
    if not answer.cancelled():
        answer.exception()
