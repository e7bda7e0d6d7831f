"""How good are scores, once the truth is known? The field's measures over (score, label) pairs; exact, ties counted as ties."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby, pairwise
from math import isnan, nan


def _steps(scores: Sequence[float], labels: Sequence[bool]) -> list[tuple[int, int]]:
    """Frauds and others at each distinct score, highest first. Raises ValueError on a score that is not a number."""
    if len(scores) != len(labels):
        raise ValueError("one label for each score")
    if any(map(isnan, scores)):
        raise ValueError("a score is not a number")
    ordered = sorted(zip(scores, labels, strict=True), key=lambda pair: -pair[0])
    steps = []
    for _, tied in groupby(ordered, key=lambda pair: pair[0]):
        truths = [label for _, label in tied]
        steps.append((sum(truths), len(truths) - sum(truths)))
    return steps


def average_precision(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """The area under the precision-recall steps (no interpolation); NaN without a fraud.

    >>> average_precision([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    0.8333333333333333
    """
    frauds = sum(labels)
    if not frauds:
        return nan
    area, hit, said = 0.0, 0, 0
    for yes, no in _steps(scores, labels):
        hit += yes
        said += yes + no
        area += yes / frauds * (hit / said)
    return area


def roc_auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """The chance that a fraud scores above another, ties counting half; NaN without one of each.

    >>> roc_auc([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
    0.875
    """
    frauds = sum(labels)
    others = len(labels) - frauds
    if not frauds or not others:
        return nan
    area, below = 0.0, others
    for yes, no in _steps(scores, labels):
        below -= no
        area += yes * (below + no / 2)
    return area / frauds / others


def recall_at(scores: Sequence[float], labels: Sequence[bool], false_positive_rate: float) -> float:
    """The share of frauds above the lowest threshold whose share of false alarms is at most this; NaN without one of each."""
    frauds = sum(labels)
    others = len(labels) - frauds
    if not frauds or not others:
        return nan
    hit = wrong = 0
    for yes, no in _steps(scores, labels):
        wrong += no
        if wrong > false_positive_rate * others:
            break
        hit += yes
    return hit / frauds


def card_precision(days: Iterable[Sequence[tuple[Hashable, float, bool]]], k: int) -> float:
    """Of the ``k`` cards with the highest score each day, the share that was compromised, averaged over the days.

    A day is (card, score, label) of its transactions; a card that was found is not looked at again (Le Borgne et al., "Reproducible
    machine learning for credit card fraud detection", chapter 4). Ties go to the card seen first that day.
    """
    found: set[Hashable] = set()
    shares = []
    for day in days:
        best: dict[Hashable, float] = {}
        compromised: set[Hashable] = set()
        for card, score, label in day:
            if card in found:
                continue
            best[card] = max(score, best.get(card, score))
            if label:
                compromised.add(card)
        hits = {card for card in sorted(best, key=lambda card: -best[card])[:k] if card in compromised}
        found |= hits
        shares.append(len(hits) / k)
    return sum(shares) / len(shares) if shares else nan


def brier(probabilities: Sequence[float], labels: Sequence[bool]) -> float:
    """The mean squared distance of the probability from the truth; NaN without examples."""
    if not probabilities:
        return nan
    return sum((p - y) ** 2 for p, y in zip(probabilities, labels, strict=True)) / len(probabilities)


def reliability(probabilities: Sequence[float], labels: Sequence[bool], bins: int = 20) -> list[tuple[float, float, int]]:
    """Mean probability, share of frauds and number of examples, in bins of equal number from the least to the most probable."""
    ordered = sorted(zip(probabilities, labels, strict=True))
    edges = [round(i * len(ordered) / bins) for i in range(bins + 1)]
    out = []
    for low, high in pairwise(edges):
        part = ordered[low:high]
        if part:
            out.append((sum(p for p, _ in part) / len(part), sum(y for _, y in part) / len(part), len(part)))
    return out


def calibration_error(probabilities: Sequence[float], labels: Sequence[bool], bins: int = 20) -> float:
    """Expected calibration error (ECE): the mean distance of probability and truth over bins of equal number; NaN without examples."""
    rows = reliability(probabilities, labels, bins)
    return sum(abs(p - y) * n for p, y, n in rows) / sum(n for _, _, n in rows) if rows else nan
