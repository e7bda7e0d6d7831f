"""Has the world changed? The days of ``decisions`` beside one another: score, alert rate and features; what they found as values.

A bank has its hours: who comes at night is not who comes at noon, and a detector that follows the clock says so every evening. So days
of the log (UTC) are looked at as wholes: when a day is over, a bounded sample of it, chosen by hash, is fed in the order of that hash.
Days are not compared by weekday: a weekend that differs by so much is told.

A challenge counts once, by its first decision of the stage ``at_entry``: a code that was accepted has one at whatever level, while a
decision of another stage may be there only because something was to be said, and a sample of those would follow the score. An alarm
counts at any stage: where a login server asks for holds, what alarms is never accepted. The rate is that of the codes that alarmed
among those that were accepted or alarmed.

Nothing here touches a score: a drift is a metric and an event for people. River keeps ADWIN's windows in native code, so a watch is
not written down: a new one reads again the days before.
"""

from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from math import copysign, inf, isfinite, isnan, log1p, nan
from typing import Final, NamedTuple

from pipeline.core.events import Ms
from pipeline.core.learn.drift import Change, Detector, Drift, DriftSettings, Means, Rate
from pipeline.core.learn.drift_days import Day, OpenDays, place_of
from pipeline.core.learn.schema import FeatureValue, Field, Schema

MISSING: Final = nan  # in a kept row
NO_NUMBER: Final = inf  # there, but nothing to take a mean of: a word
STEP: Final = 100  # answers fed to Page-Hinkley at a time: about 0.1 ms, as one row to ADWIN


class Entry(NamedTuple):
    """What was decided at an entry: the log-odds of the score, and the features, which are only asked of those that are kept."""

    log_odds: float
    features: Callable[[], Mapping[str, FeatureValue]]


class Looked(NamedTuple):
    """A day that has been looked at: its number (since 1970), how many challenges and alarms it had, and what has changed."""

    day: int
    challenges: int
    alerts: int
    drifts: list[Drift]


class _Over:
    """A day that is over, and how far it has been looked at."""

    def __init__(self, day: "Day[array[float]]") -> None:
        self.number, self.challenges, self.alerts = day.number, day.challenges, day.alerts
        self.rows = day.rows()
        self.answers = 0  # fed to Page-Hinkley so far


class DriftWatch:
    """Watches the decisions of some partitions: ``add`` takes one in, ``look`` then says what the days that are over have shown."""

    def __init__(self, schema: Schema, partitions: Collection[int], settings: DriftSettings = DriftSettings()) -> None:  # noqa: B008  # frozen
        self._fields = schema.fields
        self._days: OpenDays[array[float]] = OpenDays(partitions, settings)
        self._alerts = Rate(settings)
        self._score = Means(settings)
        self._missing = [Means(settings) for _ in schema.fields]
        self._values = [Means(settings) if field.kind != "category" else None for field in schema.fields]
        self._means = {"score": self._score}
        for field, missing, number in zip(schema.fields, self._missing, self._values, strict=True):
            self._means[f"missing:{field.name}"] = missing
            if number is not None:
                self._means[f"feature:{field.name}"] = number
        self._begun = False  # is the first day over? It may be a piece, with hours of its own, and is not looked at
        self._over: deque[_Over] = deque()

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is watched."""
        return ("alert_rate", *self._means)

    @property
    def late(self) -> int:
        """How many decisions came when their day was over."""
        return self._days.late

    def add(self, partition: int, challenge: str, time: Ms, alert: bool, entry: Entry | None = None) -> None:
        """Take a decision of one of the partitions in; ``entry``: where it was made at the entry. Raises what ``features`` raises."""
        self._days.reached(partition, time)
        if entry is None and not alert:
            return
        day = self._days.day(partition, time)
        if day is None:
            return
        place = place_of(challenge)
        if entry is not None and day.entered.admits(place):
            features = entry.features()
            day.entered.keep(place, array("d", (entry.log_odds, *(watched(field, features.get(field.name)) for field in self._fields))))
        if alert:
            day.alarm(place)

    def at_end(self, partitions: Collection[int]) -> None:
        """These partitions, and no others, have been read to their end, and are not waited for."""
        self._days.at_end(partitions)

    def look(self) -> Iterator[Looked | None]:
        """Look at the days that are over, in steps of about 0.1 ms; the last step of a day says what has changed.

        A caller may rest between two steps. One that never comes back loses nothing: the next look goes on there.
        """
        for over in self._days.over():
            if self._begun:
                self._over.append(_Over(over))
            self._begun = True
        while self._over:
            day = self._over[0]
            while day.rows:
                self._feed(day.rows.popleft())
                yield None
            while day.answers < day.challenges:
                for i in range(day.answers, min(day.answers + STEP, day.challenges)):
                    self._alerts.update((i + 1) * day.alerts // day.challenges > i * day.alerts // day.challenges)  # spread evenly
                    day.answers = i + 1
                yield None
            self._over.popleft()
            yield Looked(day.number, day.challenges, day.alerts, self._found(day))

    def _feed(self, row: "array[float]") -> None:
        self._score.update(row[0])
        for number, missing, value in zip(self._values, self._missing, row[1:], strict=True):
            missing.update(float(isnan(value)))
            if number is not None and isfinite(value):
                number.update(value)

    def _found(self, day: _Over) -> list[Drift]:
        changes: list[tuple[str, Detector, Change | None]] = [
            ("alert_rate", "page_hinkley", self._alerts.close(day.alerts, day.challenges))
        ]
        changes += [(name, "adwin", means.close()) for name, means in self._means.items()]
        return [
            Drift(name, detector, "up" if change[1] > change[0] else "down", change[1] - change[0], *change, day.number)
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
