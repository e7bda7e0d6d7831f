"""What is a broker asked for, and when? aiokafka's own fetcher on brokers that are lists of records, several of them where it matters."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from faust.types.tuples import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.live.fetching import FETCH_MAX_WAIT_MS, LEAST_BYTES, OTHERS_S, SHORT_WAIT_MS, BatchThread
from tests.examples import examples

A, B = TP("events", 0), TP("events", 1)


class Brokers:
    """Where the logs are: the partition is the number of the broker that leads it, and a record is its offset."""

    _metadata_max_age_ms = 300_000

    def __init__(self, partitions: Iterable[TP], together: bool) -> None:
        """``together``: one broker leads all of them."""
        self._loop = asyncio.get_running_loop()
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: 0 if together else tp.partition)
        self.ends = dict.fromkeys(partitions, 0)
        self.most = 100  # records of a partition in an answer
        self.delays: dict[int, float] = {}  # of a broker's answer (s)
        self.asked: list[dict[TP, int]] = []  # each request: from which offset on
        self.bytes: list[set[int]] = []  # how much of each of its partitions
        self.patience: list[int] = []  # how long each might be kept waiting (ms)
        self._appended = asyncio.Event()

    def append(self, tp: TP, count: int = 1) -> None:
        self.ends[tp] += count
        self._appended.set()
        self._appended = asyncio.Event()

    async def send(self, node: int, request: FetchRequest) -> Any:
        """Answer at once where there is something, else when it comes or the time is up."""
        wanted = {TP(topic, number): at for topic, partitions in request.topics for number, at, _ in partitions}
        self.asked.append(wanted)
        self.bytes.append({most for _, partitions in request.topics for _, _, most in partitions})
        self.patience.append(request._max_wait_ms)
        if not any(self.ends[tp] > at for tp, at in wanted.items()):
            with contextlib.suppress(TimeoutError):  # then it is an answer without records
                await asyncio.wait_for(self._appended.wait(), request._max_wait_ms / 1000)
        await asyncio.sleep(self.delays.get(node, 0))
        answers = [(tp.partition, 0, self.ends[tp], 0, None, self._records(tp, at)) for tp, at in wanted.items()]
        return SimpleNamespace(API_VERSION=4, topics=[("events", answers)])

    def _records(self, tp: TP, at: int) -> bytes:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
        offsets = range(at, min(self.ends[tp], at + self.most))
        for offset in offsets:
            builder.append(offset - at, 0, None, b"%d" % offset, [])
        if not offsets:
            return b""
        batch = builder.build()
        batch[:8] = at.to_bytes(8, "big")  # the first offset, which a broker writes and the checksum leaves out
        return bytes(batch)


class Side:
    """The consumer thread's side of it."""

    def __init__(self, brokers: Brokers, partitions: Iterable[TP]) -> None:
        subscriptions = SubscriptionState()
        subscriptions.assign_from_user([TopicPartition(*tp) for tp in partitions])
        for tp in partitions:
            subscriptions.seek(TopicPartition(*tp), 0)
        self.fetcher = Fetcher(brokers, subscriptions, fetch_max_wait_ms=FETCH_MAX_WAIT_MS, max_partition_fetch_bytes=LEAST_BYTES)
        self._consumer = SimpleNamespace(
            _closed=False, _fetcher=self.fetcher, _subscription=subscriptions, assignment=subscriptions.assigned_partitions
        )
        self._thread = object.__new__(BatchThread)
        self._thread.consumer = SimpleNamespace(flow_active=True)
        self._thread._answered = {}
        self._thread._fetch_bytes = 1 << 20

    async def fetch(self, *partitions: TP, timeout: float = 0.5, most: int | None = None) -> dict[TP, list[int]]:
        """Offsets that one fetch brings; an answer of the wrong record would be told by its value."""
        wanted = {TopicPartition(*tp) for tp in partitions}
        found = await self._thread._fetch_records(self._consumer, wanted, timeout, most)
        assert all(record.value == b"%d" % record.offset for records in found.values() for record in records)
        return {TP(*tp): [record.offset for record in records] for tp, records in found.items()}


def run(script: Callable[[Brokers, Side], Awaitable[None]], *partitions: TP, together: bool = False) -> None:
    async def within() -> None:
        brokers = Brokers(partitions, together)
        side = Side(brokers, partitions)
        try:
            await asyncio.wait_for(script(brokers, side), 20)
        finally:
            await side.fetcher.close()

    asyncio.run(within())


def test_an_answer_holds_all_that_came_until_it_was_asked_for() -> None:
    """aiokafka left to itself asks at once: its answer would be the one record that came first."""

    async def script(brokers: Brokers, side: Side) -> None:
        brokers.append(A)
        assert await side.fetch(A) == {A: [0]}
        for _ in range(4):
            await asyncio.sleep(0.01)
            brokers.append(A)
        assert brokers.asked == [{A: 0}], "nothing is asked for while what came is being handled"
        assert await side.fetch(A) == {A: [1, 2, 3, 4]}

    run(script, A)


def test_of_a_backlog_the_next_part_is_asked_for_while_the_last_one_is_handled() -> None:
    async def script(brokers: Brokers, side: Side) -> None:
        brokers.most = 2
        brokers.append(A, 3)
        assert await side.fetch(A) == {A: [0, 1]}
        await asyncio.sleep(0.01)
        assert brokers.asked == [{A: 0}, {A: 2}]
        assert await side.fetch(A, timeout=0) == {A: [2]}
        await asyncio.sleep(0.01)
        assert len(brokers.asked) == 2, "its end was reached"

    run(script, A)


def test_what_may_be_fetched_ahead_is_shared_by_the_partitions_which_have_room_for_the_largest_batch_each() -> None:
    """A broker sends a larger batch than it was asked for of one partition alone, the others get nothing."""

    async def script(brokers: Brokers, side: Side) -> None:
        for side._thread._fetch_bytes in (8 << 20, 8 << 20, 1):
            brokers.append(A)
            brokers.append(B)
            await side.fetch(A, B)
        # The first is sent before anybody fetches.
        assert brokers.bytes == [{1 << 20}, {4 << 20}, {1 << 20}]

    run(script, A, B, together=True)


def test_a_partition_that_is_not_wanted_is_not_asked_for_and_holds_nobody_up() -> None:
    """Records of it that nobody takes would keep aiokafka from asking its broker for the others, for a tenth of a second."""

    async def script(brokers: Brokers, side: Side) -> None:
        brokers.append(A)
        brokers.append(B)
        assert await side.fetch(A, B) == {A: [0], B: [0]}
        brokers.append(A)
        brokers.append(B)
        began = asyncio.get_running_loop().time()
        assert await side.fetch(B) == {B: [1]}
        brokers.append(B)
        assert await side.fetch(B) == {B: [2]}
        assert asyncio.get_running_loop().time() - began < 0.05
        assert brokers.asked[1:] == [{B: 1}, {B: 2}]
        assert await side.fetch(A, B) == {A: [1]}

    run(script, A, B, together=True)


def test_what_another_broker_answers_within_a_moment_comes_in_the_same_fetch_and_later_in_the_next() -> None:
    async def script(brokers: Brokers, side: Side) -> None:
        for slow, together in ((OTHERS_S / 5, True), (OTHERS_S * 4, False)):
            brokers.delays = {B.partition: slow}
            brokers.append(A)
            brokers.append(B)
            first = await side.fetch(A, B)
            assert set(first) == ({A, B} if together else {A})
        assert await side.fetch(A, B) == {B: [1]}

    run(script, A, B)


def test_of_a_broker_with_a_backlog_that_answers_again_meanwhile_nothing_is_lost() -> None:
    async def script(brokers: Brokers, side: Side) -> None:
        brokers.most, brokers.delays = 1, {B.partition: OTHERS_S * 4}
        brokers.append(A, 3)
        brokers.append(B)
        found: list[int] = []
        while len(found) < 3:
            found += (await side.fetch(A, B)).get(A, [])
        assert found == [0, 1, 2]

    run(script, A, B)


def test_a_backlog_keeps_no_partition_of_its_broker_from_being_asked_for() -> None:
    """What was asked for ahead is taken before another partition could be: that one must not rest until it has been answered."""

    async def script(brokers: Brokers, side: Side) -> None:
        brokers.most = 2
        brokers.append(A, 2)
        brokers.append(B)
        assert await side.fetch(A, B) == {A: [0, 1], B: [0]}
        brokers.append(A, 200)
        assert await side.fetch(A, B) == {A: [2, 3]}
        brokers.append(B)
        brought: list[set[TP]] = []
        while len(brought) < 5:
            await asyncio.sleep(0.01)
            brought.append(set(await side.fetch(A, B)))
        assert {A, B} in brought

    run(script, A, B, together=True)


def test_a_broker_that_has_nothing_leads_to_nothing_being_asked_ahead_of_another() -> None:
    async def script(brokers: Brokers, side: Side) -> None:
        brokers.append(A)
        assert await side.fetch(A, B) == {A: [0]}
        for _ in range(3):
            brokers.append(A)
            await asyncio.sleep(0.001)
        assert {A: 1} not in brokers.asked
        assert await side.fetch(A, B) == {A: [1, 2, 3]}

    run(script, A, B)


def test_no_fetch_brings_more_records_than_it_may() -> None:
    async def script(brokers: Brokers, side: Side) -> None:
        brokers.most, brokers.delays = 10, {B.partition: OTHERS_S / 2}
        brokers.append(A, 40)
        brokers.append(B, 40)
        got = 0
        while got < 80:
            brought = await side.fetch(A, B, most=10)
            assert sum(map(len, brought.values())) <= 10
            got += sum(map(len, brought.values()))

    run(script, A, B)


def test_who_is_left_out_does_not_wait_for_the_end_of_a_long_poll() -> None:
    async def script(brokers: Brokers, side: Side) -> None:
        brokers.append(A)
        assert await side.fetch(A, B) == {A: [0]}
        await asyncio.sleep(2 * FETCH_MAX_WAIT_MS / 1000)  # what was asked for with it has been answered
        brokers.patience.clear()
        assert await side.fetch(B, timeout=0.005) == {}
        brokers.append(A)
        assert await side.fetch(A, B) == {A: [1]}
        assert brokers.patience[0] == SHORT_WAIT_MS

    run(script, A, B, together=True)


Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(st.tuples(st.just("append"), st.integers(0, 3)), st.tuples(st.just("fetch"), st.integers(1, 15)), st.just(("wait", 0))),
    max_size=25,
)


@given(steps=STEPS, most=st.integers(1, 3), slow=st.sampled_from([0.0, 0.002, 0.01]), together=st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_every_record_comes_once_and_in_order(steps: list[Step], most: int, slow: float, together: bool) -> None:
    """Whatever is appended, whichever partitions are wanted and whichever broker is slow."""
    partitions = [TP("events", number) for number in range(4)]
    got: dict[TP, list[int]] = {tp: [] for tp in partitions}

    async def script(brokers: Brokers, side: Side) -> None:
        brokers.most, brokers.delays = most, {1: slow}

        async def fetch(wanted: list[TP], timeout: float) -> None:
            for tp, offsets in (await side.fetch(*wanted, timeout=timeout)).items():
                assert tp in wanted
                got[tp] += offsets

        for kind, number in steps:
            if kind == "append":
                brokers.append(partitions[number])
            elif kind == "fetch":
                await fetch([tp for tp in partitions if number >> tp.partition & 1], 0.001)
            else:
                await asyncio.sleep(0.001)
        while any(len(got[tp]) < brokers.ends[tp] for tp in partitions):
            await fetch(partitions, 0.2)
        assert got == {tp: list(range(end)) for tp, end in brokers.ends.items()}

    run(script, *partitions, together=together)


@pytest.mark.parametrize("assigned", [[], [A]])
def test_the_state_of_a_partition_of_somebody_else_is_not_known(assigned: list[TP]) -> None:
    async def script(brokers: Brokers, side: Side) -> None:
        side._thread._ensure_consumer = lambda: side._consumer
        assert side._thread.read_state(B) == (None, None, None)
        if assigned:
            assert side._thread.read_state(A) == (0, None, None)

    run(script, *assigned)
