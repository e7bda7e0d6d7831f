"""Do an attack at scale and a rush of customers come when they should, change nothing else, and look like what they are?"""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.simulate.run import START
from tests.simulate.conftest import Maker


@pytest.mark.parametrize(("option", "labels"), [("wave_hour", {"attempt", "takeover"}), ("rush_hour", {"benign"})])
def test_it_comes_within_twenty_minutes_and_changes_nothing_else(make_world: Maker, option: str, labels: set[str]) -> None:
    plain = make_world(accounts=600, hours=12, history_days=1, prior=0.1)
    world = make_world(accounts=600, hours=12, history_days=1, prior=0.1, **{option: 5.0})
    known = {(t["account_id"], t["otp_id"]) for t in plain.truth}
    new = [t for t in world.truth if (t["account_id"], t["otp_id"]) not in known]
    assert 600 * (0.02 if option == "wave_hour" else 0.06) < len(new) < 600 * (0.12 if option == "wave_hour" else 0.15)
    assert Counter(t["label"] for t in new).keys() == labels
    begins = START + timedelta(hours=5)
    first = [datetime.fromisoformat(t["dispatched_at"]).astimezone(UTC) for t in new]
    assert min(first) >= begins - timedelta(minutes=5), "a caller may come before the code"
    assert sum(at <= begins + timedelta(minutes=25) for at in first) > 0.9 * len(first)
    assert known <= {(t["account_id"], t["otp_id"]) for t in world.truth}
    assert world.summary.parameters[option] == 5.0
    assert option not in plain.summary.parameters


def test_one_outside_the_log_proper_is_refused(make_world: Maker) -> None:
    for options in ({"wave_hour": 6.0}, {"rush_hour": -0.1}):
        with pytest.raises(ValueError, match="within the hours of the log proper"):
            make_world(accounts=10, hours=6, history_days=0, **options)
