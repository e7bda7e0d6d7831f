"""What if the broker itself is gone for a while, and comes back? A short absence is outlived; after a longer one a worker is started again.

What an operator sees: the commit age grows, readiness stays, the clients' complaint comes once in ten seconds. A send that is not
taken for 60 s ends the worker with exit code 3 and a sentence; one that is started while nobody listens ends after 15 s alike.
The platform starts it again, and it goes on where it stopped.
"""

import threading
import time
from collections.abc import Callable

import pytest

from deploy.local_kafka import LocalKafka
from pipeline.exits import BROKERS
from pipeline.live.outbox import ANSWER_S, Outgoing
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment
from tests.broker.keeper import Keeper, wait_until
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker
OUTLIVED_S = ANSWER_S - 15  # the answers come some time after the broker is there again


def away(kafka: LocalKafka, seconds: float) -> float:
    """Kill the broker, as a power cut would, and bring it back on the same data; returns how long it was away (s), its start included."""
    began = time.monotonic()
    kafka.kill()
    time.sleep(seconds)
    kafka.start()
    return time.monotonic() - began


def test_a_broker_that_is_killed_and_comes_back_costs_nothing(
    local_kafka: Callable[..., LocalKafka], topic_prefix: str, recorded: list[Outgoing]
) -> None:
    kafka = local_kafka()
    live = Deployment(kafka.bootstrap, topic_prefix, batch_records=200)
    live.create()
    live.append("events", recorded[: len(recorded) // 2])
    with Watch(live) as watch, Keeper(live, ["detect"]) as kept:
        wait_until(lambda: live.read("decisions"), "decisions")
        gone = away(kafka, 8)
        kept.finish()
    assert kept.ended == [] or gone > OUTLIVED_S, "a short absence is outlived"
    verify(live, ("detect",), watch=watch)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", [30, 100])
def test_a_broker_that_is_away_for_long(
    local_kafka: Callable[..., LocalKafka], topic_prefix: str, log: list[LogRecord], seconds: float
) -> None:
    kafka = local_kafka()
    live = Deployment(kafka.bootstrap, topic_prefix)
    live.create()
    live.load(log)
    with Watch(live) as watch, Keeper(live, ("ingest", "route", "detect")) as kept:
        wait_until(lambda: live.read("decisions"), "decisions")
        gone = away(kafka, seconds)
        kept.finish(within_s=300)
    print(f"away for {gone:.0f} s: workers that ended by themselves: {kept.ended}")
    assert {code for _, code in kept.ended} <= {BROKERS.code}
    assert kept.ended == [] or gone > OUTLIVED_S, "a short absence is outlived"
    assert kept.ended != [] or gone < ANSWER_S, "a minute without an answer is too long"
    verify(live, watch=watch, beats=False)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_broker_that_freezes_again_and_again(local_kafka: Callable[..., LocalKafka], topic_prefix: str, log: list[LogRecord]) -> None:
    """Connections stay open and nothing is answered: a garbage collection, a disk that stalls."""
    kafka = local_kafka()
    live = Deployment(kafka.bootstrap, topic_prefix)
    live.create()
    live.load(log)
    with Keeper(live, ("ingest", "route", "detect")) as kept:
        wait_until(lambda: live.read("decisions"), "decisions")
        for _ in range(3):
            with kafka.paused():
                threading.Event().wait(8)
            time.sleep(2)
        kept.finish(within_s=300)
    assert kept.ended == []
    verify(live, beats=False)
