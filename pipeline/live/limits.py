"""What does a topic take, and why does it take nothing? The largest record, and the sentence for whoever must mend it.

Stands beside the outbox. aiokafka repeats an idempotent send for ever as long as the error may pass: a topic that was deleted and
replicas that are missing look alike to the worker, so they are told apart here once it gives up.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder

_LARGEST: Final = "max.message.bytes"
DEFAULT_BYTES: Final = 1_048_588  # message.max.bytes of Apache Kafka, for topics whose configuration we may not read
LOOK_S: Final = 5.0  # for the metadata that say why; a broker that is there answers in milliseconds
AGAIN: Final = "nothing of this batch is committed, a restarted worker reads it again"


class SendFailed(Exception):
    """The brokers have not taken records; the message says what to do."""


class RecordTooLarge(SendFailed):
    """A record is larger than its topic takes: it can never be sent as things are."""

    def __init__(self, topic: str, size: int, most: int) -> None:
        """``size`` and ``most``: bytes of a produce batch."""
        super().__init__(f"{topic}: a record of {size} bytes, and the topic takes {most}: raise its {_LARGEST} to {size} or more")
        self.short = f"an output of {size} bytes, and {topic} takes {most}"  # for a dead letter


def batch_bytes(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """How large a produce batch of this one record is, at most: what a topic's ``max.message.bytes`` is about."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, list(headers))
    return size


async def largest_batches(connection: dict[str, Any], topics: Iterable[str]) -> dict[str, int]:
    """The largest produce batch (bytes) that each topic takes. Raises UnknownTopicOrPartitionError for one that does not exist."""
    wanted = tuple(topics)
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        missing = sorted(set(wanted) - set(await admin.list_topics()))
        if missing:
            raise UnknownTopicOrPartitionError(f"{', '.join(missing)}: no such topic; `offhook topics create` makes it")
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {_LARGEST: None}) for topic in wanted])
    finally:
        await admin.close()
    found = dict.fromkeys(wanted, DEFAULT_BYTES)
    for answer in answers:
        for code, _, _, topic, entries in answer.resources:
            if not code:
                found[topic] = next((int(entry[1]) for entry in entries if entry[0] == _LARGEST), DEFAULT_BYTES)
    return found


def refused(topic: str, partition: int, records: int, error: KafkaError) -> SendFailed:
    """Put in words an answer of the broker that will not change by itself."""
    match error:
        case MessageSizeTooLargeError() | RecordListTooLargeError():
            what = f"the topic takes smaller batches than when this worker started: was {_LARGEST} lowered? A start learns the new bound"
        case TopicAuthorizationFailedError() | ClusterAuthorizationFailedError():
            what = f"this user may not write to it: allow Write on {topic}, and IdempotentWrite on the cluster where it is asked for"
        case _:
            what = "restart the worker; if it comes again, the brokers' own log says why"
    return SendFailed(f"{topic}-{partition}: {records} records refused, {type(error).__name__}: {what}; {AGAIN}")


async def unanswered(client: Any, topic: str, partition: int, records: int) -> SendFailed:
    """Find out why the brokers have not taken records in time. ``client``: aiokafka's, of the producer."""
    return SendFailed(f"{topic}-{partition}: {records} records not taken in time: {await _why(client, topic, partition)}; {AGAIN}")


async def _why(client: Any, topic: str, partition: int) -> str:
    try:
        async with asyncio.timeout(LOOK_S):
            cluster = await client.fetch_all_metadata()
    except (KafkaError, TimeoutError):
        return "no broker answers; look at the brokers and at the network between"
    if not cluster.partitions_for_topic(topic):
        return "the topic is gone; restore it, or make it anew with `offhook topics create`"
    if cluster.leader_for_partition(TopicPartition(topic, partition)) in (None, -1):
        return "the partition has no leader; start the brokers that hold its replicas"
    return (
        "brokers answer, and the partition has a leader; are enough of its replicas in sync (min.insync.replicas), and is its disk"
        " writable? The brokers' own log says why"
    )
