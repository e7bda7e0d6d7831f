"""A recording of real calls takes the place of simulated telephony, in the layout of the Copenhagen Networks Study."""

import os
from collections import Counter
from pathlib import Path

import orjson
import pytest

from pipeline.core.policy import Policy
from pipeline.simulate.run import simulate
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import read_log
from pipeline.wire.pseudonym import Pseudonyms
from tests.simulate.world import World

HERE = Path(__file__).parents[2]
PLACES = [Path(os.environ["OFFHOOK_TEST_DATA"])] if "OFFHOOK_TEST_DATA" in os.environ else [HERE.parent / "shared" / "data"]
FOLDER = next((p for place in PLACES for p in (place / "copenhagen_cns", place) if (p / "calls.csv").exists()), None)
recording = pytest.mark.skipif(
    FOLDER is None,
    reason="the Copenhagen Networks Study recording is not here: set OFFHOOK_TEST_DATA to the folder that holds copenhagen_cns",
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "calls.csv").write_text("timestamp,caller,callee,duration\n30000,7,8,120\n40000,8,7,-1\n50000,7,9,0\n")
    (tmp_path / "sms.csv").write_text("timestamp,sender,recipient\n31000,8,7\n")
    return tmp_path


def test_both_ends_see_the_call(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    world = World(out, simulate(1, 99, 24, out, history_days=0, telephony=small, noise=False))
    assert world.summary.accounts == 3
    assert world.summary.labels.keys() <= {"benign"}
    calls = [c for phone in world.calls.values() for c in phone if not c.get("peer_is_bank")]
    ends = Counter((c["direction"], c["states"][-1]) for c in calls)
    assert ends == {(direction, end): n for direction in ("inbound", "outbound") for end, n in (("ended", 2), ("missed", 1))}
    long = [c for c in calls if c["answered_at"] is not None and c["ended_at"] - c["answered_at"] == 120_000]
    assert {c["phone"] for c in long} == {c["peer"] for c in long}
    assert len({c["answered_at"] for c in long}) == 1
    midnight = 1_772_409_600_000  # 2026-03-02T00:00:00Z
    assert long[0]["answered_at"] == midnight + 30_000_000
    texts = [b for b in world.by_topic["telephony"] if b["type"] == "sms" and b["peer"] != "EXAMPLEBANK"]
    assert {t["direction"] for t in texts} == {"inbound", "outbound"}


@pytest.mark.slow
@recording
def test_the_whole_recording_becomes_a_log_without_any_attack(tmp_path: Path) -> None:
    assert FOLDER is not None
    summary = simulate(1, 10_000, 336, tmp_path, telephony=FOLDER, noise=False)
    assert summary.accounts > 500
    assert summary.labels == {"benign": summary.challenges}
    assert summary.challenges > 2000
    ingest = Ingest(Policy(), Pseudonyms.for_demo())
    calls = texts = 0
    for record in read_log(tmp_path / summary.log):
        ingest.read(record.topic, record.value, record.ts)
        if record.topic == "telephony" and record.value is not None:
            body = orjson.loads(record.value)
            calls += body["type"] == "call" and body["state"] in {"ended", "missed"} and not body.get("peer_is_bank")
            texts += body["type"] == "sms" and body["peer"] != "EXAMPLEBANK"
    assert calls > 2 * 3500
    assert texts > 2 * 24_000
