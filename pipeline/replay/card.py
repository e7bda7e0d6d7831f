"""What does an evaluation say? The figures of one view of a log, as values; how they are counted is in pipeline.replay.scorecard."""

from typing import Literal

import msgspec

from pipeline.core.outcome import FeatureValue


class Scored(msgspec.Struct, frozen=True):
    """What the truth and a run say of one challenge. Instants in ms; ``alerted_at``: the first alert, if any."""

    account_id: str
    otp_id: str
    label: Literal["takeover", "attempt", "benign"]
    story: str
    has_call: bool
    score: float
    alerted_at: int | None
    entered_at: int | None
    features: dict[str, FeatureValue]


class Rate(msgspec.Struct, frozen=True):
    """A share with its 95 % Wilson interval."""

    hits: int
    n: int
    share: float
    low: float
    high: float


class AtRate(msgspec.Struct, frozen=True):
    """Recall at a false-positive rate. ``resolved``: are there benign challenges enough to see such a rate at all?"""

    false_positive_rate: float
    by_challenge: float
    by_account: float
    resolved: bool


class AtBudget(msgspec.Struct, frozen=True):
    """What so many alerts per million codes catch at the prior; ceilings are those of a perfect detector."""

    alerts_per_million: int
    recall: float
    recall_ceiling: float
    precision: float
    precision_ceiling: float


class Lead(msgspec.Struct, frozen=True):
    """Shares of all takeovers alerted before the entry, at most 1 s after it, at most 10 s after it; ``seconds``: of each, from entry."""

    before_entry: Rate
    within_1s: Rate
    within_10s: Rate
    seconds: tuple[float, ...]


class Pair(msgspec.Struct, frozen=True):
    """An attack beside what looks like it: the chance that it scores higher, and the share of each that is alerted."""

    attack: str
    lookalike: str
    auc: float | None
    attacks: Rate
    lookalikes: Rate


class Segment(msgspec.Struct, frozen=True):
    """False alarms among the benign challenges that have something in common."""

    name: str
    value: str
    rate: Rate


class Calibration(msgspec.Struct, frozen=True):
    """Probability against truth once the prior of the log is put in place of the model's: bins of (mean, share, challenges)."""

    prior: float
    brier: float
    error: float
    bins: tuple[tuple[float, float, int], ...]


class Interval(msgspec.Struct, frozen=True):
    """A mean over seeds with its 95 % interval (Student's t); None for the bounds of a single seed."""

    mean: float
    low: float | None
    high: float | None


class Scorecard(msgspec.Struct, frozen=True):
    """All of it, for one view."""

    takeovers: int
    attempts: int
    benign: int
    caught: Rate
    caught_with_call: Rate
    before_entry_with_call: Rate
    false_alarms: Rate
    false_alarms_plain: Rate
    average_precision: float
    auc: float
    at_rates: tuple[AtRate, ...]
    prior: float
    at_budgets: tuple[AtBudget, ...]
    lead: Lead
    stories: dict[str, Rate]
    pairs: tuple[Pair, ...]
    segments: tuple[Segment, ...]
    calibration: Calibration
    curve: tuple[tuple[float, float], ...]  # false-positive rate, recall
    seeds: dict[str, Interval]
