"""Does live say what replay says? The live rung of the ladder of law 7, on a real broker, with workers killed on the way."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.policy import Policy
from pipeline.replay.run import Replay
from pipeline.wire.log import LogRecord, read_log
from pipeline.wire.pseudonym import Pseudonyms
from tests.broker.expected import assert_parity, assert_state, last_decisions
from tests.broker.harness import KEY, Deployment

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")


def test_the_recorded_events_say_what_the_run_said_and_the_raw_topics_end_the_same(
    deploy: Callable[..., Deployment], log: list[LogRecord], tmp_path: Path
) -> None:
    live = deploy()
    live.load(log)
    live.finish({stage: live.start(stage) for stage in STAGES})
    expected = assert_parity(live)
    assert_state(live, expected)
    assert len(expected.records["alerts"]) > 5, "a log without alerts would prove nothing"

    Replay(Policy(), Pseudonyms.from_text(KEY), tmp_path).run(log)
    replayed = last_decisions(record.value for record in read_log(tmp_path / "decisions.jsonl"))
    assert last_decisions(kept.value for kept in live.read("decisions")) == replayed
    assert len(replayed) > 30


def test_a_kill_in_the_middle_changes_no_byte(deploy: Callable[..., Deployment], log: list[LogRecord]) -> None:
    live = deploy()
    live.load(log)
    workers = {stage: live.start(stage) for stage in STAGES}
    for stage in ("detect", "ingest", "route", "detect"):
        time.sleep(2.5)
        workers[stage].kill()
        workers[stage].wait()
        workers[stage] = live.start(stage)
    live.finish(workers, within_s=90)
    expected = assert_parity(live)
    assert_state(live, expected)
    assert len(expected.records["alerts"]) > 5
