"""Has the world changed? ADWIN on scores and features, Page-Hinkley on the alert rate (River), day by day; what they found as values.

A bank has its hours: who comes at night is not who comes at noon, and a detector that follows the clock says so every evening. So days
of the log (UTC) are looked at as wholes: when a day is over, a bounded sample of it, chosen by hash, is fed in the order of that hash.
And with enough traffic every change is certain, so one is only told where it also matters: measured from the state that was told last,
so that a slow trend is told once it has added up. Days are not compared by weekday: a weekend that differs by so much is told.

Nothing here touches a score: a drift is a metric and an event for people. A watch lives in memory and begins anew with its process, with
the first whole day, since River keeps ADWIN's windows in native code; what is lost is at most a window and a day of patience.
"""

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from heapq import heappush, heapreplace
from math import copysign, inf, isfinite, isnan, log1p, nan, sqrt
from typing import Final, Literal, NamedTuple

import msgspec
from river import drift

from pipeline.core.events import Ms
from pipeline.core.learn.schema import FeatureValue, Field, Schema

Detector = Literal["adwin", "page_hinkley"]

DAY_MS: Final = 86_400_000
MISSING: Final = nan  # in a kept row
NO_NUMBER: Final = inf  # there, but nothing to take a mean of: a word
STEP: Final = 100  # answers fed to Page-Hinkley at a time: about 0.1 ms, as one row to ADWIN


class DriftSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How sure a detector must be, and what matters. With hundreds of features a ``delta`` of River's size (0.002) would fire every day."""

    delta: float = 1e-5  # ADWIN: chance of a false alarm, per feature and test
    grace: int = 500  # examples before a change is looked for
    alerts: float = 15.0  # Page-Hinkley: so many alerts too many, or too few, in sum; by chance once in tens of thousands of alerts
    a_day: int = 2000  # examples kept of a day, for ADWIN: two days of them show a change of 0.17 standard deviations; about 1.5 MB
    matters: float = 0.25  # standard deviations (as before the change) that a mean must have moved by; "small" is 0.2 to people (Cohen)
    sure: float = 5.0  # and standard errors: ADWIN's window can be short at the end of a day, and its mean a matter of luck
    least: float = 0.01  # and in the unit watched: a share of 1 %, a hundredth of log-odds, about 1 % of a number; for what was constant


class Drift(msgspec.Struct, frozen=True):
    """A change: of what (``score``, ``alert_rate``, ``feature:NAME``, ``missing:NAME``), which way, how much, and from what mean.

    ``magnitude`` is ``after``, the mean since the change to the end of the day that showed it (of an alert rate: of that day), minus
    ``before``, the mean that was told last or that the watch began with. The unit is the one watched: log-odds, alerts per example, share
    (of those without the feature, or with the flag set), and for a number x sign(x) * ln(1 + abs(x)), which no heavy tail can shake: 0.1
    more is about 10 % more.
    """

    name: str
    detector: Detector
    direction: Literal["up", "down"]
    magnitude: float
    before: float
    after: float
    example: int  # how many examples had come by the end of the day that showed it


Change = tuple[float, float]  # the mean before and after


class State(NamedTuple):
    """Values of one state of the world: how many, their mean and standard deviation."""

    n: int
    mean: float
    spread: float


class Means:
    """ADWIN over one number: at the end of a day, says the mean before and after where these differ for sure and by enough."""

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._adwin = drift.ADWIN(delta=settings.delta, grace_period=settings.grace)
        self._before: State | None = None  # as told last
        self._moved = False  # has ADWIN cut its window since?
        self._told = 0.0  # what was told the day before

    def update(self, value: float) -> None:
        """Add a value. Where ADWIN finds a change it drops the values before from its window."""
        self._adwin.update(value)
        self._moved = self._moved or self._adwin.drift_detected

    def close(self) -> Change | None:
        """End a day; the mean before and after when it shows a change that matters.

        A change seldom begins at midnight: what goes on the same way the day after it was told is the same change.
        """
        n = int(self._adwin.width)
        if not n:
            return None
        now = State(n, self._adwin.estimation, sqrt(max(self._adwin.variance, 0.0) / n))  # River's variance is the sum of squares
        before, told, self._told = self._before, self._told, 0.0
        if before is None or not self._moved:
            self._before, self._moved = now, False
            return None
        if not self._matters(before, now):
            return None
        self._before, self._moved = now, False
        size = now.mean - before.mean
        if told * size > 0.0:
            return None
        self._told = size
        return before.mean, now.mean

    def _matters(self, before: State, now: State) -> bool:
        settings, size = self._settings, abs(now.mean - before.mean)
        error = max(before.spread, now.spread) * sqrt(1 / before.n + 1 / now.n)
        return size >= max(settings.matters * before.spread, settings.sure * error, settings.least)


class Rate:
    """Page-Hinkley over yes and no: the rate is learned first, then a sum of too many or too few beyond half of it is a change.

    What half of it is follows the days: of the first one alone, with ten alerts, it would be a guess.
    """

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._begin()

    def _begin(self) -> None:
        self._yes = self._all = 0  # of the days that are over
        self._watch: drift.PageHinkley | None = None
        self._found = False

    def update(self, yes: bool) -> None:
        """Add an answer."""
        if self._watch is not None and not self._found:
            self._watch.update(float(yes))
            self._found = self._watch.drift_detected

    def close(self, yes: int, answers: int) -> Change | None:
        """End a day that had so many answers; the rate before it and on it when it shows a change, and begin anew."""
        if self._found:
            before = self._yes / self._all
            self._begin()
            return before, yes / answers
        self._yes += yes
        self._all += answers
        if self._watch is None and self._all >= self._settings.grace:
            self._watch = drift.PageHinkley(threshold=self._settings.alerts, alpha=1.0, mode="both")
            self._watch._x_mean.n, self._watch._x_mean._mean = float(self._all), self._yes / self._all
        if self._watch is not None:
            self._watch.delta = 0.5 * max(self._yes, 1) / self._all
        return None


class Day:
    """What is kept of one day: how many examples and alerts it had, and the rows of those with the smallest hash, each example once."""

    def __init__(self, number: int, whole: bool, most: int) -> None:
        """``number``: days since 1970; ``whole``: was the watch there from its beginning?; ``most``: rows."""
        self.number, self.whole, self.examples, self.alerts = number, whole, 0, 0
        self._most = most
        self._rows: dict[int, array[float]] = {}
        self._largest: list[int] = []  # a heap of the hashes, negated

    def admits(self, place: int) -> bool:
        """Whether a row at this hash would be kept, and is not yet."""
        return place not in self._rows and (len(self._rows) < self._most or place < -self._largest[0])

    def keep(self, place: int, row: "array[float]") -> None:
        """Keep a row that is admitted, in place of the one with the largest hash where there is no room."""
        if len(self._rows) < self._most:
            heappush(self._largest, -place)
        else:
            del self._rows[-heapreplace(self._largest, -place)]
        self._rows[place] = row

    def rows(self) -> "deque[array[float]]":
        """The rows in the order of their hash."""
        return deque(self._rows[place] for place in sorted(self._rows))


class Closed:
    """A day that is over, and how far it has been looked at."""

    def __init__(self, day: Day, seen: int) -> None:
        self.examples, self.alerts, self.seen = day.examples, day.alerts, seen
        self.rows = day.rows()
        self.answers = 0  # fed to Page-Hinkley so far


class DriftWatch:
    """Watches the scored examples of a stream: ``add`` takes one in, ``look`` then says what the days that are over have shown."""

    def __init__(self, schema: Schema, settings: DriftSettings = DriftSettings()) -> None:  # noqa: B008  # frozen
        self._settings = settings
        self._fields = schema.fields
        self._alerts = Rate(settings)
        self._score = Means(settings)
        self._missing = [Means(settings) for _ in schema.fields]
        self._values = [Means(settings) if field.kind != "category" else None for field in schema.fields]
        self._means = {"score": self._score}
        for field, missing, number in zip(schema.fields, self._missing, self._values, strict=True):
            self._means[f"missing:{field.name}"] = missing
            if number is not None:
                self._means[f"feature:{field.name}"] = number
        self.names = ("alert_rate", *self._means)  # of what is watched
        self._examples = 0
        self._day: Day | None = None
        self._closed: deque[Closed] = deque()

    def add(self, example_id: str, time: Ms, features: Mapping[str, FeatureValue], log_odds: float, alert: bool) -> None:
        """Take a scored example in. One of a later day ends the day that is open; one of an earlier day counts into it."""
        day, number = self._day, time // DAY_MS
        if day is None or number > day.number:
            if day is not None and day.whole:  # a piece of a day has hours of its own, and is not looked at
                self._closed.append(Closed(day, self._examples))
            day = self._day = Day(number, day is not None, self._settings.a_day)
        self._examples += 1
        day.examples += 1
        day.alerts += alert
        # Not the hash by which examples themselves are sampled: of these, the smallest would be those that nobody labelled.
        place = int.from_bytes(blake2b(example_id.encode(), digest_size=8, person=b"drift").digest(), "big")
        if day.admits(place):
            day.keep(place, array("d", (log_odds, *(watched(field, features.get(field.name)) for field in self._fields))))

    def look(self) -> Iterator[list[Drift]]:
        """Look at the days that are over, in steps of about 0.1 ms; the last step of a day says what has changed.

        A caller may rest between two steps. One that never comes back loses nothing: the next look goes on there.
        """
        while self._closed:
            day = self._closed[0]
            while day.rows:
                self._feed(day.rows.popleft())
                yield []
            while day.answers < day.examples:
                for i in range(day.answers, min(day.answers + STEP, day.examples)):
                    self._alerts.update((i + 1) * day.alerts // day.examples > i * day.alerts // day.examples)  # spread evenly
                    day.answers = i + 1
                yield []
            self._closed.popleft()
            yield self._found(day)

    def _feed(self, row: "array[float]") -> None:
        self._score.update(row[0])
        for number, missing, value in zip(self._values, self._missing, row[1:], strict=True):
            missing.update(float(isnan(value)))
            if number is not None and isfinite(value):
                number.update(value)

    def _found(self, day: Closed) -> list[Drift]:
        changes: list[tuple[str, Detector, Change | None]] = [("alert_rate", "page_hinkley", self._alerts.close(day.alerts, day.examples))]
        changes += [(name, "adwin", means.close()) for name, means in self._means.items()]
        return [
            Drift(name, detector, "up" if change[1] > change[0] else "down", change[1] - change[0], *change, day.seen)
            for name, detector, change in changes
            if change is not None
        ]


def watched(field: Field, value: FeatureValue | None) -> float:
    """A feature in the unit it is watched in."""
    if value is None:
        return MISSING
    if field.kind == "category" or isinstance(value, str) or not isfinite(value):
        return NO_NUMBER
    return float(value) if field.kind == "flag" else copysign(log1p(abs(value)), value)
