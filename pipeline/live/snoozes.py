"""Which causes need not be heard of, and how is another one added or ended? What ``offhook snooze`` does on the topic ``snoozes``.

Detect learns it as part of each account's order: ingest carries the records into ``events``.
"""

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from pipeline.live.changelog import ChangelogReader
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.reach import reach, refused
from pipeline.settings import Settings
from pipeline.wire.records import Snooze
from pipeline.wire.snoozes import snooze_key

TOPIC: Final = "snoozes"
_decode = msgspec.json.Decoder(Snooze).decode
_T = TypeVar("_T")


class NoSnoozes(OSError):
    """The topic does not exist; the message says what to do."""


def add(settings: Settings, snooze: Snooze) -> None:
    """Write a record, in force or ending one. Raises Unreachable, NoSnoozes, OSError."""
    _asked(settings, _add(settings, snooze))


def in_force(settings: Settings, at: datetime) -> list[Snooze]:
    """All snoozes that are in force at ``at``, by account and scope: the last word on each, as detect takes it.

    Raises Unreachable, NoSnoozes, OSError. What cannot be read is passed over: ingest has made a dead letter of it.
    """
    return _asked(settings, _in_force(settings, at))


def _asked(settings: Settings, work: Coroutine[Any, Any, _T]) -> _T:
    connection = settings.connection()
    try:
        reach(connection)
        return asyncio.run(work)
    except UnknownTopicOrPartitionError:
        raise NoSnoozes(f"there is no topic {settings.topic(TOPIC)}: `offhook topics create`") from None
    except KafkaError as e:
        raise refused(connection, e) from e
    finally:
        work.close()


async def _add(settings: Settings, snooze: Snooze) -> None:
    topic = settings.topic(TOPIC)
    async with Outbox(settings.connection()) as outbox:
        await outbox.know([topic])
        key = snooze_key(snooze.account_id, snooze.scope)
        await outbox.append(topic, outbox.partition(topic, key), [Outgoing(key, msgspec.json.encode(snooze))])


async def _in_force(settings: Settings, at: datetime) -> list[Snooze]:
    topic = settings.topic(TOPIC)
    last: dict[bytes, Snooze] = {}

    def take(key: bytes, value: bytes | None) -> None:
        if value is None:
            last.pop(key, None)
            return
        try:
            said = _decode(value)
        except msgspec.DecodeError:
            return
        place = snooze_key(said.account_id, said.scope)
        have = last.get(place)
        if have is None or (have.occurred_at, have.event_id) <= (said.occurred_at, said.event_id):
            last[place] = said

    async with Outbox(settings.connection()) as outbox:
        await outbox.know([topic])
        partitions = outbox.partitions(topic)
    for partition in range(partitions):
        async with ChangelogReader(settings.connection(), topic, partition) as reader:
            await reader.read(0, take)
    return [
        one
        for _, one in sorted(last.items())
        if one.status == "in_force" and one.occurred_at <= at and one.expires_at is not None and at < one.expires_at
    ]
