"""Does a blend that is told what people know learn where they are wrong, soon, and nothing where they are right?"""

from math import fsum
from random import Random

import pytest
from worlds import SCHEMA

from pipeline.core.learn.blend import Blend
from pipeline.core.learn.linear import Linear
from pipeline.core.learn.logistic import Logistic
from pipeline.core.learn.schema import FeatureValue
from pipeline.core.learn.stack import KNOWN
from pipeline.core.learn.states import LogisticSettings, LogisticState
from pipeline.core.learn.student import SETTINGS

Row = dict[str, FeatureValue]
RIGHT, WRONG = 6.0, -6.0


def pupil() -> Blend:
    return Blend.fresh(SCHEMA, SETTINGS)


def day(rng: Random, frauds: int, benign: int, told: float) -> list[tuple[Row, bool]]:
    """Frauds, whose log-odds by people are ``told``, come from a new device by voice; the benign, at -6, seldom."""
    found: list[tuple[Row, bool]] = []
    for n in range(frauds + benign):
        fraud = n < frauds
        odd = rng.random() < (0.9 if fraud else 0.05)
        x: Row = {"share": rng.gauss(5, 1), "new_device": odd, "channel": "voice" if odd else "sms", KNOWN: told if fraud else -6.0}
        found.append((x, fraud))
    rng.shuffle(found)
    return found


def odd_one(told: float) -> Row:
    return {"share": 5.0, "new_device": True, "channel": "voice", KNOWN: told}


def log_odds(learner: Blend, x: Row) -> float:
    return learner.scorer().predict(x).log_odds


def test_it_begins_with_what_people_say() -> None:
    for told in (-12.0, 0.0, 4.0):
        said = pupil().scorer().predict(odd_one(told))
        assert said.log_odds == pytest.approx(told)
        assert said.contributions == ({KNOWN: told} if told else {})


def test_thirty_frauds_that_people_do_not_know_are_enough_to_see_the_next() -> None:
    rng, learner = Random(1), pupil()
    before = log_odds(learner, odd_one(WRONG))
    for x, y in day(rng, 30, 2000, WRONG):
        learner.learn(x, y)
    after, plain = (
        learner.scorer().predict(odd_one(WRONG)),
        learner.scorer().predict({"share": 5.0, "new_device": False, "channel": "sms", KNOWN: -6.0}),
    )
    assert after.log_odds > before + 3
    assert plain.log_odds < -4, "and nobody else is blamed for it"
    assert after.contributions["new_device"] > 0.5
    assert after.contributions["channel"] > 0.5
    assert after.log_odds == pytest.approx(after.bias + fsum(after.contributions.values()))


def test_where_people_are_right_it_learns_next_to_nothing() -> None:
    rng, right, wrong = Random(2), pupil(), pupil()
    for learner, told in ((right, RIGHT), (wrong, WRONG)):
        for x, y in day(rng, 30, 2000, told):
            learner.learn(x, y)
    moved = {told: log_odds(learner, odd_one(told)) - told for told, learner in ((RIGHT, right), (WRONG, wrong))}
    assert abs(moved[RIGHT]) < 0.25 * moved[WRONG]


def test_what_is_missing_from_all_examples_is_no_second_intercept() -> None:
    """Most features are missing from most examples; a fraud must not move all scores by the sum of their columns."""
    learner = pupil()
    for x, y in day(Random(3), 5, 500, WRONG):
        learner.learn(x, y)
    weights = dict(zip(SCHEMA.columns, learner.state().linear.logistic.weights, strict=True))
    assert {column: w for column, w in weights.items() if column.endswith("?") and w} == {}
    unaware = Blend.fresh(SCHEMA, SETTINGS)
    for x, y in day(Random(3), 5, 500, WRONG):
        unaware.learn({name: value for name, value in x.items() if name != KNOWN}, y)
    missing = [w for c, w in zip(SCHEMA.columns, unaware.state().linear.logistic.weights, strict=True) if c.endswith("?")]
    assert any(missing), "without people absence is all there is to say that something is missing"


SEEN, SELDOM = "often", "seldom"


def taught(settings: LogisticSettings, state: LogisticState | None = None, halt: int = 400) -> LogisticState:
    """Four hundred examples have one column, every fortieth, a fraud, has the other too."""
    logistic = Logistic((SEEN, SELDOM), state or LogisticState(settings, (0.0, 0.0), 0.0, 0))
    for n in range(logistic.model.optimizer.n_iterations, halt):
        fraud = n % 40 == 0
        logistic.learn({SEEN: 1.0, SELDOM: float(fraud)}, fraud, 1.0)
    return logistic.state()


def test_a_column_that_is_seldom_seen_learns_faster() -> None:
    alike, remembering = (taught(LogisticSettings(rate=0.02, memory=memory, balance=1.0)) for memory in (0, 10_000))
    assert alike.squares == ()
    assert len(remembering.squares) == 2
    assert remembering.weights[1] / abs(remembering.weights[0]) > 1.5 * alike.weights[1] / abs(alike.weights[0])


@pytest.mark.parametrize("memory", [0, 10_000])
def test_a_learner_that_is_read_back_learns_on_to_the_bit(memory: int) -> None:
    settings = LogisticSettings(rate=0.02, memory=memory)
    assert taught(settings, taught(settings, halt=130)) == taught(settings)


def test_squares_of_other_columns_are_refused() -> None:
    fresh = Linear.fresh(SCHEMA, LogisticSettings(memory=100)).state().logistic
    with pytest.raises(ValueError, match="1 squares"):
        Logistic(SCHEMA.columns, LogisticState(fresh.settings, fresh.weights, 0.0, 0, (1.0,)))


def test_old_gradients_are_forgotten() -> None:
    """After some memories' worth of examples without it a column learns as fast as at first: attackers change for ever."""

    def step_after(frauds: int, quiet: int) -> float:
        logistic = Logistic((SEEN,), LogisticState(LogisticSettings(rate=0.1, memory=50, balance=1.0), (0.0,), 0.0, 0))
        for n in range(frauds):
            logistic.learn({SEEN: 1.0}, n % 2 == 0, 1.0)
        for _ in range(quiet):
            logistic.learn({SEEN: 0.0}, False, 1.0)
        before = logistic.state().weights[0]
        logistic.model.intercept = 0.0
        logistic.learn({SEEN: 1.0}, True, 1.0)
        return logistic.state().weights[0] - before

    assert step_after(20, quiet=500) == pytest.approx(step_after(0, quiet=0), rel=0.15)
    assert step_after(20, quiet=0) < 0.5 * step_after(0, quiet=0)
