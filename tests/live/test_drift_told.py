"""Does somebody hear of a drift? As an event that names what changed from what to what, and as a count that names it too."""

import asyncio
import logging
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from nacl.signing import SigningKey

from pipeline.core.learn.drift import DAY_MS, Drift
from pipeline.core.outcome import Example
from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.changelog import ChangelogReader
from pipeline.live.folding import Turns
from pipeline.live.health import Health
from pipeline.live.learn import LearnStage
from pipeline.live.logs import JsonLines
from pipeline.wire.dead_letter import DeadLetters


def never(topic: str, partition: int) -> ChangelogReader:
    raise AssertionError("nothing is restored here")


def stage() -> LearnStage:
    return LearnStage(Policy(), SigningKey(b"\x11" * 32), "", never, DeadLetters("reference"), Health())


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("score", {"what": "score", "feature": ""}),
        ("missing:call_live", {"what": "missing", "feature": "call_live"}),
        ("feature:entry_latency_s", {"what": "feature", "feature": "entry_latency_s"}),
    ],
)
def test_a_drift_is_an_event_and_a_count(name: str, labels: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    before = metrics.REGISTRY.get_sample_value("offhook_drifts_total", labels) or 0
    with caplog.at_level(logging.WARNING, "pipeline.live.learn"):
        stage()._drifted(Drift(name, "adwin", "down", -0.3, 0.9, 0.6, 4711))
    assert metrics.REGISTRY.get_sample_value("offhook_drifts_total", labels) == before + 1
    (record,) = caplog.records
    line = JsonLines().format(record)
    for said in (f'"drift":"{name}"', '"before":0.9', '"after":0.6', "example 4711", '"action":"see whether a feed'):
        assert said in line


def days() -> list[Example]:
    """Four days of examples; on the last whole one codes are entered four times as slowly."""
    r = Random(4)
    return [
        Example(
            example_id=f"{day}/{n}", time=day * DAY_MS + n, label=False, weight=1.0, probability=0.01,
            features={"entry_latency_s": r.lognormvariate(3.0, 0.5) * (4.0 if day == 4 else 1.0)},
        )
        for day in range(1, 6)
        for n in range(1 if day == 5 else 900)
    ]  # fmt: skip


def told(learner: LearnStage, offsets: Iterable[int], caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is said when the examples at these offsets are learned."""
    examples = days()

    async def story() -> None:
        for offset in offsets:
            learner._told(offset, examples[offset], None)
            await learner._look(Turns())

    with caplog.at_level(logging.WARNING, "pipeline.live.learn"):
        asyncio.run(story())
    return [str(record.__dict__["drift"]) for record in caplog.records]


def test_a_day_that_is_over_is_looked_at_when_the_next_one_begins(caplog: pytest.LogCaptureFixture) -> None:
    assert told(stage(), range(len(days()) - 1), caplog) == []
    assert told(stage(), range(len(days())), caplog) == ["feature:entry_latency_s"]


def test_what_is_learned_again_is_not_watched_again(caplog: pytest.LogCaptureFixture) -> None:
    learner = stage()
    assert told(learner, [*range(2000), *range(500, len(days()))], caplog) == ["feature:entry_latency_s"]
    assert learner._watch._examples == learner._watched == len(days())


def test_a_look_at_a_day_lets_others_run() -> None:
    learner, turns_of_others = stage(), 0

    async def others() -> None:
        nonlocal turns_of_others
        while True:
            turns_of_others += 1
            await asyncio.sleep(0)

    async def story() -> None:
        for offset, example in enumerate(days()):
            learner._told(offset, example, None)
        task = asyncio.create_task(others())
        await learner._look(Turns())
        task.cancel()

    asyncio.run(story())
    assert not learner._watch._closed
    assert turns_of_others > 2


def test_every_count_of_drifts_begins_at_nothing_so_that_its_first_rise_is_seen() -> None:
    nothing: Any = None
    asyncio.run(stage().start(nothing, nothing))
    sampled = {
        (s.labels["what"], s.labels["feature"]) for m in metrics.DRIFTS.collect() for s in m.samples if s.name == "offhook_drifts_total"
    }
    assert {("score", ""), ("alert_rate", ""), ("missing", "channel"), ("feature", "hour_share")} <= sampled
    assert ("feature", "channel") not in sampled  # a word has no mean
