"""Is a change that matters seen, its direction and size right, and a steady world left in peace, whatever its hours and tails?"""

from collections.abc import Callable, Iterable
from math import log, sin, tau
from random import Random

import pytest
from worlds import SCHEMA, Example, world

from pipeline.core.learn.drift import Drift, DriftSettings, Means, Rate, State
from pipeline.core.learn.drift_days import DAY_MS
from pipeline.core.learn.drift_watch import DriftWatch, Entry
from pipeline.core.learn.schema import FeatureValue

Seen = tuple[str, int, dict[str, FeatureValue], float, bool]  # id, time in ms, features, log-odds, alert
Days = list[list[Seen]]


def scored(days: Iterable[list[Example]], log_odds: float, alert_rate: float, seed: int = 0, first: int = 1) -> Days:
    """Days of examples with a score and alerts; the number of the first is ``first``."""
    r = Random(seed)
    return [
        [
            (f"{number}/{n}", number * DAY_MS + n * DAY_MS // len(day), x, r.gauss(log_odds, 1.0), r.random() < alert_rate)
            for n, (x, _) in enumerate(day)
        ]
        for number, day in enumerate(days, first)
    ]


def show(watch: DriftWatch, seen: Seen) -> None:
    """Show the watch, which has one partition, the decision at an entry."""
    id_, time, features, log_odds, alert = seen
    watch.add(0, id_, time, alert, Entry(log_odds, lambda: features))


def looked(watch: DriftWatch) -> list[Drift]:
    """What the days that are over have shown."""
    return [drift for day in watch.look() if day is not None for drift in day.drifts]


def watched(days: Days, watch: DriftWatch | None = None) -> list[tuple[int, Drift]]:
    """What is told of these days, each with the number of the day that showed it. The watch begins in the day before them, and sees a
    first decision of the day behind them.
    """
    watch = DriftWatch(SCHEMA, (0,)) if watch is None else watch
    first, last = days[0][0], days[-1][-1]
    found = []
    for seen in (
        ("before", first[1] - DAY_MS, *first[2:]), *(seen for day in days for seen in day), ("behind", last[1] + DAY_MS, *last[2:])
    ):  # fmt: skip
        show(watch, seen)
        found += [(drift.day, drift) for drift in looked(watch)]
    return found


def steady(seed: int, days: int, a_day: int = 1000, prior: float = 0.1) -> list[list[Example]]:
    return [world(seed * 1000 + day, a_day, prior=prior) for day in range(days)]


def bank(seed: int, days: int, a_day: int, changed: Callable[[int, dict[str, FeatureValue]], object] = lambda day, f: None) -> Days:
    """A bank with a strong rhythm: by night there are fewer customers, other ones, more of them roam, and all the alerts come within an
    hour. ``share`` and the score move by two standard deviations from night to noon, ``idle`` has tails without a mean.
    """
    out: Days = []
    for number in range(1, days + 1):
        r, seen = Random(seed * 1000 + number), []
        for n in range(a_day):
            hour = (n / a_day + 0.15 * sin(tau * n / a_day)) % 1.0
            noon = -sin(tau * (hour + 0.25))
            f: dict[str, FeatureValue] = {
                "delay_s": r.lognormvariate(3.0, 0.7),
                "share": 5.0 + r.gauss(noon, 0.8),
                "idle": r.choice((-1, 1)) * r.paretovariate(0.7),
                "constant": 4.0,
                "new_device": r.random() < 0.1,
                "roaming": r.random() < (0.4 if noon < 0.0 else 0.1),
                "channel": r.choice(("sms", "voice")),
            }
            if r.random() < (0.3 if noon < 0.0 else 0.05):
                del f["channel"]
            changed(number, f)
            alert = 0.0 <= hour < 0.04 and r.random() < 0.25
            seen.append((f"{number}/{n}", int((number + hour) * DAY_MS), f, -6.0 + r.gauss(noon, 0.7), alert))
        out.append(seen)
    return out


def names(found: list[tuple[int, Drift]]) -> list[tuple[int, str, str]]:
    return [(day, drift.name, drift.direction) for day, drift in found]


def test_a_steady_world_is_left_in_peace() -> None:
    assert watched(scored(steady(1, 8), -6.0, 0.01)) == []


@pytest.mark.parametrize("a_day", [40, 3000])
def test_the_hours_of_a_bank_and_heavy_tails_are_no_change(a_day: int) -> None:
    assert watched(bank(11, 20, a_day)) == []


def test_a_steady_rate_of_alerts_is_left_in_peace_for_long() -> None:
    r, rate = Random(3), Rate(DriftSettings())
    for _ in range(100):
        answers = [r.random() < 0.01 for _ in range(1000)]
        for yes in answers:
            rate.update(yes)
        assert rate.close(sum(answers), len(answers)) is None


def test_scores_that_rise_are_seen() -> None:
    found = watched(scored(steady(2, 3), -6.0, 0.0) + scored(steady(3, 1), -5.0, 0.0, seed=1, first=4))
    ((day, first),) = found
    assert (day, first.name, first.detector, first.direction) == (4, "score", "adwin", "up")
    assert first.before == pytest.approx(-6.0, abs=0.1)
    assert first.after == pytest.approx(-5.0, abs=0.2)
    assert first.magnitude == first.after - first.before
    assert first.day == 4


def test_a_feature_that_changes_and_one_that_goes_missing_are_named() -> None:
    changed: list[Example] = []
    for x, y in world(5, 1000, prior=0.0):
        f = dict(x)
        f["share"] = float(f["share"]) - 2.0
        f["new_device"] = True
        f.pop("channel", None)
        changed.append((f, y))
    found = watched(scored([*steady(4, 2, prior=0.0), changed], -6.0, 0.0))
    by_name = {drift.name: drift for _, drift in found}
    assert set(by_name) == {"feature:share", "feature:new_device", "missing:channel"}
    assert by_name["feature:share"].direction == "down"
    assert by_name["feature:share"].before == pytest.approx(log(6.0), abs=0.1)  # a number is told as ln(1 + x)
    assert by_name["feature:share"].after == pytest.approx(log(4.0), abs=0.1)
    assert by_name["feature:new_device"].after == pytest.approx(1.0, abs=0.1)
    assert by_name["missing:channel"].direction == "up"
    assert by_name["missing:channel"].before < 0.2
    assert by_name["missing:channel"].after > 0.8


def test_a_flood_of_alerts_and_a_silence_are_seen() -> None:
    days = scored(steady(6, 3), -6.0, 0.02)
    days += scored(steady(7, 3), -6.0, 0.2, seed=2, first=4)
    days += scored(steady(8, 3), -6.0, 0.0, seed=3, first=7)
    flood, silence = [(day, drift) for day, drift in watched(days) if drift.name == "alert_rate"]
    assert (flood[0], flood[1].direction, flood[1].detector) == (4, "up", "page_hinkley")
    assert flood[1].magnitude == pytest.approx(0.18, abs=0.03)
    assert (silence[0], silence[1].direction, silence[1].after) == (7, "down", 0.0)


def jump(number: int, f: dict[str, FeatureValue]) -> None:
    if number > 10:
        f["share"] = float(f["share"]) + 0.5 * 1.07  # of its standard deviation over the day


def gone(number: int, f: dict[str, FeatureValue]) -> None:
    if number > 10 and float(f["delay_s"]) > 25.0:  # 37 % of them
        del f["delay_s"]


@pytest.mark.parametrize(("changed", "name"), [(jump, "feature:share"), (gone, "missing:delay_s")])
@pytest.mark.parametrize("a_day", [700, 2500])
def test_a_change_is_told_within_two_days_and_once(a_day: int, changed: Callable[[int, dict[str, FeatureValue]], None], name: str) -> None:
    told = [(day, what, way) for day, what, way in names(watched(bank(12, 14, a_day, changed))) if what == name]
    assert told in ([(11, name, "up")], [(12, name, "up")])


def test_twice_as_many_alerts_are_told_within_two_days_and_once() -> None:
    r, days = Random(5), bank(13, 14, 2500)
    for day in days[10:]:
        day[:] = [(*seen[:4], seen[4] or r.random() < 0.01) for seen in day]
    ((day, what, way),) = names(watched(days))
    assert (what, way) == ("alert_rate", "up")
    assert day in {11, 12}


def test_a_score_that_shifts_by_half_its_spread_is_told_within_two_days_and_once() -> None:
    days = bank(14, 14, 2500)
    for day in days[10:]:
        day[:] = [(*seen[:3], seen[3] - 0.5, seen[4]) for seen in day]
    assert names(watched(days)) in ([(11, "score", "down")], [(12, "score", "down")])


def test_a_trend_is_told_once_it_has_added_up_and_a_tiny_one_is_not() -> None:
    def rises(in_all: float) -> Days:
        def changed(number: int, f: dict[str, FeatureValue]) -> None:
            f["share"] = float(f["share"]) + in_all * number / 20

        return bank(15, 20, 2000, changed)

    assert names(watched(rises(0.15))) == []
    told = names(watched(rises(0.6)))
    assert [(what, way) for _, what, way in told] in ([("feature:share", "up")], [("feature:share", "up")] * 2)
    assert told[0][0] > 5


def test_a_share_that_was_constant_and_moves_by_a_hair_is_not_told() -> None:
    def seldom(share: float) -> Days:
        r = Random(8)

        def changed(number: int, f: dict[str, FeatureValue]) -> None:
            f["new_device"] = number > 5 and r.random() < share

        return bank(16, 14, 2500, changed)

    assert names(watched(seldom(0.004))) == []
    assert [(what, way) for _, what, way in names(watched(seldom(0.05)))] == [("feature:new_device", "up")]


def test_a_change_at_noon_is_told_once_and_its_end_too() -> None:
    def noon(days: Days) -> Days:
        for number, seen in enumerate(days, 1):
            for s in seen:
                if (s[1] % DAY_MS > DAY_MS // 2 and number == 5) or 5 < number < 9:
                    s[2].pop("constant")
        return days

    told = names(watched(noon(bank(17, 12, 2000))))
    assert told == [(5, "missing:constant", "up"), (9, "missing:constant", "down")]


def test_tens_of_examples_a_day_are_enough_over_weeks() -> None:
    def changed(number: int, f: dict[str, FeatureValue]) -> None:
        if number > 30:
            f["share"] = float(f["share"]) + 1.0

    ((day, what, way),) = names(watched(bank(18, 60, 40, changed)))
    assert (what, way) == ("feature:share", "up")
    assert 31 <= day <= 36


def test_the_same_stream_gives_the_same_drifts() -> None:
    def run() -> list[tuple[int, Drift]]:
        flipped = [world(10, 1500, flipped=True)]
        return watched(scored([*steady(9, 2), *flipped], -6.0, 0.0))

    assert run() == run() != []


def test_the_order_of_the_decisions_of_a_day_does_not_matter() -> None:
    days = bank(19, 14, 2500, jump)
    found = watched(days)
    assert found != []
    for day in days:
        Random(1).shuffle(day)
    assert watched(days) == found


def test_what_is_kept_is_bounded_and_a_challenge_counts_once() -> None:
    watch = DriftWatch(SCHEMA, (0,), DriftSettings(a_day=100))
    for day in bank(21, 2, 1000):
        for seen in (*day, *day):
            show(watch, seen)
    show(watch, ("behind", 4 * DAY_MS, {}, 0.0, False))
    steps = list(watch.look())
    (over,) = [step for step in steps if step is not None]
    assert over.day == 2
    assert over.challenges == pytest.approx(1000, rel=0.3)  # 100 kept: a standard error of 10 %
    assert len([step for step in steps if step is None]) == 100 + -(-over.challenges // 100)
    assert not watch._over
    assert len(watch._days) == 1


def test_a_challenge_is_shown_by_its_first_decision_at_the_entry() -> None:
    watch = DriftWatch(SCHEMA, (0,))
    asked: list[float] = []

    def entry(log_odds: float) -> Entry:
        def features() -> dict[str, FeatureValue]:
            asked.append(log_odds)
            return {"share": 1.0}

        return Entry(log_odds, features)

    watch.add(0, "before", 0, False, entry(0.0))
    watch.add(0, "a", DAY_MS, True)  # before it was entered
    watch.add(0, "a", DAY_MS + 1, False, entry(1.0))
    watch.add(0, "a", DAY_MS + 2, True, entry(2.0))
    watch.add(0, "b", DAY_MS + 3, False)  # a watch that was never entered
    watch.add(0, "c", DAY_MS + 4, True)  # an alarm that was never entered
    watch.add(0, "d", 3 * DAY_MS, False)
    (over,) = [day for day in watch.look() if day is not None]
    assert (over.challenges, over.alerts) == (2, 2)
    assert asked == [0.0, 1.0], "the features of a challenge that is kept are not asked for again"
    assert watch._score._before is not None
    assert (watch._score._before.n, watch._score._before.mean) == (1, 1.0)


def test_features_that_cannot_be_read_leave_no_trace() -> None:
    watch = DriftWatch(SCHEMA, (0,))

    def unreadable() -> dict[str, FeatureValue]:
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        watch.add(0, "a", DAY_MS, True, Entry(0.0, unreadable))
    watch.add(0, "behind", 4 * DAY_MS, False)
    assert list(watch.look()) == []
    assert watch._days.late == 0


def test_a_look_that_was_broken_off_goes_on_where_it_stopped() -> None:
    def run(patience: int) -> list[Drift]:
        watch, found = DriftWatch(SCHEMA, (0,)), []
        days = scored([*steady(9, 3, 600), world(10, 600, flipped=True)], -6.0, 0.0)
        before: Seen = ("before", 0, {}, 0.0, False)
        behind: Seen = ("behind", 7 * DAY_MS, {}, 0.0, False)
        for day in [[before], *days, [behind]]:
            for seen in day:
                show(watch, seen)
            for _, over in zip(range(patience), watch.look(), strict=False):
                found += [] if over is None else over.drifts
            while watch._over:
                for _, over in zip(range(patience), watch.look(), strict=False):
                    found += [] if over is None else over.drifts
        return found

    assert run(10_000) == run(7) != []


def test_a_piece_of_a_day_is_no_day() -> None:
    """A watch that begins at 22:00 does not take the night for what is usual."""
    days = bank(22, 6, 2000)
    watch = DriftWatch(SCHEMA, (0,))
    first = [seen for seen in days[0] if seen[1] % DAY_MS > 22 * 3_600_000]
    found = []
    for day in [first, *days[1:]]:
        for seen in day:
            show(watch, seen)
            found += looked(watch)
    assert found == []


@pytest.mark.parametrize(("jump_by", "told"), [(0.2, False), (0.3, True)])
def test_it_matters_from_a_quarter_of_a_standard_deviation_on(jump_by: float, told: bool) -> None:
    r, means, found = Random(6), Means(DriftSettings()), []
    for day in range(8):
        for _ in range(4000):
            means.update(r.gauss(7.0 + (3.0 * jump_by if day > 4 else 0.0), 3.0))
        found.append(means.close())
    assert any(found) is told


def test_a_mean_of_few_values_is_not_believed() -> None:
    """A trend upward was told as a fall: ADWIN had cut for sure, and the day ended with some dozen values in its window."""
    means, before = Means(DriftSettings()), State(20_000, 0.0, 1.0)
    assert not means._matters(before, State(64, -0.3, 1.0))
    assert means._matters(before, State(640, -0.3, 1.0))
    assert means._matters(before, State(64, -0.7, 1.0))
    assert not means._matters(before._replace(spread=0.0), State(64, 0.3, 1.0))


def test_absurd_values_are_taken_as_they_come() -> None:
    watch = DriftWatch(SCHEMA, (0,))
    for n, value in enumerate((float("inf"), float("-inf"), float("nan"), -1e300, 1e300, "word", None)):
        show(watch, (f"{n}", n * DAY_MS, {name: value for name in ("share", "delay_s", "channel") if value is not None}, 0.0, False))
        assert looked(watch) == []
