"""Does anything run ahead of what is durable while a run lasts? Samples committed offsets, changelog clocks and ends of the outputs.

Each sample reads what may be ahead first and what it must not pass afterwards: committed offsets, then the changelogs to their ends,
then the ends of the outputs. So whatever happens between two reads is on the safe side, and one violation is a proof. (Where compaction
took a clock away before it was read, the one that replaced it is taken.)
"""

import asyncio
import contextlib
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.broker.harness import Deployment
from tests.broker.verifier_state import CLOCK, Entry, entry_of

PAUSE_S = 0.2  # between two samples
GROUPS = {stage: f"offhook-{stage}" for stage in ("ingest", "route", "detect", "campaign")}
CHANGELOG = {"route": "route-state", "detect": "detect-state", "campaign": "campaign-state"}
SOURCE = {"route": "lines", "detect": "events", "campaign": "sightings"}
OUTPUTS = ("events", "lines", "alerts", "decisions", "sightings", "dead-letters")
At = tuple[str, int]  # topic without prefix, and partition


class Sample(NamedTuple):
    """One look. ``clocks``: per changelog partition the input offset that its newest owner's clock speaks for."""

    committed: dict[str, dict[At, int]]  # by stage
    clocks: dict[At, int]
    ends: dict[At, int]


class Due(NamedTuple):
    """An output that must be in the log before its input counts: before ``trigger`` is committed (a raw topic) or in the clock."""

    trigger: At
    offset: int
    output: At
    lies_at: int


class Watch:
    """Watch a deployment from a thread of its own, as a context. A broker that is away is waited for."""

    def __init__(self, live: Deployment) -> None:
        self._live = live
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="watch")
        self._error: BaseException | None = None
        self._entries: dict[At, Entry] = {}  # the newest clock of each changelog partition
        self._positions: dict[TopicPartition, int] = {}
        self.samples: list[Sample] = []

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    async def _run(self) -> None:
        while not self._stop.is_set():
            admin = AIOKafkaAdminClient(bootstrap_servers=self._live.bootstrap, request_timeout_ms=5000)
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._live.bootstrap,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                request_timeout_ms=5000,
                fetch_max_wait_ms=50,
            )
            try:
                await admin.start()
                await consumer.start()
                consumer.assign(
                    [TopicPartition(self._live.prefix + t, p) for t in CHANGELOG.values() for p in range(self._live.partitions)]
                )
                while not self._stop.is_set():
                    self.samples.append(await self._look(admin, consumer))
                    await asyncio.sleep(PAUSE_S)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(PAUSE_S)  # the broker is away, or has just come back
            except BaseException as e:
                self._error = e
                raise
            finally:
                with contextlib.suppress(asyncio.CancelledError):  # nobody cancels this: its own, let out by a fetcher between two attempts
                    await consumer.stop()
                await admin.close()
                await admin._client.close()  # which ``close`` leaves open when the start has failed

    async def _look(self, admin: Any, consumer: Any) -> Sample:
        prefix = self._live.prefix
        committed: dict[str, dict[At, int]] = {}
        for stage, group in GROUPS.items():
            found = await admin.list_consumer_group_offsets(prefix + group)
            committed[stage] = {(tp.topic.removeprefix(prefix), tp.partition): at.offset for tp, at in found.items()}
        await self._follow(consumer)
        places = [TopicPartition(prefix + t, p) for t in OUTPUTS for p in range(self._live.partitions)]
        ends = await consumer.end_offsets(places)
        clocks = {at: entry.offset for at, entry in self._entries.items()}
        return Sample(committed, clocks, {(tp.topic.removeprefix(prefix), tp.partition): end for tp, end in ends.items()})

    async def _follow(self, consumer: Any) -> None:
        """Read the changelogs on to the ends they have now."""
        places = sorted(consumer.assignment())
        for tp, end in (await consumer.end_offsets(places)).items():
            whole = await self._read_to(consumer, tp, end)
            while not whole:  # compacted meanwhile: the clock that stood there has been replaced by one behind the end
                whole = await self._read_to(consumer, tp, (await consumer.end_offsets([tp]))[tp])

    async def _read_to(self, consumer: Any, tp: TopicPartition, end: int) -> bool:
        """Take the clocks up to an end; False when offsets were missing on the way."""
        at = (tp.topic.removeprefix(self._live.prefix), tp.partition)
        position = self._positions.get(tp, 0)
        consumer.seek(tp, position)
        whole = True
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                if record.offset < end:
                    whole = whole and record.offset == position
                    position = record.offset + 1
                    self._take(at, record.key, record.value)
        self._positions[tp] = end
        return whole and position == end

    def _take(self, at: At, key: bytes, value: bytes | None) -> None:
        if value is not None:
            entity, entry = entry_of(key, value)
            if entity == CLOCK and (at not in self._entries or entry[:2] >= self._entries[at][:2]):
                self._entries[at] = entry

    def check(self, dues: Iterable[Due]) -> None:
        """Assert for every sample that nothing was committed or in a clock whose state or output was not yet durable."""
        assert len(self.samples) > 3, "the watch saw nothing"
        by_trigger = _by_trigger(dues)
        for number, sample in enumerate(self.samples):
            for stage, changelog in CHANGELOG.items():
                for (topic, partition), offset in sample.committed[stage].items():
                    durable = sample.clocks.get((changelog, partition), -1)
                    assert offset <= durable + 1, f"{stage} committed {offset} of {topic}/{partition} when {durable} was durable ({number})"
            bounds = dict(sample.committed["ingest"])
            for stage, changelog in CHANGELOG.items():
                bounds |= {(SOURCE[stage], p): at + 1 for (topic, p), at in sample.clocks.items() if topic == changelog}
            for trigger, bound in bounds.items():
                offsets, needed = by_trigger.get(trigger, ([], []))
                index = bisect_left(offsets, bound)
                for output, lies_at in needed[index - 1].items() if index else ():
                    assert lies_at < sample.ends[output], (
                        f"{trigger} counted as done below {bound} when {output} ended at {sample.ends[output]}: {lies_at} was missing"
                    )


def _by_trigger(dues: Iterable[Due]) -> dict[At, tuple[list[int], list[dict[At, int]]]]:
    """Per trigger: input offsets, rising, and for each the highest output offset needed per output partition, all before included."""
    sorted_dues: dict[At, list[Due]] = defaultdict(list)
    for due in dues:
        sorted_dues[due.trigger].append(due)
    table: dict[At, tuple[list[int], list[dict[At, int]]]] = {}
    for trigger, found in sorted_dues.items():
        found.sort(key=lambda due: due.offset)
        needed: list[dict[At, int]] = []
        most: dict[At, int] = {}
        for due in found:
            most = {**most, due.output: max(due.lies_at, most.get(due.output, -1))}
            needed.append(most)
        table[trigger] = ([due.offset for due in found], needed)
    return table
