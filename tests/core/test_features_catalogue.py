"""Does the table of features say what there is, and of each idea of the design whether it is carried?"""

from pathlib import Path
from typing import get_args

from pipeline.core.events import FEEDS
from pipeline.core.features import FIELDS
from pipeline.core.features.catalogue import FEATURES, IDS, NOT_CARRIED, Direction, carried, reference


def test_every_feature_has_a_line_in_the_order_of_the_struct() -> None:
    assert sorted(FEATURES) == sorted(FIELDS)
    for name, about in FEATURES.items():
        assert about.unit, name
        assert about.why, name
        assert about.missing, name
        assert about.direction in get_args(Direction)
        assert about.ids, name
        assert set(about.ids) <= set(IDS)
        assert set(about.feed.split(", ")) <= {*FEEDS, "all", "none"}, name


def test_every_idea_of_the_catalogue_is_carried_or_says_why_not() -> None:
    assert [uid for uid in IDS if bool(carried(uid)) == (uid in NOT_CARRIED)] == []


def test_a_unit_fits_the_name() -> None:
    ends = {"_s": "s", "_h": "h", "_per_day": "per day", "_share": "share"}
    for name, about in FEATURES.items():
        for end, unit in ends.items():
            if name.endswith(end):
                assert about.unit == unit, name


def test_the_reference_is_what_the_code_says() -> None:
    """Written by ``offhook features --markdown``."""
    assert (Path(__file__).parents[2] / "deploy" / "features.md").read_text() == reference() + "\n", "offhook features --markdown"
