"""What stands in ``models``, and how does a model take force? For operators: read the topic, publish a snapshot, write an activation.

An activation goes to every partition of ``events``, where it counts, and then as a copy to ``models``, where people find the history.
If that breaks off, some partitions have switched: activate once more.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from nacl.signing import VerifyKey

from pipeline.core.champion import named_by
from pipeline.core.events import Activation
from pipeline.core.learn.shelf import checked, goes_on
from pipeline.core.learn.snapshot import SnapshotRefused
from pipeline.live.changelog import ChangelogReader
from pipeline.live.models import TOPIC
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.reach import reach
from pipeline.settings import Settings
from pipeline.wire.codec import encode_event

_decode = msgspec.json.Decoder(Activation).decode


class Shelved(msgspec.Struct, frozen=True):
    """What the topic holds: snapshots as they were written, by the id they stand under, and the activations in the order of their time."""

    snapshots: Mapping[str, bytes]
    activations: tuple[Activation, ...]


def read(settings: Settings) -> Shelved:
    """Read the topic to its end. Raises OSError without brokers."""
    connection = settings.connection()
    reach(connection)
    return asyncio.run(_read(connection, settings.topic(TOPIC)))


async def _read(connection: dict[str, Any], topic: str) -> Shelved:
    snapshots: dict[str, bytes] = {}
    activations: dict[str, Activation] = {}

    def take(key: bytes, value: bytes | None) -> None:
        name = (key or b"").decode(errors="replace")
        if value is None:
            snapshots.pop(name, None)
        elif name.startswith("a_"):
            try:
                activations[name] = _decode(value)
            except msgspec.DecodeError:  # not ours: it says nothing, and no harm is done
                return
        else:
            snapshots[name] = value

    async with ChangelogReader(connection, topic, 0) as reader:
        await reader.read(0, take)
    return Shelved(snapshots, tuple(sorted(activations.values(), key=lambda a: (a.arrived_at, a.activation_id))))


def publish(settings: Settings, model_id: str, data: bytes) -> None:
    """Write a checked snapshot. Raises OSError without brokers, SendFailed when they do not take it."""
    _send(settings, [(TOPIC, Outgoing(model_id.encode(), data))])


def prunable(shelved: Shelved, keep: int, key: VerifyKey) -> list[str]:
    """The snapshots that no activation names, without the ``keep`` that were written last, and without the one that learn goes on from."""
    named = {model_id for activation in shelved.activations for model_id in named_by(activation)}
    reached: dict[str, tuple[int, int, int]] = {}
    for model_id, data in shelved.snapshots.items():
        try:
            snapshot = checked(model_id, data, key)
        except SnapshotRefused:
            continue
        if goes_on(snapshot):
            reached[model_id] = snapshot.content.reached
    needed = named | ({max(reached, key=reached.__getitem__)} if reached else set())
    return [model_id for model_id in list(shelved.snapshots)[: -keep or None] if model_id not in needed]


def delete(settings: Settings, model_ids: list[str]) -> None:
    """Write a tombstone for each snapshot. Raises as ``publish`` does."""
    _send(settings, [(TOPIC, Outgoing(model_id.encode(), None)) for model_id in model_ids])


def activate(settings: Settings, activation: Activation) -> int:
    """Write an activation to every partition of ``events``; returns how many there are. Raises as ``publish`` does."""
    value = encode_event(activation)
    return _send(settings, [("events", Outgoing(None, value)), (TOPIC, Outgoing(activation.activation_id.encode(), value))])


def _send(settings: Settings, records: list[tuple[str, Outgoing]]) -> int:
    connection = settings.connection()
    reach(connection)

    async def send() -> int:
        topics = [settings.topic(name) for name, _ in records]
        async with Outbox(connection) as outbox:
            await outbox.measure(topics)
            await outbox.know(topics)
            written = []
            for topic, (_, record) in zip(topics, records, strict=True):
                written.append(outbox.partitions(topic))
                for partition in range(written[-1]):
                    await outbox.append(topic, partition, [record])
            return written[0]

    return asyncio.run(send())
