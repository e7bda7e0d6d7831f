"""Is every record accounted for exactly once when workers are added and taken away under load, with and without names of their own?"""

from collections.abc import Callable

import pytest

from pipeline.live.outbox import Outgoing
from tests.broker.harness import Deployment
from tests.broker.harness_feed import Feeder, appender
from tests.broker.test_monitoring_live import free_ports, samples, total, until, wait_until_ready
from tests.broker.verifier import Watch, verify
from tests.broker.verifier_state import CLOCK, states_of

pytestmark = pytest.mark.broker


@pytest.mark.parametrize(
    "names", [pytest.param(("", "", ""), id="dynamic"), pytest.param(("w1", "w2", "w3"), id="static", marks=pytest.mark.soak)]
)
def test_one_worker_becomes_three_and_one_again(
    deploy: Callable[..., Deployment], recorded: list[Outgoing], names: tuple[str, ...]
) -> None:
    """A graceful change of hands: what was read is written and committed before the partitions go, so nothing is written twice."""
    live = deploy(batch_records=20)

    def more(count: int = 60) -> None:
        before = sum(live.committed("detect").values())
        live.until(lambda: sum(live.committed("detect").values()) > before + count, "more is committed")

    with Watch(live) as watch, Feeder(appender(live, "detect"), recorded, seconds=240) as feeder:
        workers = [live.start("detect", instance_id=names[0])]
        more()
        workers += [live.start("detect", instance_id=name) for name in names[1:]]
        live.until(lambda: live.owners("detect") == 3, "three workers own partitions")
        more()
        assert feeder.is_alive(), "there was no load any more"
        assert [live.stop(worker) for worker in workers[1:]] == [0, 0]
        live.until(lambda: live.owners("detect") == 1, "one worker owns all")
        more()
        feeder.hurry()
        live.settled(("detect",))
        assert live.stop(workers[0]) == 0
    accounts = verify(live, ("detect",), watch, redelivery=False)
    assert accounts.where["events"]["recent"] > 1000


def test_a_rebalance_that_moves_no_partition_restores_nothing(deploy: Callable[..., Deployment], recorded: list[Outgoing]) -> None:
    """A worker that there is no partition for joins and leaves: the one that has it claims it anew, and reads none of its state again."""
    live = deploy(partitions=1)
    third = len(recorded) // 3
    ports = free_ports(2)

    def told(number: int, name: str, **labels: str) -> float:
        return total(samples(ports[number]), name, stage="detect", **labels)

    def epoch() -> int:
        return states_of(live.read("detect-state"))[0][CLOCK].epoch

    def more(records: list[Outgoing]) -> None:
        before = live.committed("detect")["events", 0]
        live.append("events", records)
        live.settled(("detect",))
        assert live.committed("detect")["events", 0] >= before + len(records)
        assert told(0, "offhook_partitions", state="restored") == 1
        assert told(0, "offhook_restored_records_total") == restored, "it was read again"

    live.append("events", recorded[:third])
    live.finish({"detect": live.start("detect")})
    with Watch(live) as watch:
        first = live.start("detect", http_port=ports[0])
        wait_until_ready(ports[0])
        until(lambda: told(0, "offhook_state_entities") > 50, lambda: "there is no state to speak of")  # told a moment after it is ready
        restored, claimed = told(0, "offhook_restored_records_total"), epoch()
        assert restored >= told(0, "offhook_state_entities")
        second = live.start("detect", http_port=ports[1])
        wait_until_ready(ports[1])  # it has its assignment, which is empty
        until(lambda: epoch() > claimed, lambda: "no rebalance")
        joined = epoch()
        more(recorded[third : 2 * third])
        assert told(1, "offhook_partitions", state="assigned") == 0
        assert told(1, "offhook_records_read_total") == 0
        assert live.stop(second) == 0
        until(lambda: epoch() > joined, lambda: "no rebalance when it left")
        more(recorded[2 * third :])
        assert live.stop(first) == 0
    verify(live, ("detect",), watch, redelivery=False)
