"""Does somebody hear of a drift? As an event that names what changed from what to what, and as a count that names it too."""

import logging

import pytest
from nacl.signing import SigningKey

from pipeline.core.learn.drift import Drift
from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.changelog import ChangelogReader
from pipeline.live.health import Health
from pipeline.live.learn import LearnStage
from pipeline.live.logs import JsonLines
from pipeline.wire.dead_letter import DeadLetters


def never(topic: str, partition: int) -> ChangelogReader:
    raise AssertionError("nothing is restored here")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("score", {"what": "score", "feature": ""}),
        ("missing:call_live", {"what": "missing", "feature": "call_live"}),
        ("feature:entry_latency_s", {"what": "feature", "feature": "entry_latency_s"}),
    ],
)
def test_a_drift_is_an_event_and_a_count(name: str, labels: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    stage = LearnStage(Policy(), SigningKey(b"\x11" * 32), "", never, DeadLetters("reference"), Health())
    before = metrics.REGISTRY.get_sample_value("offhook_drifts_total", labels) or 0
    with caplog.at_level(logging.WARNING, "pipeline.live.learn"):
        stage._drifted(Drift(name, "adwin", "down", -0.3, 0.9, 0.6, 4711))
    assert metrics.REGISTRY.get_sample_value("offhook_drifts_total", labels) == before + 1
    (record,) = caplog.records
    line = JsonLines().format(record)
    for said in (f'"drift":"{name}"', '"before":0.9', '"after":0.6', "example 4711", '"action":"see whether a feed'):
        assert said in line
