"""Does the attack that nobody has seen begin on its day, leave everything else as it was, and look like its story?"""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.simulate.emerging import STORY
from pipeline.simulate.run import START
from tests.simulate.conftest import Maker


@pytest.mark.slow
def test_it_begins_on_its_day_and_changes_nothing_else(make_world: Maker) -> None:
    plain = make_world(accounts=300, hours=72, prior=0.3, history_days=1)
    world = make_world(accounts=300, hours=72, prior=0.3, history_days=1, emerging_day=1.5)
    new = [t for t in world.truth if t["story"] == STORY]
    begins = START + timedelta(days=1.5)
    assert len(new) > 20
    assert all(datetime.fromisoformat(t["dispatched_at"]).astimezone(UTC) >= begins for t in new)
    labels = Counter(t["label"] for t in new)
    assert labels["takeover"] > 5
    assert labels["attempt"] > 5
    assert not labels["benign"]
    assert all(t["label"] != "takeover" or not t["history"] for t in new)
    others = [(t["dispatched_at"], t["story"], t["label"]) for t in world.truth if t["story"] != STORY]
    assert sorted(others) == sorted((t["dispatched_at"], t["story"], t["label"]) for t in plain.truth)
    assert STORY not in plain.summary.stories
    assert world.summary.parameters["emerging_day"] == 1.5
    assert "emerging_day" not in plain.summary.parameters


def test_the_third_world_is_another_world(make_world: Maker) -> None:
    a, c = (make_world(accounts=200, hours=6, prior=0.5, family=family) for family in ("a", "c"))
    assert c.summary.parameters["family"] == "c"
    assert a.summary.records_by_topic != c.summary.records_by_topic
