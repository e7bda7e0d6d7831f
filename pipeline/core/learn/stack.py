"""What is a blend in numbers? Its settings and state, and what its stack is given; for the blend that learns and the one that scores."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.learn.anomaly import AnomalySettings, AnomalyState
from pipeline.core.learn.forest import ForestSettings, ForestState
from pipeline.core.learn.linear import LinearState
from pipeline.core.learn.logistic import LogisticSettings, LogisticState
from pipeline.core.learn.prediction import bounded
from pipeline.core.learn.schema import FeatureValue, Schema, Spread, plain_number, standardise

ANOMALY = "anomaly"  # the name under which the anomaly score contributes
KNOWN = "known"  # the name under which the log-odds of what people know come in beside the features, and contribute
INPUTS = ("linear", "forest", ANOMALY, KNOWN)


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


def known(features: Mapping[str, FeatureValue]) -> float:
    """The log-odds of what people know, within bounds; 0 where the caller has none."""
    return bounded(plain_number(KNOWN, features.get(KNOWN, 0.0)))
