"""Does a worker that was paused past its session and wakes in the middle of a write overwrite anything? Not even after compaction."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from pipeline.live.outbox import Outgoing
from tests.broker.harness import Deployment, Kept
from tests.broker.harness_feed import with_late_logins
from tests.broker.verifier import Watch, verify
from tests.broker.verifier_state import entry_of

pytestmark = pytest.mark.broker


def paused(worker: "subprocess.Popen[bytes]") -> bool:
    """Whether a worker has stopped itself."""
    return os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None


def stale(log: Iterable[Kept]) -> list[Kept]:
    """Records of a changelog that an owner wrote after a newer one had."""
    newest: Counter[int] = Counter()
    found = []
    for kept in log:
        assert kept.key is not None
        if kept.value is not None:
            _, entry = entry_of(kept.key, kept.value)
            if entry.epoch < newest[kept.partition]:
                found.append(kept)
            newest[kept.partition] = max(newest[kept.partition], entry.epoch)
    return found


def compacted(log: Iterable[Kept], ends: dict[int, int]) -> bool:
    """Whether records below the ends are gone, and all of those whose key comes again below them."""
    keys = Counter((kept.partition, kept.key) for kept in log if kept.offset < ends[kept.partition])
    return keys.total() < sum(ends.values()) and keys.total() == len(keys)


def wake_a_zombie(live: Deployment, recorded: list[Outgoing], watch: Watch) -> None:
    """Let a worker pause when its outputs are out and its state is not, until a successor has written everything; then let it go on.

    Most accounts are written once and never again: what it overwrote would stay so.
    """
    zombie = live.start("detect", crash=("stop", "before-changelog", 20))
    live.until(lambda: paused(zombie), "the first worker pauses")
    second = live.start("detect")
    live.settled(("detect",))
    live.append("events", recorded[len(recorded) // 2 :])
    live.settled(("detect",))
    assert not stale(live.read("detect-state"))
    zombie.send_signal(signal.SIGCONT)
    live.until(lambda: stale(live.read("detect-state")), "the first worker writes what it had in hand")
    live.settled(("detect",))
    assert [live.stop(second), live.stop(zombie)] == [0, 0]
    verify(live, ("detect",), watch, zombies=True)


def test_a_worker_paused_past_its_session_overwrites_nothing_when_it_wakes_nor_after_compaction(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live, recorded = deploy(batch_records=50), with_late_logins(recorded)
    live.append("events", recorded[: len(recorded) // 2])
    with Watch(live) as watch:
        wake_a_zombie(live, recorded, watch)
    ends = {p: max(kept.offset for kept in live.read("detect-state") if kept.partition == p) + 1 for p in range(live.partitions)}
    beat = next(record for record in reversed(recorded) if record.key is None)

    def beaten_and_compacted() -> bool:
        live.append("events", [beat])  # an old segment is closed when the next record comes
        return compacted(live.read("detect-state"), ends)

    worker = live.start("detect")
    live.until(beaten_and_compacted, "the changelog is compacted")
    assert live.stop(worker) == 0
    live.append("events", recorded)  # every account once more: what a worker then writes, it must have restored
    live.finish({"detect": live.start("detect")})
    verify(live, ("detect",), zombies=True)


@pytest.mark.soak
def test_a_paused_worker_whose_successor_has_its_name_overwrites_nothing_when_it_wakes(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    """With static membership the successor takes over at once, while the session of the first still lasts."""
    live, recorded = deploy(batch_records=50, instance_id="same"), with_late_logins(recorded)
    live.append("events", recorded[: len(recorded) // 2])
    with Watch(live) as watch:
        wake_a_zombie(live, recorded, watch)
