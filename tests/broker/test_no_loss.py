"""Is every record accounted for exactly once when workers come and go under load: killed, told to end, or told wrong offsets?"""

import json
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.live.outbox import Outgoing
from tests.broker.harness import Deployment
from tests.broker.harness_feed import Feeder, appender
from tests.broker.test_monitoring_live import samples, total, wait_until_ready
from tests.broker.verifier import Watch, verify
from tests.broker.verifier_state import clocks_of

pytestmark = pytest.mark.broker
SESSION_S = 6
BATCH = 20  # records: small, so that a backlog takes many batches and its end comes in the middle


@pytest.mark.soak
def test_two_workers_killed_and_ended_at_random_lose_nothing_and_say_nothing_else(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    """Without static membership: whoever is left waits for the session of the dead to end, and takes over."""
    live = deploy(session_timeout_s=SESSION_S)
    rng = random.Random(11)
    with Watch(live) as watch:
        workers = [live.start("detect"), live.start("detect", pure_python=True)]  # Faust's streams, compiled and not
        with Feeder(appender(live, "detect"), recorded, seconds=240) as feeder:
            for _ in range(4):
                before = sum(clocks_of(live.read("detect-state")).values())
                live.until(lambda b=before: sum(clocks_of(live.read("detect-state")).values()) > b + 50, "something more is folded")  # type: ignore[misc]
                victim = rng.randrange(2)
                if rng.random() < 0.5:
                    workers[victim].kill()
                    workers[victim].wait()
                else:
                    assert live.stop(workers[victim]) == 0
                workers[victim] = live.start("detect", pure_python=victim == 1)
            feeder.hurry()
        live.settled(("detect",))
        assert [live.stop(worker) for worker in workers] == [0, 0]
    accounts = verify(live, ("detect",), watch)
    assert accounts.where["events"]["recent"] > 1000


@pytest.mark.parametrize("stage", ["ingest", "route", "detect", pytest.param("campaign", marks=pytest.mark.soak)])
def test_sigterm_under_load_drains_and_nothing_is_read_again(
    deploy: Callable[..., Deployment], inputs: dict[str, Sequence[Any]], stage: str
) -> None:
    """Ended with a backlog before it, and batches in hand: those are written and committed, no record is written or read twice."""
    records = inputs[stage]
    half = len(records) // 2
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    live = deploy(batch_records=BATCH, http_port=port)
    append = appender(live, stage)
    append(records[:half])
    with Watch(live) as watch, Feeder(append, records[half:], seconds=30) as feeder:
        worker = live.start(stage)
        live.until(lambda: sum(live.committed(stage).values()) > 100, "some of it is committed")
        assert live.stop(worker) == 0
        left = half - sum(live.committed(stage).values())  # what was fed meanwhile, and beats, are not even counted
        assert left > 2 * BATCH, f"it was not ended in the middle: {left} records were left"
        if stage != "ingest":
            clocks = clocks_of(live.read(f"{stage}-state"))
            committed = {partition: offset for (_, partition), offset in live.committed(stage).items()}
            assert committed == {p: offset + 1 for p, offset in clocks.items() if offset >= 0}, "what was folded is not all committed"
        feeder.hurry()
        last = live.start(stage)
        live.settled((stage,))
        wait_until_ready(port)
        assert total(samples(port), "offhook_duplicates_total") == 0
        assert live.stop(last) == 0
    verify(live, (stage,), watch, redelivery=False, beats=False)


def test_offsets_committed_ahead_of_the_state_are_not_believed(deploy: Callable[..., Deployment], recorded: list[Outgoing]) -> None:
    """Whatever the group remembers, a partition is read on from where its durable state ends."""
    live = deploy()
    half = len(recorded) // 2
    live.append("events", recorded[:half])
    live.finish({"detect": live.start("detect")})
    live.append("events", recorded[half:])
    ends = {p: max(k.offset for k in live.read("events") if k.partition == p) + 1 for p in range(live.partitions)}
    live.commit("detect", "events", ends)
    worker = live.start("detect")
    wanted = {p: end - 1 for p, end in ends.items()}
    live.until(lambda: clocks_of(live.read("detect-state")) == wanted, "all is folded")
    assert live.stop(worker) == 0
    verify(live, ("detect",))
    assert any(json.loads(k.value or b"{}") for k in live.read("alerts"))
