"""Has a number changed? ADWIN for the mean of a score or a feature, Page-Hinkley for the alert rate (River), fed day by day.

With enough traffic every change is certain, so one is only told where it also matters: measured from the state that was told last, so
that a slow trend is told once it has added up. Which days they are fed, and when: ``drift_days`` and ``drift_watch``.
"""

from math import sqrt
from typing import Literal, NamedTuple

import msgspec
from river import drift

from pipeline.core.events import Ms

Detector = Literal["adwin", "page_hinkley"]


class DriftSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How sure a detector must be, and what matters. With hundreds of features a ``delta`` of River's size (0.002) would fire every day."""

    delta: float = 1e-5  # ADWIN: chance of a false alarm, per feature and test
    grace: int = 500  # challenges before a change is looked for
    alerts: float = 15.0  # Page-Hinkley: so many alerts too many, or too few, in sum; by chance once in tens of thousands of alerts
    a_day: int = 2000  # challenges kept of a day, for ADWIN: two days of them show a change of 0.17 standard deviations; about 1.5 MB
    matters: float = 0.25  # standard deviations (as before the change) that a mean must have moved by; "small" is 0.2 to people (Cohen)
    sure: float = 5.0  # and standard errors: ADWIN's window can be short at the end of a day, and its mean a matter of luck
    least: float = 0.01  # and in the unit watched: a share of 1 %, a hundredth of log-odds, about 1 % of a number; for what was constant
    patience: Ms = 3_600_000  # how far into the next day the decisions are when a day is over: detect may be behind in some partitions
    most_open: int = 10  # days: the eight that a watch reads again at its start, today, and one more; about 15 MB


class Drift(msgspec.Struct, frozen=True):
    """A change: of what (``score``, ``alert_rate``, ``feature:NAME``, ``missing:NAME``), which way, how much, and from what mean.

    ``magnitude`` is ``after``, the mean since the change to the end of the day that showed it (of an alert rate: of that day), minus
    ``before``, the mean that was told last or that the watch began with. The unit is the one watched: log-odds, alerts per challenge, share
    (of those without the feature, or with the flag set), and for a number x sign(x) * ln(1 + abs(x)), which no heavy tail can shake: 0.1
    more is about 10 % more.
    """

    name: str
    detector: Detector
    direction: Literal["up", "down"]
    magnitude: float
    before: float
    after: float
    day: int  # the number (since 1970) of the day that showed it


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
