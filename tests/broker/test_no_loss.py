"""Is every event folded exactly once in effect, whatever happens to the workers? Kills, graceful ends and pauses under load."""

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from pipeline.live.changelog import CLOCK, decode_key
from pipeline.live.outbox import Outgoing
from tests.broker.harness import Deployment
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker


class Feeder(threading.Thread):
    """Appends recorded events piece by piece, so that there is load while things happen."""

    def __init__(self, deployment: Deployment, records: Sequence[Outgoing], seconds: float) -> None:
        super().__init__()
        self._deployment, self._records, self._seconds = deployment, records, seconds
        self.error: BaseException | None = None

    def run(self) -> None:
        pieces = 40
        size = len(self._records) // pieces + 1
        try:
            for start in range(0, len(self._records), size):
                begun = time.monotonic()
                self._deployment.append("events", self._records[start : start + size])
                time.sleep(max(0.0, self._seconds / pieces - (time.monotonic() - begun)))
        except BaseException as e:
            self.error = e
            raise


def test_two_workers_killed_and_ended_at_random_lose_nothing_and_say_nothing_else(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live = deploy()
    feeder = Feeder(live, recorded, seconds=24)
    with Watch(live) as watch:
        feeder.start()
        workers = [live.start("detect"), live.start("detect", pure_python=True)]  # Faust's streams, compiled and not
        rng = random.Random(11)
        while feeder.is_alive():
            time.sleep(rng.uniform(2.0, 4.0))
            victim = rng.randrange(2)
            if rng.random() < 0.5:
                workers[victim].kill()
                workers[victim].wait()
            else:
                assert live.stop(workers[victim]) == 0
            workers[victim] = live.start("detect", pure_python=victim == 1)
        feeder.join()
        assert feeder.error is None
        live.settled(("detect",), within_s=60)
        assert [live.stop(worker) for worker in workers] == [0, 0]
    accounts = verify(live, ("detect",), watch)
    assert accounts.where["events"]["recent"] > 1000


def test_sigterm_under_load_ends_soon_with_exit_code_0_and_commits_what_was_folded(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live = deploy()
    feeder = Feeder(live, recorded, seconds=8)
    worker = live.start("detect")
    feeder.start()
    time.sleep(5)
    begun = time.monotonic()
    assert live.stop(worker) == 0
    assert time.monotonic() - begun < 10
    feeder.join()
    folded = {kept.partition: kept.offset for kept in live.read("detect-state")}
    assert folded, "there was no load when the worker ended"
    worker = live.start("detect")
    live.finish({"detect": worker})
    verify(live, ("detect",))


def test_a_worker_paused_past_its_session_overwrites_nothing_when_it_wakes(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live = deploy()
    first = live.start("detect")
    feeder = Feeder(live, recorded, seconds=30)
    feeder.start()
    time.sleep(6)
    second = live.start("detect")
    time.sleep(4)
    first.send_signal(signal.SIGSTOP)
    time.sleep(10)  # the session of the first is over after 6 s; the second owns everything
    first.send_signal(signal.SIGCONT)
    feeder.join()
    assert feeder.error is None
    live.settled(("detect",), within_s=60)
    assert live.stop(second) == 0
    if first.poll() is None:  # it may end itself when it finds its partitions gone
        live.stop(first)
    verify(live, ("detect",), zombies=True)
    epochs = {decode_key(kept.key)[1] for kept in live.read("detect-state") if kept.key and decode_key(kept.key)[0] == CLOCK}
    assert len(epochs) > 1, "nobody took over"


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
    for _ in range(100):
        time.sleep(0.3)
        clocks = {k.partition: k for k in live.read("detect-state") if k.key and decode_key(k.key)[0] == CLOCK}
        if all(int.from_bytes(clocks[p].value[:8], "big", signed=True) == ends[p] - 1 for p in ends if p in clocks):
            break
    assert live.stop(worker) == 0
    verify(live, ("detect",))
    assert any(json.loads(k.value or b"{}") for k in live.read("alerts"))
