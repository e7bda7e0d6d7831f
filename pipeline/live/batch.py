"""What is handed to a stage at once? The fetched records of one partition; and who says how many of them may be handed out now."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec
from faust.types.tuples import TP, ConsumerMessage


class Record(Protocol):
    """What a stage needs of a fetched record; aiokafka's ConsumerRecord has it. ``timestamp`` in ms."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Batch(msgspec.Struct):
    """Records of one partition in offset order, as fetched in one generation of the consumer group.

    ``waits``: there is nothing to compute: before the stage has begun with it, and once all that is left is for others to answer.
    """

    tp: TP
    generation: int
    records: Sequence[Record]
    waits: bool = True

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return self.records[0].offset

    @property
    def last(self) -> int:
        """Offset of the last record."""
        return self.records[-1].offset


def message_of(batch: Batch) -> ConsumerMessage:
    """The batch as one of Faust's messages, at the place of its last record."""
    tp, last = batch.tp, batch.records[-1]
    at_s, nothing, generation = last.timestamp / 1000, None, batch.generation
    return ConsumerMessage(
        tp.topic, tp.partition, last.offset, at_s, 0, nothing, nothing, batch, nothing, nothing, nothing, tp, generation_id=generation
    )  # fmt: skip


class Admission(Protocol):
    """Says which partitions may be read and how much of what was read may be handed out now."""

    def closed(self, tp: TP) -> bool:
        """Must the partition not be read (its feed is suspended)?"""

    def admit(self, waiting: Mapping[TP, Sequence[Record]], behind: Collection[TP]) -> dict[TP, int]:
        """How many records of each waiting partition may be handed out.

        ``behind``: partitions with nothing waiting that are not known to be read to their end.
        """


class OpenAdmission:
    """Everything may be handed out at once."""

    def closed(self, tp: TP) -> bool:
        """No partition is closed."""
        return False

    def admit(self, waiting: Mapping[TP, Sequence[Record]], behind: Collection[TP]) -> dict[TP, int]:
        """All of it."""
        return {tp: len(records) for tp, records in waiting.items()}
