"""Is every input record accounted for exactly once when a worker dies by kill -9, wherever it was? At named points and at random ones."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.broker.harness import Deployment
from tests.broker.harness_feed import appender
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker
Crash = tuple[str, int]  # a point, and the how manieth time it is reached
FOLDING: list[Crash] = [
    ("after-claim", 2),
    ("after-outputs", 3),
    ("inside-changelog", 4),
    ("after-changelog", 5),
    ("in-restore", 20),
    ("before-commit", 1),
    ("after-commit", 1),
]
NAMED: dict[str, list[Crash]] = {
    "ingest": [("after-outputs", 5), ("before-settling", 6), ("before-commit", 1), ("after-commit", 1)],
    "route": FOLDING,
    "detect": FOLDING,
    "campaign": FOLDING,
}


def crash(live: Deployment, stage: str, points: Sequence[Crash]) -> None:
    """Have one worker after the other die at its point, each going on where the last one left off, then let one finish.

    A static member takes the place of its dead predecessor at once; without, each would wait for the session of the last to end.
    """
    for point, number in points:
        live.died(live.start(stage, crash=("kill", point, number), instance_id="only"), f"{stage}: {point} {number}")
    live.finish({stage: live.start(stage, instance_id="only")})


def requests(rng: random.Random, count: int) -> list[Crash]:
    """Random points in what a worker does: the so manieth network request since its start, not yet sent or just sent."""
    return [(rng.choice(("before-request", "behind-request")), rng.randrange(20, 300)) for _ in range(count)]


@pytest.mark.parametrize("stage", [pytest.param(stage, marks=() if stage == "detect" else pytest.mark.soak) for stage in NAMED])
def test_a_stage_that_dies_at_any_point_loses_nothing_and_says_nothing_else(
    deploy: Callable[..., Deployment], inputs: dict[str, Sequence[Any]], stage: str
) -> None:
    live = deploy(batch_records=20)
    appender(live, stage)(inputs[stage])
    with Watch(live) as watch:
        crash(live, stage, NAMED[stage] + requests(random.Random(f"{stage} 3"), 3))
    accounts = verify(live, (stage,), watch)
    assert accounts.copies, "no crash came between an output and its commit: the points hit nothing"


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stage", NAMED)
def test_a_stage_that_dies_at_twenty_random_points_loses_nothing_and_says_nothing_else(
    deploy: Callable[..., Deployment], inputs: dict[str, Sequence[Any]], stage: str
) -> None:
    live = deploy(batch_records=5)
    appender(live, stage)(inputs[stage])
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # pytest shows it when the test fails
    with Watch(live) as watch:
        crash(live, stage, requests(random.Random(seed), 20))
    verify(live, (stage,), watch)
