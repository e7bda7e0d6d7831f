"""What has a consumer group read lately? Reads it once more, from a time on, beside the group: nothing is committed, and nobody joins.

For a stage whose state is not written down: what it knew is in the records themselves.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from aiokafka import TopicPartition

from pipeline.core.events import Ms
from pipeline.live.batch import Record
from pipeline.live.changelog import CHUNK, bulk_reader, close


class Span(NamedTuple):
    """Offsets of a partition: the first one that arrived at a time or later, or the end where none has; the one behind the last that was
    read; and the end of all there is.
    """

    first: int
    behind: int
    end: int


class Past(Protocol):
    """What a stage asks of what its group has read."""

    async def __aenter__(self) -> "Past":
        """Connect."""

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Disconnect."""

    async def spans(self, topic: str, partitions: Collection[int], since: Ms) -> dict[int, Span]:
        """What the group has committed of each partition, from an arrival on; ``behind`` is 0 where it has committed nothing."""

    def read(self, topic: str, spans: dict[int, Span]) -> AsyncIterator[tuple[int, Sequence[Record]]]:
        """The records of the spans, partition by partition in the order of offsets, a few thousand at a time."""


class PastReader:
    """Reads what a consumer group has committed. Use as an asynchronous context."""

    def __init__(self, connection: dict[str, Any], group: str) -> None:
        self._connection = connection
        self._group = group
        self._consumer: Any = None

    async def __aenter__(self) -> "PastReader":
        # The group is there to ask what it has committed: without a subscription nobody joins it.
        self._consumer = await bulk_reader(self._connection, max_partition_fetch_bytes=4 << 20, group_id=self._group)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await close(self._consumer)

    async def spans(self, topic: str, partitions: Collection[int], since: Ms) -> dict[int, Span]:
        """What the group has committed of each partition, from an arrival on; ``behind`` is 0 where it has committed nothing."""
        places = [TopicPartition(topic, partition) for partition in partitions]
        self._consumer.assign(places)
        found = await self._consumer.offsets_for_times(dict.fromkeys(places, since))
        ends = await self._consumer.end_offsets(places)
        out = {}
        for place in places:
            committed = await self._consumer.committed(place) or 0
            first = found[place].offset if found[place] is not None else ends[place]
            out[place.partition] = Span(first, min(committed, ends[place]), ends[place])
        return out

    async def read(self, topic: str, spans: dict[int, Span]) -> AsyncIterator[tuple[int, Sequence[Record]]]:
        """The records of the spans, partition by partition in the order of offsets, a few thousand at a time.

        A partition is done when the *position* has come to its end: retention may have removed what was there.
        """
        left = {TopicPartition(topic, partition): span for partition, span in spans.items() if span.first < span.behind}
        if not left:
            return
        self._consumer.assign(list(left))
        for place, span in left.items():
            self._consumer.seek(place, span.first)
        while left:
            fetched = await self._consumer.getmany(*left, timeout_ms=500, max_records=CHUNK)
            for place, records in fetched.items():
                yield place.partition, [record for record in records if record.offset < left[place].behind]
            for place in [place for place, span in left.items() if span.behind <= await self._consumer.position(place)]:
                self._consumer.pause(place)
                del left[place]
