"""When is a broker asked for records? When they are to be handed out, so that its answer holds all that has come until then.

Faust's consumer thread, with aiokafka's fetching ahead in our hand. Left to itself it asks again as soon as an answer was taken: the
answer then holds the one record that came first after the last one, and all that follow wait for the answer after it. So a partition
whose end was reached is not asked for until the next fetch begins; one with a backlog is, while what came before is being handled.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP

FETCH_MAX_WAIT_MS = 50  # Faust fixes 1500: a partition left out of one long poll would wait for its end
OTHERS_S = 0.005  # how long the answers of the other brokers are waited for once one has brought something


class BatchThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust carries no types that mypy could follow
    """Faust's consumer thread that asks for what is new when it is wanted, and ahead for what is old."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # read by the fetcher when the consumer starts
        return consumer

    async def _fetch_records(self, consumer: Any, active_partitions: Iterable[TP], timeout: float, max_records: int | None = None) -> Any:
        """Ask for the partitions and give what the brokers answer; runs in the thread."""
        fetched = await self._asked(consumer, active_partitions, timeout, max_records)
        asked = consumer._fetcher._pending_tasks
        if fetched and any(not task.done() for task in asked):
            await asyncio.wait(asked, timeout=OTHERS_S)
            for tp, records in (await self._asked(consumer, active_partitions, 0, max_records)).items():
                fetched.setdefault(tp, []).extend(records)
        return fetched

    async def _asked(self, consumer: Any, partitions: Iterable[TP], timeout: float, max_records: int | None) -> Any:
        """As Faust does, and nothing more is asked for behind the last record of a partition. What has just been taken counts as such."""
        for state in self._states(consumer, partitions):
            state.resume()
        fetched = await super()._fetch_records(consumer, partitions, timeout, max_records)
        if fetched:
            for state in self._states(consumer, consumer.assignment()):
                if state._position is not None and state.highwater is not None and state._position >= state.highwater:
                    state.pause()
        return fetched

    def _states(self, consumer: Any, partitions: Iterable[TP]) -> list[Any]:
        """What aiokafka knows of those of the partitions that are assigned."""
        subscription = consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return []
        return [assignment.state_value(tp) for tp in map(driver.ensure_aiokafka_TP, partitions) if tp in assignment.tps]

    def read_state(self, tp: TP) -> tuple[int | None, int | None, int | None]:
        """Position, end offset and wall time (ms) of the last fetch response; None where not known yet."""
        states = self._states(self._ensure_consumer(), (tp,))
        return (states[0]._position, states[0].highwater, states[0].timestamp) if states else (None, None, None)
