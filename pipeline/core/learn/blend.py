"""How likely, all told? Linear model, forest, anomaly score and what people know as one probability: stacked, calibrated by what came true.

A logistic regression (River) over the log-odds of the two members, the standardised anomaly score, and the log-odds that terms and rules
weighted by people give (``KNOWN``, where the caller has them; 0 else), learned from what the members said *before* they learned an
example, so that it sees them as they are on data they do not know. It is fitted by log loss at the weights of the population and has a
fast intercept of its own: it calibrates, and follows a prior that drifts. A prior that is known to be another (a model made on a
simulator goes to a bank) is set at once by ``assume_prior``. Where people's log-odds are given, the linear member learns only what they
leave open (they are its offset), so that a few dozen verdicts correct what people know instead of having to outdo it. It then learns
nothing of what is missing: of 80 columns for that, most say the same of every example, and together they would be an intercept that
one fraud moves by ten. Its output is linear in the members', so their contributions, times their weights, still add up.
"""

from collections.abc import Mapping
from math import log

from pipeline.core.learn.anomaly import Anomaly
from pipeline.core.learn.blend_scorer import BlendScorer
from pipeline.core.learn.encoder import Encoder
from pipeline.core.learn.forest import Forest
from pipeline.core.learn.linear import Linear
from pipeline.core.learn.logistic import Logistic
from pipeline.core.learn.prediction import START_LOG_ODDS, bounded, logit, sigmoid
from pipeline.core.learn.schema import FeatureValue, Schema, Spread, is_absence
from pipeline.core.learn.stack import ANOMALY, INPUTS, KNOWN, Unusual, known
from pipeline.core.learn.states import BlendSettings, BlendState, LogisticState, PriorState

PRIOR_MEMORY = 20_000.0  # examples of the population over which the prior is remembered


class Blend:
    """Three members and the stack over them."""

    def __init__(self, state: BlendState) -> None:
        """Raises ValueError when a part does not fit the schema."""
        if not state.schema == state.linear.schema == state.forest.schema == state.anomaly.schema:
            raise ValueError("the members know other features than the blend")
        self.schema = state.schema
        self.encoder = Encoder(state.schema, state.spreads)
        self.linear, self.forest, self.anomaly = Linear(state.linear), Forest(state.forest), Anomaly(state.anomaly)
        self.stack = Logistic(INPUTS, state.stack)
        self.unusual = Unusual(state.unusual)
        self.fraud_seen, self.all_seen = state.prior.fraud, state.prior.all
        self.said = 0.0  # log-odds of the last example, before it was learned

    @classmethod
    def fresh(cls, schema: Schema, settings: BlendSettings = BlendSettings(), seed: int = 0) -> "Blend":  # noqa: B008  # frozen
        start = 0.0 if settings.known_weight else START_LOG_ODDS  # what people know has a base of its own
        linear, forest = Linear.fresh(schema, settings.linear, start), Forest.fresh(schema, settings.forest, seed)
        anomaly = Anomaly.fresh(schema, settings.anomaly, seed)
        stack = LogisticState(
            settings.stack, (settings.linear_weight, settings.forest_weight, 0.0, settings.known_weight), log(settings.stack.balance), 0
        )
        return cls(BlendState(schema, (), linear.state(), forest.state(), anomaly.state(), Spread(0, 0.0, 0.0), stack, PriorState()))

    def learn(self, features: Mapping[str, FeatureValue], label: bool, weight: float = 1.0) -> None:
        row = self.encoder.row(features)  # first of all: a wrong value must teach nothing
        self.encoder.learn(features)
        scaled = self.encoder.scaled(row)
        score = self.anomaly.score_row(row, scaled)
        self.unusual.learn(score)
        inputs = {
            "linear": bounded(self.linear.logistic.log_odds(scaled)),
            "forest": bounded(self.forest.log_odds(row)),
            ANOMALY: self.unusual.standard(score),
            KNOWN: known(features.get(KNOWN)),
        }
        self.said = self.stack.log_odds(inputs)
        self.stack.learn(inputs, label, weight)
        self.linear.logistic.learn(_there(scaled) if KNOWN in features else scaled, label, weight, told=inputs[KNOWN])
        self.forest.learn_row(row, label, weight)
        self.anomaly.learn_row(row, scaled)
        fade = max(0.0, 1.0 - weight / PRIOR_MEMORY)
        self.fraud_seen = self.fraud_seen * fade + (weight if label else 0.0)
        self.all_seen = self.all_seen * fade + weight

    @property
    def prior(self) -> float:
        """The share of frauds in the population that the examples stand for."""
        start = sigmoid(START_LOG_ODDS)
        return (self.fraud_seen + start) / (self.all_seen + 1.0)

    def assume_prior(self, prior: float) -> None:
        """Take the share of frauds to be ``prior`` from now on (0 to 1, exclusive): the odds of every score change by the same factor."""
        self.stack.shift(logit(prior) - logit(self.prior))
        self.fraud_seen = prior * self.all_seen

    def state(self, to_learn: bool = True) -> BlendState:
        """All of it in numbers; with ``to_learn=False`` without what only learning needs."""
        return BlendState(
            self.schema,
            self.encoder.spreads(),
            self.linear.state(),
            self.forest.state(to_learn),
            self.anomaly.state(),
            self.unusual.state(),
            self.stack.state(),
            PriorState(self.fraud_seen, self.all_seen),
        )

    def scorer(self) -> BlendScorer:
        return BlendScorer(self.state(to_learn=False))


def _there(scaled: Mapping[str, float]) -> dict[str, float]:
    """A row without the columns that stand for what is missing."""
    return {column: value for column, value in scaled.items() if not is_absence(column)}
