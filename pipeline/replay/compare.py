"""Which model would have served better? Champion and challengers on the same labelled decisions, side by side; pure.

The unit is one labelled decision with its last verdict. Rates weigh each example by what it stands for, so that sampled negatives count
as the population they were taken from. Frauds that nobody reported are in nobody's figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import log

import msgspec

from pipeline.core import rules as rules_module
from pipeline.core.features import Features
from pipeline.core.learn.examples import settled
from pipeline.core.model import Scoring
from pipeline.core.outcome import Example
from pipeline.core.policy import Policy

AS_DECIDED = "as decided"  # what was said at the time, by whatever was in force
LEAST_P = 1e-6
_HEAD = "{:14} {:>8} {:>9} {:>13} {:>10} {:>10} {:>9} {:>11}"


class Compared(msgspec.Struct, frozen=True):
    """One model: what it would have caught and said at ``threshold``, and how it ranks and calibrates.

    ``recall_at_rate``: the share of frauds above ``threshold_at_rate``, the lowest one whose weighted false alarms are within the rate.
    ``expected``: the weighted mean probability, beside the weighted share of frauds (``share``).
    """

    model_id: str
    frauds: int
    benign: int
    threshold: float
    recall: float
    precision: float | None
    false_alarm_rate: float
    recall_at_rate: float
    threshold_at_rate: float
    log_loss: float
    expected: float
    share: float


def unlearned(examples: Iterable[tuple[int, Example]], through: int) -> list[Example]:
    """The examples, given with their offsets, that a model which has learned up to offset ``through`` has seen nothing of.

    One that corrects an earlier label is left out unless that label is here too, and not learned: its features may have been learned.
    """
    later: dict[str, list[Example]] = {}
    learned: set[str] = set()
    for offset, example in examples:
        if offset < through:
            learned.add(example.example_id)
        else:
            later.setdefault(example.example_id, []).append(example)
    whole = (found for name, found in later.items() if name not in learned and any(e.replaces is None for e in found))
    return [example for found in whole for example in found]


def compare(examples: Iterable[Example], models: Mapping[str, Scoring], policy: Policy, threshold: float, rate: float) -> list[Compared]:
    """Compare the models, and what was said at the time. Raises ValueError without a fraud or without a benign example."""
    last = settled(examples)
    labels, weights = [e.label for e in last], [e.weight for e in last]
    if not any(labels) or all(labels):
        raise ValueError(f"{len(last)} examples, {sum(labels)} of them frauds: there must be some of both kinds")
    scores: dict[str, list[float]] = {AS_DECIDED: [e.probability if e.probability is not None else 0.0 for e in last]}
    for name in models:
        scores[name] = []
    for example in last:
        features = msgspec.convert(example.features, Features)
        hits = rules_module.hits(features, policy)
        for name, model in models.items():
            scores[name].append(model.score(features, hits).probability)
    return [_measured(name, found, labels, weights, threshold, rate) for name, found in scores.items()]


def _measured(
    name: str, scores: Sequence[float], labels: Sequence[bool], weights: Sequence[float], threshold: float, rate: float
) -> Compared:
    rows = list(zip(scores, labels, weights, strict=True))
    of_fraud = sum(w for _, y, w in rows if y)
    of_benign = sum(w for _, y, w in rows if not y)
    caught = sum(w for s, y, w in rows if y and s >= threshold)
    wrong = sum(w for s, y, w in rows if not y and s >= threshold)
    at_rate = _within(rows, rate * of_benign)
    loss = sum(w * -log(max(s if y else 1 - s, LEAST_P)) for s, y, w in rows) / (of_fraud + of_benign)
    return Compared(
        model_id=name,
        frauds=sum(labels),
        benign=len(labels) - sum(labels),
        threshold=threshold,
        recall=caught / of_fraud,
        precision=caught / (caught + wrong) if caught + wrong else None,
        false_alarm_rate=wrong / of_benign,
        recall_at_rate=sum(w for s, y, w in rows if y and s >= at_rate) / of_fraud,
        threshold_at_rate=at_rate,
        log_loss=loss,
        expected=sum(w * s for s, _, w in rows) / (of_fraud + of_benign),
        share=of_fraud / (of_fraud + of_benign),
    )


def _within(rows: Sequence[tuple[float, bool, float]], most: float) -> float:
    """The lowest threshold above which benign examples weigh at most so much; just above the highest score where none does."""
    found, wrong = 1.0, 0.0
    ordered = sorted(rows, key=lambda r: -r[0])
    at = 0
    while at < len(ordered):
        score, tied = ordered[at][0], at
        while tied < len(ordered) and ordered[tied][0] == score:
            wrong += 0.0 if ordered[tied][1] else ordered[tied][2]
            tied += 1
        if wrong > most:
            return found
        found, at = score, tied
    return found


def table(compared: Sequence[Compared], rate: float) -> list[str]:
    """The comparison for a terminal."""
    first = compared[0]
    lines = [
        f"examples      {first.frauds} frauds, {first.benign} benign; {1e4 * first.share:.1f} frauds per 10,000 of what they stand for",
        "",
        _HEAD.format("model", "recall", "precision", "false alarms", "recall at", "threshold", "log loss", "expected"),
        _HEAD.format("", f"at {first.threshold:.3g}", "", "per 10,000", f"{rate:g}", "for that", "", "per 10,000"),
    ]
    for c in compared:
        precision = "-" if c.precision is None else f"{100 * c.precision:.1f} %"
        lines.append(
            _HEAD.format(
                c.model_id, f"{100 * c.recall:.1f} %", precision, f"{1e4 * c.false_alarm_rate:.2f}", f"{100 * c.recall_at_rate:.1f} %",
                f"{c.threshold_at_rate:.3g}", f"{c.log_loss:.4f}", f"{1e4 * c.expected:.1f}",
            )
        )  # fmt: skip
    return lines
