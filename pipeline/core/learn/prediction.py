"""What does a learner say, and what must every learner be able to do? The protocols that the rest of the layer implements."""

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from typing import Protocol

import msgspec

from pipeline.core.learn.schema import FeatureValue, Schema

START_LOG_ODDS = -6.9  # ln(1/1000), before anything was learned: the upper end of the priors in the field (one per OTP login, at most)
MOST_LOG_ODDS = 30.0  # beyond, a probability is 0 or 1 in every digit that matters; keeps members finite when they are combined


class Prediction(msgspec.Struct, frozen=True):
    """A probability with its reasons: ``log_odds`` is ``bias`` plus the sum of ``contributions``, up to rounding.

    ``contributions`` holds the features that moved the score, signed, in natural log-odds; the others contribute 0.
    """

    probability: float
    log_odds: float
    bias: float
    contributions: dict[str, float]


class Scorer(Protocol):
    """A frozen model: the same features give the same bits, in whatever order they come, on one version of Python."""

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        """Score one example. Raises ValueError when a known feature has a value of the wrong kind or one that is not finite."""

    def over(self, names: Sequence[str]) -> "Ask":
        """The scorer for examples that are given as values in the order of ``names``; None is absent. Raises as ``predict`` does."""

        def ask(values: Sequence[FeatureValue | None]) -> tuple[float, Callable[[], Prediction]]:
            said = self.predict({name: value for name, value in zip(names, values, strict=True) if value is not None})
            return said.log_odds, lambda: said

        return ask


# Values -> the log-odds of ``predict``, to the bit, and the prediction when somebody wants it: some models say the one far sooner.
Ask = Callable[[Sequence[FeatureValue | None]], tuple[float, Callable[[], Prediction]]]


class Learner(Protocol):
    """A model that learns one example at a time, within bounded memory."""

    schema: Schema

    def learn(self, features: Mapping[str, FeatureValue], label: bool, weight: float = 1.0) -> None:
        """Learn one example. ``weight``: how many examples of the population it stands for, times the trust in its label."""

    def scorer(self) -> Scorer:
        """The model as it is now; learning on does not change what was handed out."""


def sigmoid(log_odds: float) -> float:
    """The probability of a log-odds, without overflow."""
    if log_odds >= 0.0:
        return 1.0 / (1.0 + exp(-log_odds))
    e = exp(max(log_odds, -700.0))
    return e / (1.0 + e)


def logit(probability: float) -> float:
    return log(probability) - log(1.0 - probability)


def bounded(log_odds: float) -> float:
    return max(-MOST_LOG_ODDS, min(MOST_LOG_ODDS, log_odds))


def balanced(label: bool, weight: float, balance: float) -> float:
    """The weight a member learns with: benign examples count ``1 / balance``, and ``ln(balance)`` is taken off the log-odds again.

    Frauds are one in thousands; learned as they come, a step for a fraud drowns among those for the rest, and a tree finds no split
    worth making. Dividing the weight of the benign multiplies the odds by exactly ``balance``, so the log-odds minus ``ln(balance)``
    are those of the population, and probabilities stay calibrated. The same factor cancels the 1/p of benign examples that were
    sampled with probability p.
    """
    return weight if label else weight / balance
