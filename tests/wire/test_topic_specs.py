"""Do the topics agree with each other and with what reads and writes them?"""

import pytest

from pipeline.core.events import FEEDS
from pipeline.core.policy import Policy
from pipeline.wire.topics import DAY_MS, TOPICS, TopicSpec


def test_every_feed_is_an_input_topic_and_no_other() -> None:
    assert {name for name, spec in TOPICS.items() if spec.direction == "in"} == set(FEEDS)
    assert all(name == spec.name for name, spec in TOPICS.items())


def test_outputs_and_logs_between_the_stages_are_there() -> None:
    assert {name for name, spec in TOPICS.items() if spec.direction == "out"} == {"alerts", "decisions", "holds", "dead-letters"}
    own = {"events", "lines", "sightings", "examples", "models", "detect-state", "route-state", "campaign-state"}
    assert {name for name, spec in TOPICS.items() if spec.direction == "internal"} == own


@pytest.mark.parametrize("spec", TOPICS.values(), ids=lambda spec: spec.name)
def test_what_is_compacted_is_kept_and_what_is_not_ends(spec: TopicSpec) -> None:
    assert (spec.cleanup == "compact") == (spec.retention_ms is None)
    assert spec.partitions >= 1
    assert spec.what


@pytest.mark.parametrize("name", [*FEEDS, "events", "lines", "alerts", "decisions"])
def test_the_broker_stamps_arrivals_where_they_count(name: str) -> None:
    assert TOPICS[name].log_append_time


def test_state_lies_beside_its_source() -> None:
    assert TOPICS["detect-state"].partitions == TOPICS["events"].partitions
    assert TOPICS["route-state"].partitions == TOPICS["lines"].partitions
    assert TOPICS["campaign-state"].partitions == TOPICS["sightings"].partitions


def test_events_outlive_the_wait_for_a_disposition() -> None:
    retention = TOPICS["events"].retention_ms
    assert retention is not None
    assert retention > Policy().bounds.settled_days * DAY_MS
