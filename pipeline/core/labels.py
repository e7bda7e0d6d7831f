"""What is a verdict worth? Which label it gives, and how far its source is trusted; the values that detect, learn and tests share."""

from collections.abc import Mapping

from pipeline.core.events import DispositionSource, Verdict
from pipeline.core.outcome import MOST_WEIGHT

LABELS: dict[Verdict, bool] = {"true_positive": True, "suspicious": True, "false_positive": False, "benign": False}  # others teach nothing
TRUST: dict[DispositionSource, float] = {  # what a verdict of this source is worth
    "chargeback": 1.0,
    "customer": 0.9,  # customers also deny what they did themselves
    "analyst": 0.95,  # 2 to 5 % of analysts' labels are wrong (domain.md)
    "automatic": 0.3,  # a rule that closes cases repeats itself
}
SUSPICION = 0.5  # "suspicious" is half a verdict


def weight_of(verdict: Verdict, source: DispositionSource, trust: Mapping[DispositionSource, float] | None = None) -> float | None:
    """What a verdict weighs; None when it teaches nothing (a test, a duplicate, no data)."""
    if verdict not in LABELS:
        return None
    return (TRUST if trust is None else trust)[source] * (SUSPICION if verdict == "suspicious" else 1.0)


def sampled(weight: float, probability: float) -> float:
    """The weight of an example that was taken with a known probability. Raises ValueError unless that is in (0, 1]."""
    if not 0.0 < probability <= 1.0:
        raise ValueError("a probability of sampling is above 0 and at most 1")
    return min(MOST_WEIGHT, weight / probability)
