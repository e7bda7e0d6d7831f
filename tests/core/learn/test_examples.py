"""What does a verdict teach, and what does the next one make of it?"""

from statistics import mean
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import FRESH, linear, world

from pipeline.core.events import DispositionSource, Verdict
from pipeline.core.learn.chance import Chance
from pipeline.core.learn.examples import (
    LABELS,
    MOST_WEIGHT,
    TRUST,
    Example,
    Replaced,
    correction,
    learn_example,
    sampled,
    settled,
    weight_of,
)
from pipeline.core.learn.measures import roc_auc


def example(label: bool, weight: float = 1.0, replaces: Replaced | None = None, name: str = "d1") -> Example:
    return Example(example_id=name, time=0, features={"share": 6.0}, label=label, weight=weight, replaces=replaces)


def test_every_source_is_trusted_and_some_verdicts_teach_nothing() -> None:
    assert set(TRUST) == set(get_args(DispositionSource))
    assert set(LABELS) < set(get_args(Verdict))
    assert weight_of("true_positive", "chargeback") == 1.0
    assert weight_of("suspicious", "analyst") == pytest.approx(0.475)
    assert weight_of("duplicate", "analyst") is None
    assert weight_of("benign", "analyst", {"analyst": 0.2, "customer": 0.0, "chargeback": 0.0, "automatic": 0.0}) == 0.2


def test_a_sampled_example_stands_for_the_others() -> None:
    assert sampled(1.0, 0.01) == pytest.approx(100.0)
    assert sampled(1.0, 1e-9) == MOST_WEIGHT
    for p in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="probability"):
            sampled(1.0, p)


def test_a_correction_weighs_what_it_corrects_and_a_confirmation_only_the_rest() -> None:
    assert correction(example(True, 0.9)) == 0.9
    assert correction(example(True, 0.9, Replaced(False, 0.5))) == pytest.approx(1.4)
    assert correction(example(True, 0.9, Replaced(True, 0.5))) == pytest.approx(0.4)
    assert correction(example(True, 0.5, Replaced(True, 0.9))) == 0.0
    learner = linear()
    before = learner.state()
    assert not learn_example(learner, example(True, 0.5, Replaced(True, 0.9)))
    assert learner.state() == before
    assert learn_example(learner, example(True, 0.5))
    assert learner.state() != before


@pytest.mark.parametrize("kind", sorted(FRESH))
def test_corrected_labels_end_near_the_right_ones(kind: str) -> None:
    """A quarter of the frauds are first called benign. Corrected later, the model scores frauds nearly as if it had been told at once."""
    told, misled, corrected = FRESH[kind](), FRESH[kind](), FRESH[kind]()
    mistakes = []
    for i, (x, y) in enumerate(world(20, 1200)):
        wrong = y and i % 4 == 0
        told.learn(x, y)
        misled.learn(x, y and not wrong)
        corrected.learn(x, y and not wrong)
        if wrong:
            mistakes.append((i + 100, x))
        while mistakes and mistakes[0][0] <= i:
            late = mistakes.pop(0)[1]
            learn_example(corrected, Example(example_id="x", time=0, features=late, label=True, weight=1.0, replaces=Replaced(False, 1.0)))
    test = world(21, 600)

    def of_frauds(learner: object) -> float:
        scorer = learner.scorer()  # type: ignore[attr-defined]
        return mean(scorer.predict(x).log_odds for x, y in test if y)

    right = of_frauds(told)
    assert abs(of_frauds(corrected) - right) < abs(of_frauds(misled) - right)
    scorer = corrected.scorer()
    assert roc_auc([scorer.predict(x).probability for x, _ in test], [y for _, y in test]) > 0.92


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([0.3, 1.0])), max_size=12))
def test_what_is_rebuilt_knows_the_last_verdicts_only(said: list[tuple[str, bool, float]]) -> None:
    examples, last = [], {}
    for name, label, weight in said:
        before = last.get(name)
        examples.append(example(label, weight, Replaced(*before) if before else None, name))
        last[name] = (label, weight)
    rebuilt = settled(examples)
    assert {e.example_id: (e.label, e.weight) for e in rebuilt} == last
    assert all(e.replaces is None for e in rebuilt)
    order = [max(i for i, (name, _, _) in enumerate(said) if name == e.example_id) for e in rebuilt]
    assert order == sorted(order)


def test_the_dice_are_fair_and_their_state_is_one_number() -> None:
    dice = Chance(1)
    throws = [dice.poisson(1.0) for _ in range(20_000)]
    assert mean(throws) == pytest.approx(1.0, abs=0.03)
    assert throws.count(0) / len(throws) == pytest.approx(0.3679, abs=0.012)
    samples = [tuple(dice.sample(range(5), 2)) for _ in range(20_000)]
    assert all(a != b for a, b in samples)
    assert min(samples.count((a, b)) for a in range(5) for b in range(5) if a != b) > 850  # of 1,000 expected
    again = Chance(dice.state)
    assert [dice.random() for _ in range(5)] == [again.random() for _ in range(5)]
    assert Chance(0).bits() == 0xE220A8397B1DCDAF  # the reference implementation's first number
