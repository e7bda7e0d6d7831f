"""When is a broker asked for records? When they are to be handed out, so that its answer holds all that has come until then.

Faust's consumer thread, with aiokafka's fetching ahead in our hand. Left to itself it asks again as soon as an answer was taken: the
answer then holds the one record that came first after the last one, and all that follow wait for the answer after it. So a partition
whose end was reached is not asked for until the next fetch begins; one with a backlog is, while what came before is being handled. What
may be fetched ahead is shared by the partitions: the fewer there are, the larger their batches, in which an account is written down once.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Any

from aiokafka.consumer.fetcher import FetchResult
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP

FETCH_MAX_WAIT_MS = 50  # Faust fixes 1500: a partition left out of one long poll would wait for its end
SHORT_WAIT_MS = 15  # where some are left out already: they may be wanted any moment, and a broker is asked one thing at a time
LEAST_BYTES = 1 << 20  # of a partition: as large as a producer's batch gets, which a broker sends whole of one partition alone
OTHERS_S = 0.005  # how long the answers of the other brokers are waited for once one has brought something


def share_of(fetch_bytes: int, partitions: int) -> int:
    """How much of what may be fetched ahead is one partition's (bytes)."""
    return max(LEAST_BYTES, fetch_bytes // max(1, partitions))


class BatchThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust carries no types that mypy could follow
    """Faust's consumer thread that asks for what is new when it is wanted, and ahead for what is old."""

    _fetch_bytes: int  # most that is fetched ahead, all partitions together

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answered: dict[Any, int | None] = {}  # when the last answer came (ms), of those at their end that are not asked for

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        self._fetch_bytes = transport.app.conf.consumer_max_fetch_size
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # read by the fetcher when the consumer starts
        consumer._max_partition_fetch_bytes = LEAST_BYTES  # until it is known how many partitions there are
        return consumer

    async def _fetch_records(
        self, consumer: Any, active_partitions: Collection[TP], timeout: float, max_records: int | None = None
    ) -> dict[TP, list[Any]]:
        """Ask for the partitions and give what the brokers answer; runs in the thread."""
        fetcher, partitions = consumer._fetcher, len(consumer.assignment())
        fetcher._max_partition_fetch_bytes = share_of(self._fetch_bytes, partitions)
        fetcher._fetch_max_wait_ms = SHORT_WAIT_MS if len(active_partitions) < partitions else FETCH_MAX_WAIT_MS
        for _, state in self._states(consumer, active_partitions):
            state.resume()
        fetched: dict[TP, list[Any]] = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        if not fetched:
            return fetched
        self._rest(consumer)
        if any(not task.done() for task in fetcher._pending_tasks):
            await asyncio.wait(fetcher._pending_tasks, timeout=OTHERS_S)
        come = {tp for tp in active_partitions if type(fetcher._records.get(tp)) is FetchResult}  # an error is for the next fetch
        room = None if max_records is None else max_records - sum(map(len, fetched.values()))
        if come and room != 0:
            for tp, records in (await super()._fetch_records(consumer, come, 0, room)).items():
                fetched.setdefault(tp, []).extend(records)
            self._rest(consumer)
        return fetched

    def _rest(self, consumer: Any) -> None:
        """Ask for nothing more behind the last record of a partition, once there was an answer that said so: not before it was asked."""
        for tp, state in self._states(consumer, consumer.assignment()):
            at_end = state._position is not None and state.highwater is not None and state._position >= state.highwater
            if at_end and not state.paused and self._answered.get(tp) != state.timestamp:
                self._answered[tp] = state.timestamp
                state.pause()

    def _states(self, consumer: Any, partitions: Iterable[TP]) -> list[tuple[Any, Any]]:
        """What aiokafka knows of those of the partitions that are assigned, beside what it calls them."""
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return []
        return [(tp, assignment.state_value(tp)) for tp in map(driver.ensure_aiokafka_TP, partitions) if tp in assignment.tps]

    def read_state(self, tp: TP) -> tuple[int | None, int | None, int | None]:
        """Position, end offset and wall time (ms) of the last fetch response; None where not known yet."""
        states = self._states(self._ensure_consumer(), (tp,))
        if not states:
            return None, None, None
        _, state = states[0]
        return state._position, state.highwater, state.timestamp
