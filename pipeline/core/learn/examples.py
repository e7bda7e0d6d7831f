"""What is there to learn from a verdict? Features of the decision's time, a label, and how much it counts.

A later verdict replaces an earlier one. What was learned cannot be taken out again: a gradient step depends on all steps after it, and a
tree has split on what it saw. Learning the opposite of a wrong label would be worse, since it teaches a label nobody gave. So the
correction is learned with the weight of the new verdict *plus* that of the one it replaces (``correction``): at the same features the
two then pull against each other evenly as far as the mistake goes, and the new verdict tips the scale. That is exact in the fitted loss
up to the noise of the pair; a learner rebuilt from the log (``settled``) sees the last verdicts only, and is exact.
"""

from collections.abc import Iterable

import msgspec

from pipeline.core.labels import LABELS, SUSPICION, TRUST, sampled, weight_of
from pipeline.core.learn.prediction import Learner
from pipeline.core.outcome import MOST_WEIGHT, Example, Replaced

__all__ = [
    "LABELS",
    "MOST_WEIGHT",
    "SUSPICION",
    "TRUST",
    "Example",
    "Replaced",
    "correction",
    "learn_example",
    "sampled",
    "settled",
    "weight_of",
]


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
