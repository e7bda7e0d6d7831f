"""Is a day the same however its partitions are read and however often its decisions come, and does it end, with a bound on what is open?"""

from collections.abc import Iterable
from itertools import accumulate
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.learn.drift import DriftSettings
from pipeline.core.learn.drift_days import DAY_MS, HASHES, Day, OpenDays, Sample, distinct, place_of

HOUR_MS = 3_600_000
SETTINGS = DriftSettings(a_day=4, most_open=10)
Over = tuple[int, int, int, list[str]]  # number, challenges, alerts, rows


class Told(NamedTuple):
    """A decision: its partition, time, challenge, and whether it was at level alert."""

    partition: int
    time: int
    challenge: str
    alert: bool = False


class Reading:
    """Reads decisions into days, and says what each day was when it ended."""

    def __init__(self, partitions: int, settings: DriftSettings = SETTINGS) -> None:
        self.days: OpenDays[str] = OpenDays(range(partitions), settings)
        self.over: list[Over] = []

    def read(self, decisions: Iterable[Told]) -> None:
        for one in decisions:
            self.days.reached(one.partition, one.time)
            day = self.days.day(one.partition, one.time)
            if day is not None:
                place = place_of(one.challenge)
                if day.entered.admits(place):
                    day.entered.keep(place, f"{one.challenge} at {one.time}")
                if one.alert:
                    day.alarm(place)
            self.end()

    def end(self) -> None:
        self.over += [(day.number, day.challenges, day.alerts, list(day.rows())) for day in self.days.over()]

    def ended(self) -> list[Over]:
        """All days, those that are open ended by decisions of later."""
        self.read(Told(partition, 1000 * DAY_MS, "last") for partition in self.days._newest)
        return self.over


@st.composite
def partitions(draw: st.DrawFn) -> list[list[Told]]:
    """What up to three partitions hold: in the order of time but for some that came late, over a handful of days, with empty stretches."""
    out = []
    for partition in range(draw(st.integers(1, 3))):
        steps = draw(
            st.lists(st.tuples(st.integers(0, 15 * HOUR_MS), st.integers(0, 40 * HOUR_MS) | st.just(0), st.booleans()), max_size=25)
        )
        times = list(accumulate((step for step, _, _ in steps), initial=DAY_MS))
        challenges = draw(st.lists(st.integers(0, 12), min_size=len(steps), max_size=len(steps)))
        out.append(
            [
                Told(partition, max(0, time - back), f"{partition}/{challenge}", alert)
                for time, (_, back, alert), challenge in zip(times, steps, challenges, strict=False)
            ]
        )
    return out


def interleaved(held: list[list[Told]], seed: int) -> list[Told]:
    """The decisions of all partitions in one of the orders in which they may be read."""
    turns = [partition for partition, decisions in enumerate(held) for _ in decisions]
    Random(seed).shuffle(turns)
    left = [iter(decisions) for decisions in held]
    return [next(left[partition]) for partition in turns]


@given(partitions(), st.integers(0, 1 << 30))
def test_the_order_between_partitions_does_not_matter(held: list[list[Told]], seed: int) -> None:
    one, other = (Reading(len(held), DriftSettings(a_day=4, most_open=100)) for _ in range(2))
    one.read(interleaved(held, seed))
    other.read(decision for decisions in held for decision in decisions)
    assert one.ended() == other.ended()
    assert one.days.late == other.days.late


@given(partitions(), st.integers(0, 1 << 30), st.data())
def test_what_is_read_again_changes_nothing(held: list[list[Told]], seed: int, data: st.DataObject) -> None:
    decisions = interleaved(held, seed)
    since = data.draw(st.integers(0, len(decisions)))
    until = data.draw(st.integers(since, len(decisions)))
    once, again = Reading(len(held)), Reading(len(held))
    once.read(decisions)
    again.read(decisions[:until])
    again.read(decisions[since:until])
    again.read(decisions[until:])
    assert again.ended() == once.ended()


@given(partitions(), st.integers(0, 1 << 30), st.integers(1, 4))
def test_no_more_days_are_open_than_may_be_and_each_ends_once_and_in_order(held: list[list[Told]], seed: int, most: int) -> None:
    reading = Reading(len(held), DriftSettings(a_day=4, most_open=most))
    for decision in interleaved(held, seed):
        reading.read([decision])
        assert len(reading.days) <= most
    numbers = [number for number, *_ in reading.ended()]
    assert numbers == sorted(set(numbers))


def day(number: int, hour: float = 12) -> int:
    return int(number * DAY_MS + hour * HOUR_MS)


def test_a_day_waits_for_a_partition_that_is_still_in_it() -> None:
    reading = Reading(2)
    reading.read([Told(0, day(1), "a"), Told(1, day(1), "b"), Told(0, day(2), "c"), Told(0, day(3), "d")])
    assert reading.over == []
    reading.read([Told(1, day(1, 23), "e"), Told(1, day(2, 0.9), "f")])
    assert reading.over == [], "decisions of day 1 may be on their way for an hour"
    reading.read([Told(1, day(2, 1), "g")])
    assert [over[:2] for over in reading.over] == [(1, 3)]


def test_a_partition_that_was_never_read_is_waited_for_until_it_is_at_its_end() -> None:
    reading = Reading(2)
    reading.read([Told(0, day(1), "a"), Told(0, day(2), "b")])
    assert reading.over == []
    reading.days.at_end([1])
    reading.end()
    assert [over[0] for over in reading.over] == [1]


def test_a_partition_at_its_end_is_not_waited_for_and_is_again_once_something_comes() -> None:
    reading = Reading(2)
    reading.read([Told(0, day(1), "a"), Told(1, day(1), "b")])
    reading.days.at_end([0, 1])
    reading.end()
    assert reading.over == [], "where nobody has come to the next day, it is not known to have begun"
    reading.read([Told(0, day(2), "c")])
    assert [over[0] for over in reading.over] == [1]
    reading.read([Told(1, day(2), "d"), Told(0, day(3), "e")])
    assert [over[0] for over in reading.over] == [1]
    reading.days.at_end([1])
    reading.end()
    assert [over[0] for over in reading.over] == [1, 2]
    reading.days.at_end([])
    reading.read([Told(0, day(4), "f")])
    assert [over[0] for over in reading.over] == [1, 2], "it may have been read to its end, and have more by now"


def test_a_decision_that_comes_late_counts_for_nothing_be_its_day_open_or_not() -> None:
    reading = Reading(2)
    reading.read([Told(0, day(1), "a"), Told(1, day(1), "b"), Told(0, day(2, 0.5), "c"), Told(0, day(1, 23.9), "in time")])
    reading.read([Told(0, day(2, 1), "d"), Told(0, day(1, 23.9), "late", alert=True)])
    assert reading.days.late == 1
    reading.read([Told(1, day(2), "e")])
    assert [over[:3] for over in reading.over] == [(1, 3, 0)]
    reading.days.at_end([1])
    reading.read([Told(0, day(3), "f"), Told(1, day(2, 23), "behind by hours")])
    assert reading.days.late == 2
    assert [over[:2] for over in reading.over] == [(1, 3), (2, 3)]


def test_above_the_bound_the_oldest_day_ends_whoever_is_behind() -> None:
    reading = Reading(2, DriftSettings(most_open=3))
    reading.read(Told(0, day(number), f"{number}") for number in range(1, 6))
    assert [over[0] for over in reading.over] == [1, 2]
    reading.read([Told(1, day(2), "too late"), Told(1, day(3), "in time")])
    assert reading.days.late == 1
    assert [over[:2] for over in reading.ended()] == [(1, 1), (2, 1), (3, 2), (4, 1), (5, 1)]


@given(st.sets(st.integers(0, HASHES - 1)), st.integers(1, 20))
def test_a_sample_has_the_smallest_hashes_and_the_first_value_of_each(places: set[int], most: int) -> None:
    sample: Sample[int] = Sample(most)
    for attempt in range(2):
        for place in places:
            if sample.admits(place):
                sample.keep(place, attempt)
    assert sample.kept == dict.fromkeys(sorted(places)[:most], 0)


@pytest.mark.parametrize("n", [0, 1, 1999, 5_000, 50_000])
def test_challenges_are_counted_exactly_where_they_are_few_and_to_some_percent_where_they_are_many(n: int) -> None:
    found: Day[None] = Day(1, 2000)
    for number in range(n):
        place = place_of(f"{number}")
        for _ in range(2):
            if number % 5 and found.entered.admits(place):
                found.entered.keep(place, None)
            if not number % 5 or not number % 7:
                found.alarm(place)
    alarmed = len({number for number in range(n) if not number % 5 or not number % 7})
    exact = n < 2000
    assert found.challenges == (n if exact else pytest.approx(n, rel=0.08))
    assert found.alerts == (alarmed if alarmed < 2000 else pytest.approx(alarmed, rel=0.08))
    assert len(found.rows()) <= 2000


@given(st.sets(st.integers(0, HASHES - 1)), st.sets(st.integers(0, HASHES - 1)), st.integers(1, 20))
def test_there_are_never_more_alarms_than_challenges(entered: set[int], alarmed: set[int], most: int) -> None:
    found: Day[None] = Day(1, most)
    for place in entered:
        if found.entered.admits(place):
            found.entered.keep(place, None)
    for place in alarmed:
        found.alarm(place)
    assert found.alerts <= found.challenges
    assert distinct((), most) == 0
