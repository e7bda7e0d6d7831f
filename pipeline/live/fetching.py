"""What is a fetch answered with? While records keep coming, with all that came within a moment; else with the first one, at once.

Faust's consumer thread, with what aiokafka's fetcher asks the broker for in our hand. aiokafka fetches ahead: an answer that held only
the one record that came first after the last answer would make all that follow wait for the next one.
"""

from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP

FETCH_MAX_WAIT_MS = 50  # Faust fixes 1500: a partition left out of one long poll would wait for its end
HOLD_MS = 20  # while records keep coming the broker gathers an answer for so long, or until it has HOLD_BYTES
HOLD_BYTES = 1 << 16


class BatchThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust carries no types that mypy could follow
    """Faust's consumer thread with a short long poll."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # read by the fetcher when the consumer starts
        return consumer

    def expect(self, more: bool) -> None:
        """Say what the next fetch is to be answered with: all that has come after a moment, or the first record as soon as it is there."""
        fetcher = self._ensure_consumer()._fetcher  # reads both anew for each request
        fetcher._fetch_max_wait_ms = HOLD_MS if more else FETCH_MAX_WAIT_MS
        fetcher._fetch_min_bytes = HOLD_BYTES if more else 1

    def read_state(self, tp: TP) -> tuple[int | None, int | None, int | None]:
        """Position, end offset and wall time (ms) of the last fetch response; None where not known yet."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or tp not in assignment.tps:
            return None, None, None
        state = assignment.state_value(driver.ensure_aiokafka_TP(tp))
        return state._position, state.highwater, state.timestamp
