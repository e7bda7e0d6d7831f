"""Has the world changed? ADWIN on scores and features, Page-Hinkley on the alert rate (River), and what they found as values.

Nothing here touches a score: a drift is a metric and an event for people. A watch lives in memory and begins anew with its process,
since River keeps ADWIN's windows in native code; what is lost is at most one window of patience.
"""

from collections.abc import Mapping
from math import isfinite, log1p
from typing import Literal

import msgspec
from river import drift

from pipeline.core.learn.schema import FeatureValue, Schema

Detector = Literal["adwin", "page_hinkley"]


class DriftSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How sure a detector must be. With hundreds of features a ``delta`` of River's size (0.002) would fire somewhere every day."""

    delta: float = 1e-5  # ADWIN: chance of a false alarm, per feature and test
    grace: int = 500  # examples before a change is looked for
    alerts: float = 15.0  # Page-Hinkley: so many alerts too many, or too few, in sum; by chance once in tens of thousands of alerts


class Drift(msgspec.Struct, frozen=True):
    """A change: of what (``score``, ``alert_rate``, ``feature:NAME``, ``missing:NAME``), which way, how much, and from what mean.

    ``magnitude`` is the recent mean minus the one before, in the unit watched: log-odds, alerts per example, the feature's own unit (after
    ln(1 + x) for one that spans orders of magnitude), or share.
    """

    name: str
    detector: Detector
    direction: Literal["up", "down"]
    magnitude: float
    before: float
    after: float
    example: int  # the how-manieth example showed it


RECENT = 0.05  # weight of the newest value in the recent mean: about the last 20


class Means:
    """ADWIN over one number: reports the mean so far and the recent one when they differ for sure, then begins anew."""

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._begin()

    def _begin(self) -> None:
        self._adwin = drift.ADWIN(delta=self._settings.delta, grace_period=self._settings.grace)
        self._recent: float | None = None

    def update(self, value: float) -> tuple[float, float] | None:
        """Add a value; the mean before and after when it shows a change."""
        before = self._adwin.estimation
        self._recent = value if self._recent is None else self._recent + RECENT * (value - self._recent)
        self._adwin.update(value)
        if not self._adwin.drift_detected:
            return None
        after = self._recent
        self._begin()
        return before, after


class Rate:
    """Page-Hinkley over yes and no: the rate is learned first, then a sum of too many or too few beyond half of it is a change."""

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._begin()

    def _begin(self) -> None:
        self._yes = self._all = 0
        self._watch: drift.PageHinkley | None = None
        self._recent = 0.0

    def update(self, yes: bool) -> tuple[float, float] | None:
        """Add an answer; the rate before and the recent one when it shows a change."""
        grace = self._settings.grace
        rate = self._yes / self._all if self._all else 0.0
        self._recent += RECENT * (yes - self._recent)
        self._yes += yes
        self._all += 1
        if self._watch is None:
            if self._all == grace:
                tolerated = 0.5 * max(self._yes, 1) / grace
                self._watch = drift.PageHinkley(
                    delta=tolerated, threshold=self._settings.alerts, min_instances=grace, alpha=1.0, mode="both"
                )
            return None
        self._watch.update(float(yes))
        if not self._watch.drift_detected:
            return None
        after = self._recent
        self._begin()
        return rate, after


class DriftWatch:
    """Watches the scored examples of a stream."""

    def __init__(self, schema: Schema, settings: DriftSettings = DriftSettings()) -> None:  # noqa: B008  # frozen
        self._fields = schema.fields
        self._score = Means(settings)
        self._alerts = Rate(settings)
        self._values = {f.name: Means(settings) for f in schema.fields if f.kind != "category"}
        self._missing = {f.name: Means(settings) for f in schema.fields}
        self._examples = 0

    def update(self, features: Mapping[str, FeatureValue], log_odds: float, alert: bool) -> list[Drift]:
        """Take a scored example in, and say what has changed. About 1 us for each feature."""
        self._examples += 1
        found: list[Drift] = []
        self._say(found, "score", "adwin", self._score.update(log_odds))
        self._say(found, "alert_rate", "page_hinkley", self._alerts.update(alert))
        for field in self._fields:
            value = features.get(field.name)
            self._say(found, f"missing:{field.name}", "adwin", self._missing[field.name].update(float(value is None)))
            if value is not None and not isinstance(value, str) and isfinite(value):
                shown = log1p(value) if field.log and value >= 0 else float(value)
                self._say(found, f"feature:{field.name}", "adwin", self._values[field.name].update(shown))
        return found

    def _say(self, found: list[Drift], name: str, detector: Detector, change: tuple[float, float] | None) -> None:
        if change is not None:
            before, after = change
            found.append(Drift(name, detector, "up" if after > before else "down", after - before, before, after, self._examples))
