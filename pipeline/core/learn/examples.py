"""What is there to learn from a verdict? Features of the decision's time, a label, and how much it counts.

A later verdict replaces an earlier one. What was learned cannot be taken out again: a gradient step depends on all steps after it, and a
tree has split on what it saw. Learning the opposite of a wrong label would be worse, since it teaches a label nobody gave. So the
correction is learned with the weight of the new verdict *plus* that of the one it replaces (``correction``): at the same features the
two then pull against each other evenly as far as the mistake goes, and the new verdict tips the scale. That is exact in the fitted loss
up to the noise of the pair; a learner rebuilt from the log (``settled``) sees the last verdicts only, and is exact.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.events import DispositionSource, Ms, Verdict
from pipeline.core.learn.prediction import Learner
from pipeline.core.outcome import FeatureValue

MOST_WEIGHT = 10_000.0  # one example never stands for more: 1/p of the rarest sampling that is sensible
LABELS: dict[Verdict, bool] = {"true_positive": True, "suspicious": True, "false_positive": False, "benign": False}  # others teach nothing
TRUST: dict[DispositionSource, float] = {  # what a verdict of this source is worth
    "chargeback": 1.0,
    "customer": 0.9,  # customers also deny what they did themselves
    "analyst": 0.95,  # 2 to 5 % of analysts' labels are wrong (domain.md)
    "automatic": 0.3,  # a rule that closes cases repeats itself
}
SUSPICION = 0.5  # "suspicious" is half a verdict

Weight = Annotated[float, Meta(gt=0, le=MOST_WEIGHT)]


class Replaced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the same example taught before."""

    label: bool
    weight: Weight


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One lesson. ``example_id`` is that of the decision; ``time`` when the label came; ``weight``: 1/p of the sampling times trust."""

    example_id: str
    time: Ms
    features: dict[str, FeatureValue]
    label: bool
    weight: Weight
    replaces: Replaced | None = None


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


def correction(example: Example) -> float:
    """The weight to learn an example with now: its own, and if it corrects a label that was learned, that of the mistake too.

    The same label again adds only what it is worth more than before; 0 when that is nothing.
    """
    before = example.replaces
    if before is None:
        return example.weight
    if before.label == example.label:
        return max(0.0, example.weight - before.weight)
    return min(MOST_WEIGHT, example.weight + before.weight)


def learn_example(learner: Learner, example: Example) -> bool:
    """Learn an example; False when it adds nothing to what was learned of it. Raises ValueError on features of the wrong kind."""
    weight = correction(example)
    if weight <= 0.0:
        return False
    learner.learn(example.features, example.label, weight)
    return True


def settled(examples: Iterable[Example]) -> list[Example]:
    """The last verdict on each example, in the order in which those came: what a learner is rebuilt from."""
    last: dict[str, Example] = {}
    for example in examples:
        last.pop(example.example_id, None)
        last[example.example_id] = example
    return [msgspec.structs.replace(e, replaces=None) for e in last.values()]
