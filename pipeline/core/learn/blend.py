"""How likely, all told? Linear model, forest, anomaly score and what people know as one probability: stacked, calibrated by what came true.

A logistic regression (River) over the log-odds of the two members, the standardised anomaly score, and the log-odds that terms and rules
weighted by people give (``KNOWN``, where the caller has them; 0 else), learned from what the members said *before* they learned an
example, so that it sees them as they are on data they do not know. It is fitted by log loss at the weights of the population and has a
fast intercept of its own: it calibrates, and follows a prior that drifts. A prior that is known to be another (a model made on a
simulator goes to a bank) is set at once by ``assume_prior``. Its output is linear in the members', so their contributions, times their
weights, still add up.
"""

from collections.abc import Mapping
from math import log
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.learn.anomaly import Anomaly, AnomalySettings, AnomalyState
from pipeline.core.learn.forest import Forest, ForestScorer, ForestSettings, ForestState
from pipeline.core.learn.linear import START_LOG_ODDS, Linear, LinearScorer, LinearState
from pipeline.core.learn.logistic import Logistic, LogisticSettings, LogisticState
from pipeline.core.learn.prediction import Prediction, bounded, logit, sigmoid
from pipeline.core.learn.schema import Encoder, FeatureValue, Schema, Spread, plain_number, standardise

ANOMALY = "anomaly"  # the name under which the anomaly score contributes
KNOWN = "known"  # the name under which the log-odds of what people know come in beside the features, and contribute
INPUTS = ("linear", "forest", ANOMALY, KNOWN)
PRIOR_MEMORY = 20_000.0  # examples of the population over which the prior is remembered


class BlendSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The members' settings, those of the stack, and how far it trusts the linear model and the forest before it has learned."""

    linear: LogisticSettings = LogisticSettings()
    forest: ForestSettings = ForestSettings()
    anomaly: AnomalySettings = AnomalySettings()
    stack: LogisticSettings = LogisticSettings(rate=0.001, intercept_rate=0.003)
    linear_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    forest_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    known_weight: Annotated[float, Meta(ge=0, le=1)] = 0.0


class PriorState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The weights of frauds and of all examples, old ones fading."""

    fraud: Annotated[float, Meta(ge=0)] = 0.0
    all: Annotated[float, Meta(ge=0)] = 0.0


class BlendState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="blend"):
    """A blend in numbers. The members' own encoders are empty: they share the blend's."""

    schema: Schema
    spreads: tuple[Spread, ...]
    linear: LinearState
    forest: ForestState
    anomaly: AnomalyState
    unusual: Spread  # of the anomaly score
    stack: LogisticState
    prior: PriorState


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
        linear, forest = Linear.fresh(schema, settings.linear), Forest.fresh(schema, settings.forest, seed)
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
            KNOWN: known(features),
        }
        self.said = self.stack.log_odds(inputs)
        self.stack.learn(inputs, label, weight)
        self.linear.logistic.learn(scaled, label, weight)
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

    def scorer(self) -> "BlendScorer":
        return BlendScorer(self.state(to_learn=False))


class Unusual:
    """The anomaly score in standard deviations from its mean; 0 while there is none."""

    def __init__(self, spread: Spread) -> None:
        self.count, self.mean, self.variance = spread.count, spread.mean, spread.variance

    def learn(self, score: float | None) -> None:
        if score is not None:
            self.count += 1
            before = self.mean
            self.mean += (score - before) / self.count
            self.variance += ((score - before) * (score - self.mean) - self.variance) / self.count

    def standard(self, score: float | None) -> float:
        return 0.0 if score is None else standardise(score, self.mean, self.variance)

    def state(self) -> Spread:
        return Spread(self.count, self.mean, self.variance)


class BlendScorer:
    """The blend, frozen."""

    def __init__(self, state: BlendState) -> None:
        """Raises ValueError when a part does not fit the schema."""
        if not state.schema == state.linear.schema == state.forest.schema == state.anomaly.schema:
            raise ValueError("the members know other features than the blend")
        self.encoder = Encoder(state.schema, state.spreads)
        self._linear = LinearScorer(state.schema, state.spreads, state.linear.logistic)
        self._forest = ForestScorer(state.forest)
        self._anomaly = Anomaly(state.anomaly)
        self._unusual = Unusual(state.unusual)
        if len(state.stack.weights) != len(INPUTS):
            raise ValueError("a stack over other members")
        self._weights = state.stack.weights
        self._intercept = state.stack.intercept - log(state.stack.settings.balance)

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        row = self.encoder.row(features)
        linear, forest = self._linear.predict(features), self._forest.predict_row(row)
        score = self._anomaly.score_row(row, self.encoder.scaled(row))
        of_linear, of_forest, of_anomaly, of_known = self._weights
        of_linear *= within(linear)
        of_forest *= within(forest)
        contributions = {name: of_linear * c for name, c in linear.contributions.items()}
        for name, c in forest.contributions.items():
            contributions[name] = contributions.get(name, 0.0) + of_forest * c
        unusual = of_anomaly * self._unusual.standard(score)
        if unusual:
            contributions[ANOMALY] = unusual
        people = of_known * known(features)
        if people:
            contributions[KNOWN] = people
        log_odds = bias = self._intercept + of_linear * linear.bias + of_forest * forest.bias
        for c in contributions.values():
            log_odds += c
        return Prediction(sigmoid(log_odds), log_odds, bias, contributions)


def known(features: Mapping[str, FeatureValue]) -> float:
    """The log-odds of what people know, within bounds; 0 where the caller has none."""
    return bounded(plain_number(KNOWN, features.get(KNOWN, 0.0)))


def within(member: Prediction) -> float:
    """The factor that brings a member's log-odds within bounds; nearly always 1."""
    return 1.0 if member.log_odds == 0.0 else bounded(member.log_odds) / member.log_odds
