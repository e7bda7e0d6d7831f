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
    alert_rate: float = 1e-3  # Page-Hinkley: a rise or fall of the rate by less than this is none
    alerts: float = 8.0  # and this many alerts too many (or too few) in sum is one


class Drift(msgspec.Struct, frozen=True):
    """A change: of what (``score``, ``alert_rate``, ``feature:NAME``, ``missing:NAME``), which way, how much, and from what mean.

    ``magnitude`` is the new mean minus the old one, in the unit watched: log-odds, alerts per example, the feature's own unit (after
    ln(1 + x) for one that spans orders of magnitude), or share.
    """

    name: str
    detector: Detector
    direction: Literal["up", "down"]
    magnitude: float
    before: float
    after: float
    example: int  # the how-manieth example showed it


class Means:
    """ADWIN over one number: reports the mean it forgot and the mean it kept."""

    def __init__(self, settings: DriftSettings) -> None:
        self._adwin = drift.ADWIN(delta=settings.delta, grace_period=settings.grace)

    def update(self, value: float) -> tuple[float, float] | None:
        """Add a value; the mean before and after when it shows a change."""
        width, total = self._adwin.width, self._adwin.total
        self._adwin.update(value)
        if not self._adwin.drift_detected:
            return None
        kept, kept_total = self._adwin.width, self._adwin.total
        forgotten = width + 1 - kept
        if forgotten <= 0:
            return None
        before, after = (total + value - kept_total) / forgotten, kept_total / kept
        return (before, after) if before != after else None


class Rate:
    """Page-Hinkley over yes and no, both ways, with the rate since it last fired."""

    def __init__(self, settings: DriftSettings) -> None:
        self._watch = drift.PageHinkley(delta=settings.alert_rate, threshold=settings.alerts, min_instances=settings.grace, mode="both")
        self._yes = self._all = 0
        self._recent: float | None = None

    def update(self, yes: bool) -> tuple[float, float] | None:
        """Add an answer; the rate before and the recent one when it shows a change."""
        self._yes += yes
        self._all += 1
        self._recent = float(yes) if self._recent is None else self._recent + 0.01 * (yes - self._recent)
        self._watch.update(float(yes))
        if not self._watch.drift_detected:
            return None
        before, after = self._yes / self._all, self._recent
        self._yes = self._all = 0
        return (before, after) if before != after else None


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
