"""What becomes of fetched records when a partition is sought back, or all are forgotten, at an awkward moment? Without a broker."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.types.tuples import TP, ConsumerMessage
from mode import Service

from pipeline.live import consumer as consumer_module
from pipeline.live.batch import Batch, OpenAdmission, message_of
from pipeline.live.consumer import BatchConsumer
from pipeline.live.fetching import BatchThread
from pipeline.live.transport import BatchTransport
from tests.live.test_align import Fetched

A, B, C = TP("events", 0), TP("events", 1), TP("events", 2)


class ScriptedThread(Service):
    """What stands in for Faust's consumer thread."""

    def __init__(self, consumer: "ScriptedConsumer") -> None:
        super().__init__()
        self._consumer = consumer
        self.asked = 0  # each look finds a newer answer of the broker

    async def getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, Sequence[Any]]:
        self._consumer.asked.append((active_partitions, timeout))
        return self._consumer.brought

    def assignment(self) -> set[TP]:
        return set(self._consumer.logs)

    async def seek_to_beginning(self, *partitions: Any) -> None:
        self._consumer.at.update({TP(tp.topic, tp.partition): 0 for tp in partitions})

    def read_state(self, tp: TP) -> tuple[int | None, int | None, int | None]:
        self.asked += 1
        return self._consumer.at[tp], len(self._consumer.logs[tp]), self.asked * 10_000


class ScriptedConsumer(BatchConsumer):
    """A consumer whose broker is a list: each fetch gives the records from the position on, after ``meanwhile`` ran."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logs = {A: list(range(10)), B: list(range(10))}
        self.at = {A: 0, B: 0}
        self.commits: dict[TP, int] = {}
        self.meanwhile: Callable[[], Any] | None = None
        self.asked: list[tuple[set[TP], float]] = []  # fetches: of which partitions, and for how long
        self.brought: dict[TP, list[Any]] = {}  # by each of them
        self.gone = False  # somebody else has the partitions
        self.delivered: list[ConsumerMessage] = []

    def _new_consumer_thread(self) -> Any:
        return ScriptedThread(self)

    def highwater(self, tp: TP) -> int:
        return len(self.logs[tp])

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        if self.gone:
            raise IllegalStateError("No current assignment for partition")
        self.at.update(partitions)

    async def perform_seek(self) -> None:
        """As aiokafka: a partition without a committed offset stays where it is."""
        assert not self.gone, "No partitions are currently assigned"
        self._committed_offset.update(self.commits)
        self._read_offset.update({tp: self.commits.get(tp) for tp in self.logs})
        self.at.update(self.commits)

    async def _wait_next_records(self, timeout: float) -> tuple[Mapping[TP, Sequence[Any]], set[TP]]:
        await asyncio.sleep(0)
        found = {tp: [Fetched(0, offset) for offset in log[self.at[tp] :]] for tp, log in self.logs.items()}
        for tp, records in found.items():
            self.at[tp] += len(records)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return {tp: records for tp, records in found.items() if records}, set(self.logs)

    async def handed(self) -> dict[TP, list[int]]:
        """What one round of fetching hands out, as offsets."""
        self.delivered.clear()
        await self.hand_out(0)
        return {message.tp: offsets(message) for message in self.delivered}


def offsets(message: ConsumerMessage) -> list[int]:
    return [record.offset for record in message.value.records]


Script = Callable[[ScriptedConsumer], Awaitable[None]]


def test_all_that_is_asked_of_fausts_consumer_thread_is_there() -> None:
    """What stands in for it here must not have what it has not: a seek that Faust does not know was never noticed."""
    own = {name for name, value in vars(ScriptedThread).items() if callable(value) and not name.startswith("__")}
    assert own == {"assignment", "getmany", "read_state", "seek_to_beginning"}
    assert {name for name in own if not callable(getattr(BatchThread, name, None))} == set()
    replaced = {name for name, value in vars(ScriptedConsumer).items() if callable(value) and not name.startswith("__")} - {"handed"}
    assert {name for name in replaced if not callable(getattr(BatchConsumer, name, None))} == set()


def run(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script with a consumer of an app that is never started."""

    async def within() -> None:
        app = faust.App("transport", broker="kafka://localhost:1", broker_max_poll_records=1000)
        monkeypatch.setattr(BatchTransport, "Consumer", ScriptedConsumer)
        delivered: list[ConsumerMessage] = []
        app.transport = BatchTransport(app, OpenAdmission(), delivered.append, lambda tps, generation: None, lambda: None)
        consumer = app.consumer
        consumer.delivered = delivered
        consumer.flow_active = True
        await script(consumer)

    asyncio.run(within())


def test_records_of_a_fetch_that_a_seek_overtook_are_read_again_from_the_place_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        consumer.at = {A: 6, B: 6}
        consumer.meanwhile = lambda: consumer.rewind(A, 3)
        assert await consumer.handed() == {B: [6, 7, 8, 9]}
        assert await consumer.handed() == {A: [3, 4, 5, 6, 7, 8, 9]}

    run(script, monkeypatch)


def test_records_that_wait_are_dropped_when_their_partition_is_sought_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        monkeypatch.setattr(consumer.transport.admission, "admit", lambda waiting, behind: dict.fromkeys(waiting.keys() - {B}, 5))
        assert await consumer.handed() == {A: [0, 1, 2, 3, 4]}
        await consumer.rewind(B, 4)
        consumer.settle(consumer.delivered[0])
        monkeypatch.undo()
        assert await consumer.handed() == {A: [5, 6, 7, 8, 9]}, "the records of after the seek cannot be told from those of before"
        assert await consumer.handed() == {B: [4, 5, 6, 7, 8, 9]}

    run(script, monkeypatch)


def test_a_rebalance_while_a_partition_is_sought_once_more_hands_out_nothing_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        seek = consumer.seek_wait

        async def rebalanced(partitions: Mapping[TP, int]) -> None:
            await seek(partitions)
            sought.append(partitions)
            consumer.flow_active = len(sought) < 2

        sought: list[Mapping[TP, int]] = []
        consumer.meanwhile = lambda: consumer.rewind(A, 3)
        monkeypatch.setattr(consumer, "seek_wait", rebalanced)
        assert await consumer.handed() == {}
        consumer.flow_active = True
        assert await consumer.handed() == {A: list(range(10)), B: list(range(10))}

    run(script, monkeypatch)


def test_a_fetch_that_ends_in_a_rebalance_is_dropped_and_sought_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        consumer.meanwhile = lambda: stop_flow(consumer)
        assert await consumer.handed() == {}
        consumer.flow_active = True
        assert await consumer.handed() == {A: list(range(10)), B: list(range(10))}

    run(script, monkeypatch)


def test_a_fetch_that_was_asked_for_under_an_earlier_assignment_is_dropped_and_sought_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it brings is of the place before. Handed out first, it hid that the group's offset had been set beyond what is folded."""

    async def script(consumer: ScriptedConsumer) -> None:
        async def sought(tps: set[TP], generation: int) -> None:
            await consumer.perform_seek()
            consumer.flow_active = True

        consumer._on_partitions_assigned = sought
        consumer.logs[A] = list(range(6))  # as far as there is anything when it is fetched

        async def assigned_anew() -> None:
            consumer.logs[A] = list(range(10))
            consumer.commits = {A: 8, B: 4}
            await consumer.on_partitions_assigned({A, B}, 7)

        consumer.meanwhile = assigned_anew
        assert await consumer.handed() == {}
        assert await consumer.handed() == {A: [8, 9], B: [4, 5, 6, 7, 8, 9]}

    run(script, monkeypatch)


def test_a_partition_that_was_never_committed_is_read_from_its_beginning_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first records come with a fetch that a rebalance overtook: dropped and not sought back, they would be lost."""

    async def script(consumer: ScriptedConsumer) -> None:
        consumer.commits = {B: 4}
        consumer.at = {A: 0, B: 8}
        consumer.meanwhile = lambda: stop_flow(consumer)
        assert await consumer.handed() == {}
        consumer.flow_active = True
        assert await consumer.handed() == {A: list(range(10)), B: [4, 5, 6, 7, 8, 9]}

    run(script, monkeypatch)


def test_what_could_not_be_sought_back_is_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker does not answer for a while. Partitions that were never committed would else be left behind their first records."""

    async def script(consumer: ScriptedConsumer) -> None:
        consumer._waiting = {B: [Fetched(0, 0)]}  # fetched before, and held back
        consumer.at[B] = 1
        consumer.logs[A], consumer.logs[B] = [0], [0]
        consumer.gone = True
        consumer.meanwhile = lambda: stop_flow(consumer)
        assert await consumer.handed() == {}
        consumer.flow_active = True
        assert await consumer.handed() == {}, "not before it is sought back"
        assert consumer.at == {A: 1, B: 1}
        consumer.gone = False
        assert await consumer.handed() == {A: [0], B: [0]}

    run(script, monkeypatch)


@pytest.mark.parametrize("taken", [True, False])
def test_an_offset_whose_commit_was_refused_does_not_count_as_committed(taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust remembers it as done, and would neither commit it again nor, with it, see that the group has none."""

    async def script(consumer: ScriptedConsumer) -> None:
        asked: list[Mapping[TP, int]] = []

        async def committed(offsets: Mapping[TP, int]) -> bool:
            asked.append(dict(offsets))
            return taken

        monkeypatch.setattr(consumer, "_commit", committed)
        await consumer.handed()
        for message in list(consumer.delivered):
            consumer.settle(message)
        for _ in range(2):
            await consumer.commit({A, B})
        assert asked == ([{A: 10, B: 10}] if taken else [{A: 10, B: 10}] * 2)
        assert consumer.committed(A) == (10 if taken else None)

    run(script, monkeypatch)


def test_what_the_group_has_not_committed_is_read_again_whatever_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        consumer._committed_offset[A] = 10  # refused, and told late
        consumer.meanwhile = lambda: stop_flow(consumer)
        assert await consumer.handed() == {}
        consumer.flow_active = True
        assert await consumer.handed() == {A: list(range(10)), B: list(range(10))}

    run(script, monkeypatch)


def test_nothing_flows_from_an_assignment_to_the_seek_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the worker had no partitions before, whose flow Faust does not stop."""

    async def script(consumer: ScriptedConsumer) -> None:
        flowed: list[bool] = []

        async def assigned(tps: set[TP], generation: int) -> None:
            flowed.append(consumer.flow_active)

        consumer._on_partitions_assigned = assigned
        await consumer.on_partitions_assigned({A, B}, 7)
        assert flowed == [False]

    run(script, monkeypatch)


def test_what_is_settled_is_committed_at_a_rebalance_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        await consumer.handed()
        for message in list(consumer.delivered):
            consumer.settle(message)
        assert consumer._filter_committable_offsets(consumer._filter_tps_with_pending_acks()) == {A: 10, B: 10}

        async def revoked(tps: set[TP]) -> None:
            assert consumer._filter_committable_offsets(consumer._filter_tps_with_pending_acks()) == {A: 10, B: 10}
            assert consumer._filter_tps_with_pending_acks({B}) == [B]

        consumer._on_partitions_revoked = revoked
        await consumer.on_partitions_revoked({A, B})
        await consumer.on_partitions_assigned({A}, 8)
        assert consumer._filter_tps_with_pending_acks() == [], "of a generation that has ended nothing is committed"

    run(script, monkeypatch)


def test_a_fetch_that_is_cancelled_and_nobody_asked_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        async def cancelled() -> None:
            raise asyncio.CancelledError

        consumer.meanwhile = cancelled
        with pytest.raises(RuntimeError, match="cancelled by itself"):
            await consumer._drain_messages(Service())
        asked = asyncio.create_task(consumer._drain_messages(Service()))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    run(script, monkeypatch)


def test_a_fetch_that_ends_when_the_partitions_have_gone_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of more workers than partitions leaves one with none, at any moment; it must wait for the next rebalance, not fail."""

    async def script(consumer: ScriptedConsumer) -> None:
        consumer.gone = True
        consumer.meanwhile = lambda: stop_flow(consumer)
        assert await consumer.handed() == {}
        await consumer.rewind(A, 3)

    run(script, monkeypatch)


async def stop_flow(consumer: ScriptedConsumer) -> None:
    consumer.flow_active = False


def test_batches_are_handed_out_until_the_fetcher_ends_wherever_faust_thinks_it_has_read_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust would drop a batch from below the last offset it has seen, and the partition would be busy for ever."""

    async def script(consumer: ScriptedConsumer) -> None:
        fetcher = Service()
        consumer._read_offset[A] = 50
        rounds = asyncio.create_task(consumer._drain_messages(fetcher))
        while len(consumer.delivered) < 2:
            await asyncio.sleep(0)
        fetcher._stopped.set()
        await asyncio.wait_for(rounds, 30)
        assert {message.tp: offsets(message) for message in consumer.delivered} == {A: list(range(10)), B: list(range(10))}
        assert set(consumer.unacked) == set(consumer.delivered), "a rebalance waits for them"

    run(script, monkeypatch)


def test_a_broker_that_stops_the_consumer_ends_the_worker_unless_it_ends_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        async def stopped() -> None:
            raise ConsumerStoppedError

        for ending in (True, False):
            monkeypatch.setattr(consumer.app, "_stopped", SimpleNamespace(is_set=lambda ending=ending: ending))
            consumer.meanwhile = stopped
            with contextlib.nullcontext() if ending else pytest.raises(ConsumerStoppedError):
                await asyncio.wait_for(consumer._drain_messages(Service()), 30)

    run(script, monkeypatch)


def test_what_is_held_of_a_suspended_feed_keeps_nobody_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that were fetched before the feed was closed are never handed out: the others are fetched as if they were not there."""

    async def script(consumer: ScriptedConsumer) -> None:
        monkeypatch.setattr(consumer.transport.admission, "closed", lambda tp: tp == A, raising=False)
        consumer._waiting[A] = [Fetched(0, 0)]
        await consumer._getmany({A, B}, 1.0)
        consumer._waiting[B] = [Fetched(0, 0)]  # held back for now: its turn may come any time
        await consumer._getmany({A, B}, 1.0)
        del consumer._waiting[B]
        await consumer._getmany({A, B}, 1.0)
        assert consumer.asked == [({B}, 1.0), ({B}, 1.0)]

    run(script, monkeypatch)


def test_while_records_keep_coming_a_fetch_waits_no_longer_than_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(consumer: ScriptedConsumer) -> None:
        for consumer.brought in ({A: [Fetched(0, 0)]}, {A: [Fetched(1, 0)]}, {}, {}):
            await consumer._getmany({A, B}, 1.0)
        assert consumer.asked == [({A, B}, patience) for patience in (1.0, consumer_module.PACE_S, consumer_module.PACE_S, 1.0)]

    run(script, monkeypatch)


def test_partitions_that_are_soon_settled_are_fetched_from_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that leaves one out brings a batch of its own, and whoever is left out waits for the next."""
    monkeypatch.setattr(consumer_module, "PACE_S", 0.2)

    def in_hand(consumer: ScriptedConsumer) -> ConsumerMessage:
        message = message_of(Batch(A, consumer.app.consumer_generation_id, [Fetched(0, 0)]))
        consumer._out[A] = message
        return message

    async def script(consumer: ScriptedConsumer) -> None:
        await consumer._getmany({A, B}, 1.0)
        asyncio.get_running_loop().call_later(0.3, consumer.settle, in_hand(consumer))
        await consumer._getmany({A, B}, 1.0)
        in_hand(consumer)
        await consumer._getmany({A, B}, 1.0)  # that one takes longer: nobody waits for it
        assert [who for who, _ in consumer.asked] == [{A, B}, {A, B}, {B}]
        assert consumer.asked[-1] == ({B}, 0.2), "what was left out is settled meanwhile"

    run(script, monkeypatch)


def test_nothing_more_is_fetched_while_two_fetches_are_in_hand_and_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebalance waits for what is in hand, and must not wait for a whole backlog; what only waits for a broker holds up nobody."""

    async def script(consumer: ScriptedConsumer) -> None:
        consumer.app.conf.broker_max_poll_records = 5
        await consumer.handed()
        first, second = (message.value for message in consumer.delivered)
        consumer._last_fetch = -1.0
        for batch in (first, second):
            batch.waits = False
        fetch = asyncio.create_task(consumer._getmany({A, B, C}, 1.0))
        await asyncio.sleep(3 * consumer_module.POLL_S)
        assert consumer.asked == [], "20 records are being folded"
        first.waits = True
        await asyncio.sleep(3 * consumer_module.POLL_S)
        assert consumer.asked == [], "10 are left, as many as two fetches may bring"
        second.waits = True
        await asyncio.wait_for(fetch, 30)
        assert [who for who, _ in consumer.asked] == [{C}]

    run(script, monkeypatch)


def test_a_partition_whose_records_are_on_their_way_is_not_taken_for_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread stands at the end as soon as the answer has come; a beat must not speak of records that nobody has been handed yet."""

    async def script(consumer: ScriptedConsumer) -> None:
        told: list[int | None] = []

        async def look() -> None:
            told.extend(consumer.read_to(A) for _ in range(2))

        consumer.at = {A: 10, B: 10}
        await consumer.handed()
        await look()
        assert told[-1] is not None, "read to its end, and idle"
        consumer.logs[A] += [10, 11]
        consumer.meanwhile = look
        told.clear()
        assert await consumer.handed() == {A: [10, 11]}
        await look()
        assert told == [None] * 4

    run(script, monkeypatch)
