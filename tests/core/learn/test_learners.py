"""Do the learners learn, add up, stay calibrated and stay small? Properties of every model that gives a probability."""

import subprocess
import sys
from functools import cache
from hashlib import sha256
from math import fsum, isfinite
from random import Random
from statistics import mean

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import BLEND, FOREST, FRESH, LINEAR, SCHEMA, blend, features, forest, linear, world

from pipeline.core.learn.blend import Blend
from pipeline.core.learn.encoder import Encoder
from pipeline.core.learn.forest import Forest, watch
from pipeline.core.learn.linear import Linear
from pipeline.core.learn.measures import calibration_error, roc_auc
from pipeline.core.learn.prediction import Prediction, Scorer, logit, sigmoid
from pipeline.core.learn.schema import FeatureValue
from pipeline.core.learn.states import Branch, ForestSettings
from tests.examples import examples

KINDS = sorted(FRESH)
AnyLearner = Linear | Forest | Blend


def taught(learner: AnyLearner, examples: list[tuple[dict[str, FeatureValue], bool]], weight: float = 1.0) -> AnyLearner:
    for x, y in examples:
        learner.learn(x, y, weight)
    return learner


@cache
def trained(kind: str) -> Scorer:
    return taught(FRESH[kind](), world(1, 1500)).scorer()


def said(scorer: Scorer, examples: list[tuple[dict[str, FeatureValue], bool]]) -> tuple[list[float], list[bool]]:
    return [scorer.predict(x).probability for x, _ in examples], [y for _, y in examples]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(60), deadline=None)
@given(x=features())
def test_contributions_add_up_to_the_log_odds(kind: str, x: dict[str, FeatureValue]) -> None:
    p = trained(kind).predict(x)
    assert p.log_odds == pytest.approx(p.bias + fsum(p.contributions.values()), abs=1e-9)
    assert p.probability == sigmoid(p.log_odds)
    assert all(isfinite(c) for c in p.contributions.values())
    assert set(p.contributions) <= {f.name for f in SCHEMA.fields} | {"anomaly"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_has_learned_nothing_says_little(kind: str) -> None:
    p = FRESH[kind]().scorer().predict({"share": 3.0})
    assert p.contributions == {}
    assert p.probability == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    assert roc_auc(*said(trained(kind), world(2, 1000))) > 0.93


@pytest.mark.parametrize("kind", KINDS)
def test_reasons_point_the_right_way(kind: str) -> None:
    """Averaged over frauds, what speaks for fraud in this world contributes more than it does over the rest; what is idle hardly any."""
    said_of = [(trained(kind).predict(x).contributions, y) for x, y in world(3, 1000)]

    def gap(name: str) -> float:
        return mean(c.get(name, 0.0) for c, y in said_of if y) - mean(c.get(name, 0.0) for c, y in said_of if not y)

    assert min(gap("share"), gap("delay_s"), gap("new_device"), gap("roaming")) > 0.2
    assert abs(gap("idle")) < 0.1
    assert gap("constant") == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_is_no_zero_and_no_mean(kind: str) -> None:
    """``roaming`` is missing for most frauds and few others: absence itself accuses."""
    ordinary: dict[str, FeatureValue] = {"delay_s": 20.0, "share": 5.5, "idle": 0.0, "new_device": False, "channel": "sms"}
    absent = trained(kind).predict(ordinary)
    present = trained(kind).predict({**ordinary, "roaming": False})
    assert absent.log_odds > present.log_odds + 0.5
    assert absent.contributions["roaming"] > present.contributions.get("roaming", 0.0)


def test_a_missing_number_leaves_its_column_neutral_and_says_so() -> None:
    encoder = Encoder(SCHEMA)
    for value in (10.0, 20.0, 30.0):
        encoder.learn({"share": value})
    row = encoder.row({})
    assert row["share"] == 20.0
    assert encoder.scaled(row)["share"] == 0.0
    assert row["share?"] == row["channel?"] == row["new_device?"] == 1.0
    zero = encoder.row({"share": 0, "new_device": False})
    assert (zero["share"], zero["share?"], zero["new_device"], zero["new_device?"]) == (0.0, 0.0, 0.0, 0.0)
    assert encoder.scaled(zero)["share"] < -2.0


def test_the_vocabulary_is_bounded() -> None:
    learner = linear()
    before = len(learner.state().logistic.weights)
    for i in range(50):
        learner.learn({"channel": f"word{i}", "new_feature": 1.0}, False)
    assert len(learner.state().logistic.weights) == before == len(SCHEMA.columns)
    assert learner.encoder.row({"channel": "pigeon"})["channel=other"] == 1.0


WRONG: list[dict[str, FeatureValue]] = [
    {"share": float("nan")},
    {"share": float("inf")},
    {"delay_s": float("-inf")},
    {"delay_s": 10**400},
    {"share": -(10**400)},
    {"share": "5"},
    {"new_device": 1},
    {"new_device": "yes"},
    {"channel": 3.0},
    {"channel": True},
    {"share": 5.0, "new_device": 1},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x", WRONG, ids=lambda x: str(x)[:40])
def test_a_value_that_is_none_is_refused_and_teaches_nothing(kind: str, x: dict[str, FeatureValue]) -> None:
    learner = FRESH[kind]()
    before = learner.state()
    with pytest.raises(ValueError, match="not a"):
        learner.learn(x, True)
    assert learner.state() == before
    with pytest.raises(ValueError, match="not a"):
        learner.scorer().predict(x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scorer_is_frozen(kind: str) -> None:
    learner = taught(FRESH[kind](), world(1, 400))
    scorer, x = learner.scorer(), world(2, 1)[0][0]
    before = scorer.predict(x)
    taught(learner, world(5, 400, flipped=True))
    assert scorer.predict(x) == before
    assert learner.scorer().predict(x) != before


def state_hash(kind: str) -> str:
    return sha256(msgspec.json.encode(taught(FRESH[kind](), world(4, 400)).state())).hexdigest()


def test_the_same_examples_make_the_same_bytes_in_any_process() -> None:
    """Another process has another seed for hashing strings, and so other orders of sets."""
    here = {kind: state_hash(kind) for kind in KINDS}
    code = "import test_learners as t, json; print(json.dumps({k: t.state_hash(k) for k in t.KINDS}))"
    path = ":".join(sys.path)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "99", "PYTHONPATH": path}
    )
    assert msgspec.json.decode(run.stdout) == here


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_examples(kind: str) -> None:
    """Of the benign, a quarter is learned, at weight 4: the probabilities are still those of the whole population."""
    r = Random(0)
    learner = FRESH[kind]()
    for x, y in world(6, 8000, prior=0.04):
        if y or r.random() < 0.25:
            learner.learn(x, y, 1.0 if y else 4.0)
    probabilities, labels = said(learner.scorer(), world(7, 2500, prior=0.04))
    share = mean(labels)
    assert mean(probabilities) == pytest.approx(share, rel=0.45 if kind == "forest" else 0.25)  # a forest's mean of log-odds is shy
    assert roc_auc(probabilities, labels) > 0.93


def test_a_blend_is_calibrated_better_than_its_forest() -> None:
    test = world(9, 3000, prior=0.05)
    error = {k: calibration_error(*said(taught(FRESH[k](), world(8, 6000, prior=0.05)).scorer(), test)) for k in ("forest", "blend")}
    assert error["blend"] < error["forest"]
    assert error["blend"] < 0.02


@settings(max_examples=examples(20), deadline=None)
@given(x=features(), prior=st.floats(1e-6, 0.5))
def test_a_known_prior_moves_every_score_alike(x: dict[str, FeatureValue], prior: float) -> None:
    learner = Blend(blend_state())
    before, held = learner.scorer().predict(x), learner.prior
    learner.assume_prior(prior)
    after = learner.scorer().predict(x)
    assert after.log_odds - before.log_odds == pytest.approx(logit(prior) - logit(held), abs=1e-6)
    assert after.contributions == before.contributions


@cache
def blend_state() -> object:
    return taught(blend(), world(1, 600)).state()


def test_probabilities_are_right_again_at_a_known_prior_at_once_and_at_an_unknown_one_soon() -> None:
    learner = taught(blend(), world(10, 2500, prior=0.2))
    rare = world(11, 2000, prior=0.02)
    told = Blend(learner.state())
    told.assume_prior(0.02)
    untold = calibration_error(*said(learner.scorer(), rare))
    assert calibration_error(*said(told.scorer(), rare)) < 0.4 * untold
    taught(learner, world(12, 2500, prior=0.02))
    assert calibration_error(*said(learner.scorer(), rare)) < 0.4 * untold


def test_a_forest_replaces_its_trees_when_the_world_turns_round() -> None:
    learner = taught(forest(), world(13, 1200))
    assert learner.replaced == 0
    turned = world(15, 1000, flipped=True)
    assert roc_auc(*said(learner.scorer(), turned)) < 0.2
    taught(learner, world(14, 3000, flipped=True))
    assert learner.replaced >= FOREST.trees
    assert roc_auc(*said(learner.scorer(), turned)) > 0.9


def test_a_healthy_tree_is_not_replaced_by_chance_and_a_sick_one_soon() -> None:
    """One example in twenty is a fraud and costs much: the sum of losses wanders, and must not be taken for drift."""
    r = Random(1)
    detector = watch(ForestSettings().drift)
    for _ in range(40_000):
        detector.update(r.expovariate(0.5) if r.random() < 0.05 else r.expovariate(20.0))
        assert not detector.drift_detected
    late = 0
    while not detector.drift_detected:
        detector.update(r.expovariate(0.5) if r.random() < 0.2 else r.expovariate(5.0))
        late += 1
    assert 50 < late < 1000


def test_trees_stay_within_their_bounds() -> None:
    learner = taught(forest(), world(16, 2500, prior=0.5))
    for member in learner.state().members:
        leaves = [n for n in member.tree.nodes if not isinstance(n, Branch)]
        assert 2 < len(leaves) <= FOREST.tree.most_leaves
    observation, tree = 120, FOREST.tree  # bytes of five numbers in full
    most = FOREST.trees * tree.most_leaves * 2 * (tree.columns_per_leaf * 2 * observation + 100)
    assert len(msgspec.json.encode(learner.state())) < most + 10_000


def test_an_anomaly_needs_no_label() -> None:
    from pipeline.core.learn.anomaly import Anomaly

    scorer = Anomaly.fresh(SCHEMA, BLEND.anomaly, seed=1)
    examples = world(18, 800, prior=0.0)
    assert scorer.score(examples[0][0]) is None
    for x, _ in examples:
        scorer.learn(x)
    usual = mean(scorer.score(x) or 0.0 for x, _ in world(19, 200, prior=0.0))
    strange: dict[str, FeatureValue] = {
        "delay_s": 1e6, "share": -40.0, "idle": 90.0, "new_device": True, "roaming": True, "channel": "voice"
    }  # fmt: skip
    assert (scorer.score(strange) or 0.0) > usual + 0.05


def test_settings_are_part_of_the_state() -> None:
    assert linear().state().logistic.settings == LINEAR
    assert forest().state().settings == FOREST


def test_a_prediction_is_a_value() -> None:
    x = world(2, 1)[0][0]
    assert isinstance(trained("linear").predict(x), Prediction)
    assert trained("linear").predict(x) == trained("linear").predict(x)
