"""How do fetched records reach a stage? As one message per partition batch: Faust commits and rebalances, and does nothing per record.

Stands between Faust's consumer and the stages. Faust hands records to an agent one by one (5,000 a second with a table write), and
spends a dozen tasks on each message on its way to a stream; here a whole fetched batch is a message, and goes straight to the runner.
At most one batch per partition is unsettled, so batches grow with the load and a slow partition stalls only itself; and no more is
fetched while what is being folded takes seconds, so that a rebalance, or the end, is not kept waiting by a backlog. Offsets are
committed over a contiguous prefix of settled batches of the current generation.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

from pipeline.live.batch import Batch, Record, message_of
from pipeline.live.fetching import BatchThread

log = logging.getLogger(__name__)
PACE_S = 0.018  # shortest time between two fetches, so that batches grow instead of loops
FETCH_S = 1.0  # how long a fetch may wait for the first record
POLL_S = 0.05  # how long to wait for a settled batch before looking again
CLOCK_MARGIN_MS = 1000  # a worker's clock may run ahead of the broker's by this much


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Hand out at most one unsettled batch per partition; commit only over what was settled in order."""

    _thread: BatchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._out: dict[TP, ConsumerMessage] = {}  # handed out and not settled, of the current generation
        self._waiting: dict[TP, list[Record]] = {}  # fetched and not handed out
        self._sought: dict[TP, int] = {}  # to be read again from here: what a fetch under way brings may be of before
        self._position: dict[TP, int] = {}  # next offset to commit
        self._reached: dict[TP, int | None] = {}  # position after the last fetch that has come over: beyond it records are on their way
        self._polled: dict[TP, int] = {}  # wall time of a fetch response seen at the end of the partition (ms)
        self._freed = asyncio.Event()
        self._dropped: set[TP] = set()  # of these fetched records were dropped, and they are not sought back yet
        self._assignments = 0  # so far: what was asked for under an earlier one is of places that count no more
        self._last_fetch = 0.0
        self._flowing = False  # the last fetch brought something, or what it may not ask for is being handled
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    async def wait_empty(self) -> None:
        """Let the stage give up what only waits, before Faust waits for what is unsettled (at a rebalance and at the end)."""
        self.transport.drain()
        await super().wait_empty()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Forget the generation that ended: its batches come again from the committed offsets.

        Nothing flows until Faust has sought them. It stops the flow only of a worker that had partitions, and a rebalance that begins
        while it seeks makes it resume the flow of the next.
        """
        self.stop_flow()
        self._assignments += 1
        self._forget()
        self.transport.assigned(set(assigned), generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    def _forget(self) -> None:
        for found in (self._out, self._waiting, self._sought, self._position, self._reached, self._polled):
            found.clear()
        self._freed.set()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, Sequence[Record]]:
        """Fetch from the partitions that are neither busy, nor hold fetched records, nor closed."""
        closed = self.transport.admission.closed
        # Own event: Consumer._wait_for_ack swallows cancellation and would hang the shutdown.
        early = self._last_fetch + PACE_S - time.monotonic()
        if early > 0:
            await asyncio.sleep(early)
        while True:
            busy = {tp for tp in self._out.keys() | self._waiting.keys() if not closed(tp)}
            free = {tp for tp in active_partitions or () if tp not in busy and not closed(tp)}
            # Soon settled, they are fetched from together with the others.
            soon = self._last_fetch + 2 * PACE_S - time.monotonic() if busy & self._out.keys() else 0.0
            wanted = free or not busy <= self._out.keys()
            if self.should_stop or not self.flow_active or (soon <= 0 and wanted and not self._enough()):
                break
            await self._await_settled(soon if soon > 0 else POLL_S)
        self._last_fetch = time.monotonic()
        if not free:  # an empty set would mean "all partitions" to the fetcher
            return {}
        patience = PACE_S if busy or self._flowing else timeout
        fetched: Mapping[TP, Sequence[Record]] = await super()._getmany(free, patience)
        self._flowing = bool(fetched) or bool(busy)
        return fetched

    def _enough(self) -> bool:
        """As much is in hand and not folded as two fetches may bring."""
        folding = sum(len(message.value.records) for message in self._out.values() if not message.value.waits)
        return folding >= 2 * self.app.conf.broker_max_poll_records  # type: ignore[no-any-return]

    async def _await_settled(self, patience: float) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._freed.wait(), patience)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and hand out, until the consumer or its fetcher ends."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self.hand_out(FETCH_S)
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if self.app.should_stop:
                return
            if task is None or task.cancelling():
                raise
            raise RuntimeError("a fetch was cancelled by itself") from e  # Faust would take it for a rebalance, and fetch nothing any more
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def hand_out(self, timeout: float) -> None:
        """Fetch, and hand out one message for each partition that has records which may be handed out."""
        assignments = self._assignments
        if self._dropped and self.flow_active and not await self._seek_back():
            await self._await_settled(POLL_S)
            return
        fetched, active = await self._wait_next_records(timeout)
        if fetched is None or self.should_stop:
            return
        if self.flow_active and assignments == self._assignments:
            await self._keep(fetched)
        if not self.flow_active or assignments != self._assignments:  # a rebalance has begun, or is over
            self._dropped.update(map(ensure_TP, fetched), self._waiting)
            self._waiting.clear()
            await self._seek_back()
            return
        for tp in active or ():
            self._reached[tp] = self._thread.read_state(tp)[0]
        admitted = self._admitted(active or set())
        for tp, records in admitted.items():
            message = message_of(Batch(tp, self.app.consumer_generation_id, records))
            self._out[tp] = message
            self.track_message(message)
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            self.app.monitor.stream_inbound_time[tp] = time.monotonic()  # else Faust says that nobody handles what is fetched
            self.transport.deliver(message)
        if not (fetched or admitted) and self._waiting:  # what waits is held back: do not spin
            await self._await_settled(POLL_S)

    async def _seek_back(self) -> bool:
        """Go back to the committed offsets, since what was fetched is not handed out; False when that is still to be done.

        A partition without a committed offset is sought to its beginning, which a seek to what is committed leaves where it is.
        """
        try:
            await self.perform_seek()
            anew = [tp for tp in self._dropped & self.assignment() if not self._read_offset.get(tp)]  # as the group has just said
            if anew:
                await self._thread.seek_to_beginning(*map(driver.ensure_aiokafka_TP, anew))
        except (KafkaError, TimeoutError, AssertionError) as e:  # the partitions go at this very time, or no broker answers
            log.info("not sought back yet (%s)", type(e).__name__)
            return False
        self._dropped.clear()
        return True

    async def _keep(self, fetched: Mapping[TP, Sequence[Record]]) -> None:
        """Let fetched records wait. Of a partition that was sought back meanwhile they are dropped, and it is sought once more."""
        sought, self._sought = self._sought, {}
        for tp, records in fetched.items():
            if records and tp not in sought:
                self._waiting.setdefault(ensure_TP(tp), []).extend(records)
        again = {tp: offset for tp, offset in sought.items() if fetched.get(tp)}
        if again:
            await self.seek_wait(again)

    def _admitted(self, active: set[TP]) -> dict[TP, Sequence[Record]]:
        """Take what may be handed out now from what waits."""
        waiting = {tp: records for tp, records in self._waiting.items() if tp not in self._out and tp in active}
        if not waiting:
            return {}
        behind = [tp for tp in active if tp not in waiting and not self._at_end(tp)]
        admitted: dict[TP, Sequence[Record]] = {}
        for tp, count in self.transport.admission.admit(waiting, behind).items():
            if count <= 0:
                continue
            records = waiting[tp]
            if count < len(records):
                admitted[tp], self._waiting[tp] = records[:count], records[count:]
            else:
                admitted[tp] = self._waiting.pop(tp)
        return admitted

    def settle(self, message: ConsumerMessage) -> None:
        """Let a batch be committed. Of a generation that has ended it commits nothing."""
        if self._holds(message):
            del self._out[message.tp]
            self._position[message.tp] = message.offset + 1
            self._freed.set()
        self.ack(message)

    def _holds(self, message: ConsumerMessage) -> bool:
        held = self._out.get(message.tp)
        return held is not None and held is message and held.generation_id == self.app.consumer_generation_id

    async def give_back(self, message: ConsumerMessage, offset: int) -> None:
        """Read the partition of a batch again from ``offset``, and commit nothing of it; the batch is still to be dropped."""
        tp = message.tp
        if self._holds(message):
            self._waiting.pop(tp, None)
            await self.seek_wait({tp: offset})
            if self._holds(message):
                del self._out[tp]
                self._freed.set()

    async def rewind(self, tp: TP, offset: int) -> None:
        """Read a partition again from ``offset`` if its position is beyond; one with a batch in hand is left alone."""
        position, _, _ = self._thread.read_state(tp)
        if tp not in self._out and position is not None and position > offset:
            self._waiting.pop(tp, None)
            self._sought[tp] = offset
            try:
                await self.seek_wait({tp: offset})
            except IllegalStateError:
                log.info("%s went to somebody else while it was sought back", tp)

    def drop(self, message: ConsumerMessage) -> None:
        """Settle a batch without committing it: its generation ends, or the worker does."""
        self.ack(message)

    def _at_end(self, tp: TP) -> bool:
        """Nothing of the partition is left to be handed out or handled. The thread's position runs ahead of what it has handed over."""
        position, end, _ = self._thread.read_state(tp)
        return position is not None and end is not None and position >= end and position == self._reached.get(tp) and tp not in self._out

    def read_to(self, tp: TP) -> int | None:
        """Up to which arrival time (ms) nothing of the partition is still to be settled, as far as that is known without a batch.

        At the end of a partition: the response at hand was asked for after the previous one had come, so what arrived before that
        is in it.
        """
        if tp in self._out:
            return None
        waiting = self._waiting.get(tp)
        if waiting:  # held back: what arrived before its next record has been read
            return waiting[0].timestamp - 1
        _, _, polled = self._thread.read_state(tp)
        before = self._polled.get(tp)
        if polled is None:
            return None
        self._polled[tp] = polled
        if before is None or before == polled or not self._at_end(tp):
            return None
        return before - CLOCK_MARGIN_MS

    def committed(self, tp: TP) -> int | None:
        """The offset that the group has committed; None while there is none or it is not known."""
        found: int | None = self._committed_offset.get(tp)
        return found

    def progress(self, tp: TP) -> tuple[int, int] | None:
        """Committed offset and end offset of a partition; what is in hand counts as not committed. None while not known."""
        position, end, _ = self._thread.read_state(tp)
        committed = self._committed_offset.get(tp)
        if committed is None:
            held, waiting = self._out.get(tp), self._waiting.get(tp)
            first = held.value.first if held is not None else waiting[0].offset if waiting else position
            committed = first
        return None if committed is None or end is None else (committed, end)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit; where it was refused, forget that it was not: Faust would take it for done, and commit the same never again."""
        assignments = self._assignments
        done: bool = await super()._commit_offsets(offsets, start_new_transaction)
        if not done or assignments != self._assignments:
            self._committed_offset.update(dict.fromkeys(offsets))
        return done

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterable[TP]:
        """Whose offsets may have to be committed. Faust forgets at a rebalance which ones had been acked, and they would be read again."""
        return [tp for tp in self._position if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._position.get(tp)
