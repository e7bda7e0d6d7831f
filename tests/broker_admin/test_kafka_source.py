"""Reading Kafka for a replay: a span of arrivals, merged, ended, and unmoved by what the broker removed or marked."""

import asyncio
import time
from collections.abc import Iterable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from pipeline.replay import kafka_source
from pipeline.replay.kafka_source import KafkaUnreadable, read_kafka
from pipeline.settings import Settings
from pipeline.wire.log import LogRecord

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]
T0 = 1_700_000_000_000  # in the past: records with times of their own (CreateTime) stand for arrivals


@pytest.fixture
def settings(broker: str, topic_prefix: str) -> Settings:
    return Settings(brokers=broker, prefix=topic_prefix)


async def make(settings: Settings, name: str, partitions: int, **configs: str) -> None:
    admin = AIOKafkaAdminClient(**settings.connection())
    await admin.start()
    try:
        values = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}
        values |= {key.replace("_", "."): value for key, value in configs.items()}
        await admin.create_topics([NewTopic(settings.topic(name), partitions, 1, topic_configs=values)])
    finally:
        await admin.close()


async def send(settings: Settings, name: str, records: Iterable[tuple[int, int, bytes]], **options: object) -> None:
    """Append (partition, ms after T0, value)."""
    producer = AIOKafkaProducer(**settings.connection(), **options)
    await producer.start()
    try:
        for partition, ms, value in records:
            await producer.send(settings.topic(name), value, partition=partition, timestamp_ms=T0 + ms)
    finally:
        await producer.stop()


def read(settings: Settings, since: int = 0, until: int | None = None, **options: object) -> list[LogRecord]:
    span = T0 + since, None if until is None else T0 + until
    return list(read_kafka(settings.connection(), *span, prefix=settings.prefix, **options))


def values(records: Iterable[LogRecord]) -> list[str]:
    return [r.value.decode() for r in records if r.value is not None]


def test_partitions_and_topics_are_merged_by_arrival(settings: Settings) -> None:
    async def story() -> None:
        await make(settings, "logins", 2)
        await make(settings, "telephony", 1)
        await make(settings, "dispositions", 1)
        await send(settings, "logins", [(0, 10, b"a"), (0, 40, b"d"), (1, 20, b"b"), (1, 50, b"e")])
        await send(settings, "telephony", [(0, 20, b"c"), (0, 60, b"f")])

    asyncio.run(story())
    assert values(read(settings)) == list("abcdef"), "with the same arrival, the topic named first goes first"
    assert values(read(settings, since=20, until=50)) == list("bcd"), "from and with the first, up to and without the last"
    assert values(read(settings, since=41, until=50)) == []
    assert values(read(settings, until=1000)) == list("abcdef")
    assert values(read(settings, since=1000)) == []
    first = read(settings)[0]
    assert (first.topic, first.partition, first.offset, first.ts) == (settings.topic("logins"), 0, 0, T0 + 10)
    assert values(read(settings, topics=["telephony"])) == ["c", "f"]


def test_offset_order_stands_where_time_goes_back(settings: Settings) -> None:
    async def story() -> None:
        await make(settings, "logins", 2)
        await send(settings, "logins", [(0, 30, b"1"), (0, 10, b"2"), (0, 50, b"5"), (1, 29, b"0"), (1, 31, b"3"), (1, 49, b"4")])

    asyncio.run(story())
    assert values(read(settings)) == list("012345")
    assert values(read(settings, until=30)) == ["0"], "what follows a later record arrived later"
    assert values(read(settings, since=30)) == list("12345")


def test_what_compaction_removed_is_not_waited_for(settings: Settings) -> None:
    async def story() -> int:
        await make(
            settings,
            "phone-links",
            1,
            cleanup_policy="compact",
            segment_bytes="1048576",
            segment_ms="100",
            min_cleanable_dirty_ratio="0.001",
            max_compaction_lag_ms="100",
        )
        producer = AIOKafkaProducer(**settings.connection())
        consumer = AIOKafkaConsumer(**settings.connection())
        tp = TopicPartition(settings.topic("phone-links"), 0)
        await producer.start()
        await consumer.start()
        try:
            for n in range(20):
                await producer.send_and_wait(tp.topic, b"v%d" % n, key=b"k%d" % (n % 2), partition=0, timestamp_ms=T0 + n)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                # a fresh record closes the segment before it, which compaction may then touch
                await producer.send_and_wait(tp.topic, b"new", key=b"k2", partition=0, timestamp_ms=T0 + 1000)
                await asyncio.sleep(1)
                end = (await consumer.end_offsets([tp]))[tp]
                offsets = [r.offset for r in await asyncio.to_thread(read, settings)]
                if len(offsets) < 6:
                    assert 17 not in offsets
                    return end - len(offsets)
        finally:
            await producer.stop()
            await consumer.stop()
        return 0

    assert asyncio.run(story()) > 10, "the broker did not compact; the story proves nothing"
    found = read(settings)
    assert [r.value for r in found][:2] == [b"v18", b"v19"]


def test_aborted_records_are_left_out_and_markers_are_passed(settings: Settings) -> None:
    async def story() -> None:
        await make(settings, "logins", 1)
        producer = AIOKafkaProducer(**settings.connection(), transactional_id=settings.prefix + "feeder")
        await producer.start()
        topic = settings.topic("logins")
        try:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"kept", partition=0, timestamp_ms=T0 + 1)
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"aborted", partition=0, timestamp_ms=T0 + 2)
            await producer.abort_transaction()
        finally:
            await producer.stop()

    asyncio.run(story())
    assert values(read(settings)) == ["kept"], "and the reading ends, though the last offsets are a marker and an aborted record"


def test_a_topic_that_grows_has_an_end(settings: Settings) -> None:
    async def story() -> None:
        await make(settings, "logins", 1)
        await send(settings, "logins", [(0, n, b"%d" % n) for n in range(10)])

    asyncio.run(story())
    records = read_kafka(settings.connection(), T0, prefix=settings.prefix)
    first = next(records)
    asyncio.run(send(settings, "logins", [(0, 11, b"after")]))
    assert values([first, *records]) == [str(n) for n in range(10)]


def test_one_long_partition_does_not_fill_the_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "HIGH", 200)
    monkeypatch.setattr(kafka_source, "LOW", 50)
    monkeypatch.setattr(kafka_source, "PARTITION_BYTES", 4096)
    most = 0
    take = kafka_source._Queue.take

    def watched(self: kafka_source._Queue, fetched: list[object]) -> None:
        nonlocal most
        take(self, fetched)
        most = max(most, len(self.records))

    monkeypatch.setattr(kafka_source._Queue, "take", watched)
    n = 3000

    async def story() -> None:
        await make(settings, "logins", 2)
        # all of partition 0 arrives before all of partition 1: the latter must be held while the former is read
        for begin in range(0, n, 100):
            await send(settings, "logins", [(0, i, b"%d" % i) for i in range(begin, begin + 100)], linger_ms=1)
            await send(settings, "logins", [(1, n + i, b"%d" % (n + i)) for i in range(begin, begin + 100)], linger_ms=1)

    asyncio.run(story())
    assert values(read(settings)) == [str(i) for i in range(2 * n)]
    assert most < 1500, "several times less than a partition"


def test_nothing_is_committed_and_no_group_is_made(settings: Settings) -> None:
    async def groups() -> set[str]:
        admin = AIOKafkaAdminClient(**settings.connection())
        await admin.start()
        try:
            return {group[0] for group in await admin.list_consumer_groups()}
        finally:
            await admin.close()

    async def story() -> None:
        await make(settings, "logins", 1)
        await send(settings, "logins", [(0, 1, b"a")])

    asyncio.run(story())
    before = asyncio.run(groups())
    read(settings)
    assert asyncio.run(groups()) <= before


def test_a_reader_that_stops_early_leaves_nothing_open(settings: Settings) -> None:
    async def story() -> None:
        await make(settings, "logins", 1)
        await send(settings, "logins", [(0, n, b"x") for n in range(100)])

    asyncio.run(story())
    records = read_kafka(settings.connection(), T0, prefix=settings.prefix)
    next(records)
    records.close()  # what is left open is a ResourceWarning, and warnings are errors


def test_no_topic_is_said(settings: Settings) -> None:
    with pytest.raises(KafkaUnreadable, match="none of these topics exists"):
        read(settings)


def test_records_that_go_while_they_are_read_are_missed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "PARTITION_BYTES", 1024)
    monkeypatch.setattr(kafka_source, "CHUNK", 1)

    async def story() -> None:
        await make(settings, "logins", 1)
        for n in range(40):
            await send(settings, "logins", [(0, n, b"x" * 900)])

    async def forget() -> None:
        admin = AIOKafkaAdminClient(**settings.connection())
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(settings.topic("logins"), 0): RecordsToDelete(before_offset=30)})
        finally:
            await admin.close()

    asyncio.run(story())
    records = read_kafka(settings.connection(), T0, prefix=settings.prefix)
    next(records)
    asyncio.run(forget())
    with pytest.raises(KafkaUnreadable, match="retention has removed records"):
        list(records)
