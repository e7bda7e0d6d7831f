"""Does the scorer in the hot path say what the blend says, whose members are River's? On any features, and whatever each member weighs."""

from functools import cache
from math import fsum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from worlds import SCHEMA, blend, features, world

from pipeline.core.learn.blend import Blend
from pipeline.core.learn.blend_scorer import BlendScorer, raw_threshold
from pipeline.core.learn.prediction import Prediction, bounded, sigmoid
from pipeline.core.learn.schema import CUT, FeatureValue, Spread, standardise
from pipeline.core.learn.stack import ANOMALY, KNOWN
from pipeline.core.learn.states import BlendState
from tests.examples import examples

NAMES = (*(field.name for field in SCHEMA.fields), "nobody_knows")
Weights = tuple[float, float, float, float]  # of the linear model, the forest, the anomaly score, and what people know
WEIGHTS: list[Weights] = [(0.7, 0.4, 1.3, 0.9), (-0.2, 0.6, -0.8, 1.0), (0.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0)]


@cache
def grown(weights: Weights, times: float = 1.0) -> BlendState:
    """A blend that has learned, whose stack weighs its members so; its linear weights are ``times`` what they were."""
    learner = blend()
    for x, y in world(1, 1500):
        learner.learn(x, y)
    state = learner.state()
    assert state.anomaly.ready
    assert any(len(m.tree.nodes) > 3 for m in state.forest.members)
    logistic = replace(state.linear.logistic, weights=tuple(times * w for w in state.linear.logistic.weights))
    return replace(state, stack=replace(state.stack, weights=weights), linear=replace(state.linear, logistic=logistic))


@cache
def both(weights: Weights, times: float = 1.0) -> tuple[Blend, BlendScorer]:
    return Blend(grown(weights, times)), BlendScorer(grown(weights, times))


def by_its_members(blend: Blend, x: dict[str, FeatureValue]) -> float:
    """The log-odds as the blend makes them of what its members say."""
    row = blend.encoder.row(x)
    scaled = blend.encoder.scaled(row)
    inputs = {
        "linear": bounded(blend.linear.logistic.log_odds(scaled)),
        "forest": bounded(blend.forest.log_odds(row)),
        ANOMALY: blend.unusual.standard(blend.anomaly.score_row(row, scaled)),
        KNOWN: bounded(float(x.get(KNOWN, 0.0))),
    }
    return blend.stack.log_odds(inputs)


def adds_up(p: Prediction) -> bool:
    return p.log_odds == pytest.approx(p.bias + fsum(p.contributions.values()), abs=1e-9) and p.probability == sigmoid(p.log_odds)


def near_what_it_knows() -> st.SearchStrategy[dict[str, FeatureValue]]:
    """Features as in the world the blend has learned: there the tests of the trees stand close together."""
    return st.builds(lambda seed: world(seed, 1)[0][0], st.integers(0, 10_000))


@pytest.mark.parametrize("weights", WEIGHTS)
@settings(max_examples=examples(150), deadline=None)
@given(x=features() | near_what_it_knows(), people=st.none() | st.floats(-40, 40))
def test_it_says_what_the_blend_says(weights: Weights, x: dict[str, FeatureValue], people: float | None) -> None:
    learner, scorer = both(weights)
    known = x if people is None else {**x, KNOWN: people}
    said = scorer.predict(known)
    assert said.log_odds == pytest.approx(by_its_members(learner, known), abs=1e-8)
    log_odds, predict = scorer.over((*reversed(NAMES), KNOWN))([*[x.get(name) for name in reversed(NAMES)], people])
    assert (log_odds, predict()) == (said.log_odds, said)
    assert scorer.predict(dict(reversed(known.items()))) == said
    assert adds_up(said)


@settings(max_examples=examples(100), deadline=None)
@given(x=features())
def test_a_member_beyond_its_bounds_is_brought_within_with_all_that_contributes_to_it(x: dict[str, FeatureValue]) -> None:
    weights = (0.7, 0.4, 1.3, 0.9)
    learner, scorer = both(weights, 1000.0)
    said = scorer.predict(x)
    assert said.log_odds == pytest.approx(by_its_members(learner, x), abs=1e-8)
    assert adds_up(said)


def test_before_the_first_window_of_the_anomaly_score_is_complete_it_says_nothing() -> None:
    learner = blend()
    for x, y in world(1, 50):
        learner.learn(x, y)
    state = replace(learner.state(), stack=replace(learner.state().stack, weights=(1.0, 1.0, 1.0, 1.0)))
    assert not state.anomaly.ready
    assert all(ANOMALY not in BlendScorer(state).predict(x).contributions for x, _ in world(2, 50))


@given(
    threshold=st.floats(0.0, 1.0),
    value=st.floats(-1e6, 1e6),
    mean=st.floats(-100, 100),
    variance=st.just(0.0) | st.floats(1e-3, 1e3),
)
def test_a_test_in_the_unit_cube_and_the_one_of_the_number_go_the_same_way(
    threshold: float, value: float, mean: float, variance: float
) -> None:
    z = standardise(value, mean, variance)
    squashed = 0.5 + 0.5 * z / (1.0 + abs(z))
    if abs(squashed - threshold) > 1e-12:  # at the border itself rounding decides
        assert (value < raw_threshold(threshold, Spread(9, mean, variance))) == (squashed < threshold)


@pytest.mark.parametrize(("threshold", "says"), [(0.0, False), (0.05, False), (0.95, True), (1.0, True)])
def test_a_test_that_no_number_can_reach_goes_one_way(threshold: float, says: bool) -> None:
    bound = raw_threshold(threshold, Spread(9, 0.0, 1.0))
    assert all((z < bound) is says for z in (-1e12, -CUT, 0.0, CUT, 1e12))
