"""Do the measures measure? Against their definitions, computed the slow way."""

from itertools import product
from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.learn.measures import average_precision, brier, calibration_error, card_precision, recall_at, reliability, roc_auc

scored = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=40)


@given(scored)
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[float, bool]]) -> None:
    frauds = [s for s, y in pairs if y]
    others = [s for s, y in pairs if not y]
    value = roc_auc([s for s, _ in pairs], [y for _, y in pairs])
    if not frauds or not others:
        assert isnan(value)
    else:
        wins = sum((a > b) + (a == b) / 2 for a, b in product(frauds, others))
        assert value == pytest.approx(wins / len(frauds) / len(others))


@given(scored)
def test_average_precision_sums_precision_over_recall(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    value = average_precision(scores, labels)
    if not any(labels):
        assert isnan(value)
        return
    area = before = 0.0
    for threshold in sorted(set(scores), reverse=True):
        hit = [y for s, y in pairs if s >= threshold]
        recall = sum(hit) / sum(labels)
        area += (recall - before) * sum(hit) / len(hit)
        before = recall
    assert value == pytest.approx(area)


@given(scored, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_recall_at_a_rate_of_false_alarms(pairs: list[tuple[float, bool]], rate: float) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    frauds, others = sum(labels), len(labels) - sum(labels)
    value = recall_at(scores, labels, rate)
    if not frauds or not others:
        assert isnan(value)
        return
    allowed = [
        sum(y for s, y in pairs if s >= t) / frauds
        for t in {*scores, 2.0}
        if sum(not y for s, y in pairs if s >= t) <= rate * others
    ]  # fmt: skip
    assert value == pytest.approx(max(allowed))


def test_a_card_that_was_found_is_not_looked_at_again() -> None:
    monday = [("a", 0.9, True), ("b", 0.8, False), ("c", 0.1, True)]
    tuesday = [("a", 0.99, True), ("c", 0.7, True), ("c", 0.1, False), ("d", 0.2, False)]
    assert card_precision([monday], 2) == 0.5
    assert card_precision([monday, tuesday], 2) == 0.5  # on Tuesday c and d are looked at, not a again
    assert isnan(card_precision([], 2))


def test_brier_and_calibration() -> None:
    assert brier([0.0, 1.0, 0.5], [False, True, True]) == pytest.approx(0.25 / 3)
    right = [0.25] * 4 + [0.75] * 4
    truth = [True, False, False, False, True, True, True, False]
    assert calibration_error(right, truth, bins=2) == pytest.approx(0.0)
    assert calibration_error([p + 0.1 for p in right], truth, bins=2) == pytest.approx(0.1)
    assert reliability(right, truth, bins=2) == [(0.25, 0.25, 4), (0.75, 0.75, 4)]
    assert isnan(brier([], []))
    assert isnan(calibration_error([], []))


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        average_precision([float("nan"), 0.5], [True, False])
    with pytest.raises(ValueError, match="one label"):
        roc_auc([0.5], [True, False])
