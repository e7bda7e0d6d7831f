"""Is every record accounted for exactly once when workers are added and taken away under load, with and without names of their own?"""

from collections.abc import Callable

import pytest

from pipeline.live.outbox import Outgoing
from tests.broker.harness import Deployment
from tests.broker.harness_feed import Feeder, appender
from tests.broker.verifier import Watch, verify

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
