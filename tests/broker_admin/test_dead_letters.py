"""Dead letters on a real broker: shown without their originals unless asked, and clear words where the original is gone."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from pipeline.live.dead_letters import Found, NoDeadLetters, show
from pipeline.settings import Settings
from pipeline.wire.codec import OutRecord
from pipeline.wire.dead_letter import DeadLetters, new_key_pair

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]
SECRET = b'{"event_id": "e1", "phone": "+447700900123"'


class Bank:
    """Topics with a few records that nobody can read."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def make(self, *names: str) -> None:
        async with AdminOf(self.settings) as admin:
            await admin.create_topics([NewTopic(self.settings.topic(n), 2, 1) for n in names])

    async def say(self, *records: bytes | None, topic: str = "telephony") -> list[int]:
        """Append to partition 1 of a topic; returns the offsets."""
        async with AIOKafkaProducer(**self.settings.connection()) as producer:
            return [
                (await producer.send_and_wait(self.settings.topic(topic), r, key=b"k", partition=1, headers=[("h", b"x")])).offset
                for r in records
            ]

    async def bury(
        self, letters: DeadLetters, offset: int, value: bytes | None, reason: str = "not_json", topic: str = "telephony"
    ) -> None:
        """Write the dead letter of a record."""
        full = self.settings.topic(topic)
        record = letters.record(full, 1, offset, 1_700_000_000_000, reason, "cut short", b"k", value, [("h", b"x")])
        await self.put(record)

    async def put(self, record: OutRecord) -> None:
        async with AIOKafkaProducer(**self.settings.connection()) as producer:
            batch = producer.create_batch()  # as the stages do: ``send`` refuses a record without key and value
            batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
            await (await producer.send_batch(batch, self.settings.topic("dead-letters"), partition=0))


class AdminOf:
    def __init__(self, settings: Settings) -> None:
        self._admin = AIOKafkaAdminClient(**settings.connection())

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._admin.start()
        return self._admin

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()


@pytest.fixture
def bank(broker: str, topic_prefix: str) -> Bank:
    return Bank(Settings(brokers=broker, prefix=topic_prefix))


def texts(found: list[Found]) -> str:
    return "\n".join(str(f) for f in found)


def test_a_reference_is_read_again_only_if_asked(bank: Bank) -> None:
    async def story() -> None:
        await bank.make("telephony", "dead-letters")
        offsets = await bank.say(b"fine", SECRET, None)
        await bank.bury(DeadLetters("reference"), offsets[1], SECRET)
        await bank.bury(DeadLetters("reference"), offsets[2], None, "no_value")

    asyncio.run(story())
    plainly = show(bank.settings)
    assert [f.letter.reason for f in plainly if f.letter] == ["not_json", "no_value"]
    assert {f.original for f in plainly} == {"not_asked"}
    assert "7700" not in texts(plainly)
    assert "telephony/1@1 not_json: cut short (43 bytes, reference)" in texts(plainly)

    first, second = show(bank.settings, payload=True)
    assert first.original == second.original == "here"
    assert first.letter is not None
    assert (first.letter.key, first.letter.value, first.letter.headers) == (b"k", SECRET, (("h", b"x"),))
    assert second.letter is not None
    assert second.letter.value is None
    assert "+447700900123" in str(first)


def test_sealed_ones_open_with_the_private_key_alone(bank: Bank) -> None:
    pair, other = new_key_pair(), new_key_pair()

    async def story() -> None:
        await bank.make("dead-letters")
        await bank.bury(DeadLetters("sealed", pair.public), 7, SECRET)

    asyncio.run(story())
    (without,) = show(bank.settings, payload=True)
    (wrong,) = show(bank.settings, payload=True, private_key=other.private)
    (right,) = show(bank.settings, payload=True, private_key=pair.private)
    assert without.original == wrong.original == "locked"
    assert "private key" in without.note
    assert "another key" in wrong.note
    assert right.letter is not None
    assert right.letter.value == SECRET
    assert "7700" not in texts([without, wrong, *show(bank.settings, private_key=pair.private)])


def test_plain_ones_carry_their_original(bank: Bank) -> None:
    async def story() -> None:
        await bank.make("dead-letters")
        await bank.bury(DeadLetters("plain"), 7, SECRET)

    asyncio.run(story())
    assert "7700" not in texts(show(bank.settings)), "nor are these shown unless asked"
    (found,) = show(bank.settings, payload=True)
    assert found.letter is not None
    assert found.letter.value == SECRET


def test_what_became_of_the_original_is_said(bank: Bank) -> None:
    letters = DeadLetters("reference")

    async def story() -> None:
        await bank.make("telephony", "logins", "dead-letters")
        await bank.say(b"deleted", b"still here")
        await bank.bury(letters, 0, b"deleted")
        await bank.bury(letters, 1, b"what stood there before")
        await bank.bury(letters, 99, b"beyond the end")
        await bank.bury(letters, 0, b"x", topic="dispositions")
        async with AdminOf(bank.settings) as admin:
            await admin.delete_records({TopicPartition(bank.settings.topic("telephony"), 1): RecordsToDelete(before_offset=1)})

    asyncio.run(story())
    found = show(bank.settings, payload=True)
    assert [(f.original, f.letter and f.letter.topic.removeprefix(bank.settings.prefix)) for f in found] == [
        ("gone", "telephony"),
        ("other", "telephony"),
        ("other", "telephony"),
        ("gone", "dispositions"),
    ]
    assert "retention has removed it (it begins at 1 now)" in found[0].note
    assert "another record now" in found[1].note
    assert "ends at 2" in found[2].note
    assert "no such topic" in found[3].note
    assert "still here" not in texts(found), "a record that is not the one that failed is not shown"


def test_the_latest_of_a_reason_a_topic_or_since_a_time(bank: Bank) -> None:
    letters = DeadLetters("reference")

    async def story() -> int:
        await bank.make("dead-letters")
        for offset in range(6):
            await bank.bury(letters, offset, b"x", "not_json" if offset % 2 else "too_large", "logins" if offset < 3 else "telephony")
        await asyncio.sleep(0.05)
        middle = int(time.time() * 1000)
        await asyncio.sleep(0.05)
        await bank.bury(letters, 6, b"x")
        await bank.put(OutRecord("dead-letters", None, b"not one", ()))
        return middle

    middle = asyncio.run(story())

    def offsets(**options: object) -> list[int | None]:
        return [f.letter.offset if f.letter else None for f in show(bank.settings, **options)]

    assert offsets() == [0, 1, 2, 3, 4, 5, 6, None]
    assert offsets(limit=3) == [5, 6, None]
    assert offsets(reason="too_large") == [0, 2, 4]
    assert offsets(reason="too_large", limit=1) == [4]
    assert offsets(topic="logins") == offsets(topic=bank.settings.topic("logins")) == [0, 1, 2]
    assert offsets(since_ms=middle) == [6, None]
    assert offsets(since_ms=middle + 3_600_000) == []
    assert "not a dead letter" in texts(show(bank.settings))


def test_what_compaction_removed_is_said(bank: Bank) -> None:
    letters = DeadLetters("reference")
    quick = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.001",
        "max.compaction.lag.ms": "100",
    }

    async def first_offset(settings: Settings, tp: TopicPartition) -> int:
        async with AIOKafkaConsumer(**settings.connection()) as consumer:
            consumer.assign([tp])
            consumer.seek(tp, 0)
            while True:
                for records in (await consumer.getmany(tp, timeout_ms=500)).values():
                    return records[0].offset

    async def story() -> None:
        await bank.make("dead-letters")
        full = bank.settings.topic("phone-links")
        async with AdminOf(bank.settings) as admin:
            await admin.create_topics([NewTopic(full, 2, 1, topic_configs=quick)])
        await bank.say(b"old", b"new", topic="phone-links")
        await bank.bury(letters, 0, b"old", topic="phone-links")
        async with asyncio.timeout(90):
            while await first_offset(bank.settings, TopicPartition(full, 1)) == 0:
                await asyncio.sleep(1)
                async with AIOKafkaProducer(**bank.settings.connection()) as producer:
                    await producer.send_and_wait(full, b"closes the segment", key=b"k2", partition=1)

    asyncio.run(story())
    (found,) = show(bank.settings, payload=True)
    assert found.original == "gone"
    assert "compaction has removed it" in found.note


def test_no_topic_is_said(bank: Bank) -> None:
    with pytest.raises(NoDeadLetters, match="OFFHOOK_PREFIX"):
        show(bank.settings)
