"""Does live say what replay says? The live rung of the ladder of law 7, on a real broker, with workers killed on the way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.wire.log import LogRecord
from tests.broker.assessed import said_by, said_by_replay
from tests.broker.expected import assert_parity, assert_state
from tests.broker.harness import Deployment
from tests.broker.verifier import STAGES, verify

pytestmark = pytest.mark.broker
# Where each stage dies, and the how manieth time it is there: in the middle of the log, outputs written and nothing committed of them.
DIES = {"ingest": ("after-outputs", 60), "route": ("after-outputs", 40), "detect": ("inside-changelog", 40)}


def test_the_recorded_events_say_what_the_run_said_and_the_raw_topics_end_the_same(
    deploy: Callable[..., Deployment], log: list[LogRecord], tmp_path: Path
) -> None:
    live = deploy()
    live.load(log)
    live.finish({stage: live.start(stage) for stage in STAGES}, within_s=240)
    expected = assert_parity(live)
    assert_state(live, expected)
    assert len(expected.records["alerts"]) > 5, "a log without alerts would prove nothing"
    replayed = said_by_replay(log, tmp_path)
    assert said_by(live) == replayed
    assert len(replayed) > 30


def test_kills_of_every_stage_in_the_middle_change_no_final_assessment(
    deploy: Callable[..., Deployment], log: list[LogRecord], tmp_path: Path
) -> None:
    """At many times the pace of the log: what route had still to bring when it died is hours of arrival away from what detect reads."""
    live = deploy(batch_records=50)
    live.load(log)
    dying = {stage: live.start(stage, crash=("kill", *point)) for stage, point in DIES.items()}
    workers = {}
    for stage in ("ingest", "detect", "route"):
        live.died(dying[stage], DIES[stage])
        workers[stage] = live.start(stage)
    live.finish(workers, within_s=240)
    accounts = verify(live)
    assert accounts.copies, "no death came between an output and its commit"
    assert said_by(live) == said_by_replay(log, tmp_path)
