"""How likely, by a weighted sum? The scaled logistic regression (River), and its scorer with one table per feature."""

from collections.abc import Mapping
from math import copysign, log, log1p, sqrt
from typing import Literal

import msgspec

from pipeline.core.learn.logistic import Logistic, LogisticSettings, LogisticState
from pipeline.core.learn.prediction import Prediction, Scorer, sigmoid
from pipeline.core.learn.schema import CUT, MOST, OTHER, Encoder, FeatureValue, Field, Schema, Spread, by_number, plain_number

START_LOG_ODDS = -6.9  # ln(1/1000), before anything was learned: the upper end of the priors in the field (one per OTP login, at most)


class LinearState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="linear"):
    """A linear learner in numbers."""

    schema: Schema
    spreads: tuple[Spread, ...]
    logistic: LogisticState


class Linear:
    """Logistic regression on standardised numbers, flags and one-hot words, each with its missing column."""

    kind: Literal["linear"] = "linear"

    def __init__(self, state: LinearState) -> None:
        """Raises ValueError when the state does not fit its own schema."""
        self.schema = state.schema
        self.encoder = Encoder(state.schema, state.spreads)
        self.logistic = Logistic(state.schema.columns, state.logistic)

    @classmethod
    def fresh(cls, schema: Schema, settings: LogisticSettings = LogisticSettings()) -> "Linear":  # noqa: B008  # frozen
        start = START_LOG_ODDS + log(settings.balance)
        return cls(LinearState(schema, (), LogisticState(settings, (0.0,) * len(schema.columns), start, 0)))

    def learn(self, features: Mapping[str, FeatureValue], label: bool, weight: float = 1.0) -> None:
        row = self.encoder.row(features)  # first of all: a wrong value must teach nothing
        self.encoder.learn(features)
        self.logistic.learn(self.encoder.scaled(row), label, weight)

    def state(self, to_learn: bool = True) -> LinearState:
        """All of it in numbers; scoring needs no less than learning."""
        return LinearState(self.schema, self.encoder.spreads(), self.logistic.state())

    def scorer(self) -> "LinearScorer":
        return LinearScorer(self.schema, self.encoder.spreads(), self.logistic.state())


class LinearScorer(Scorer):
    """The linear model with everything multiplied out: a feature's contribution is one look-up, or one multiplication.

    Contributions are weight times distance from neutral: for a number the mean, for a flag "no", for a category no word at all. Written
    for speed (about 10 us for 70 features): it stands in the hot path of detect.
    """

    def __init__(self, schema: Schema, spreads: tuple[Spread, ...], state: LogisticState) -> None:
        """Raises ValueError when weights or spreads do not fit the schema."""
        self.bias = state.intercept - log(state.settings.balance)
        weights = dict(zip(schema.columns, state.weights, strict=True))
        spread = by_number(schema, spreads)
        self.numbers = tuple(_line(f, weights, spread.get(f.name)) for f in schema.fields if f.kind == "number")
        self.words = tuple(_table(f, weights) for f in schema.fields if f.kind != "number")

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        contributions: dict[str, float] = {}
        log_odds = self.bias
        get = features.get
        for name, mean, per_unit, most, in_logs, missing in self.numbers:
            value = get(name)
            if value is None:
                c = missing
            else:
                if type(value) is str or not -MOST <= value <= MOST:  # type: ignore[operator]  # no text any more
                    value = plain_number(name, value)
                c = ((copysign(log1p(abs(value)), value) if in_logs else value) - mean) * per_unit  # type: ignore[arg-type,operator]
                if not -most <= c <= most:
                    c = copysign(most, c)
            if c:
                contributions[name] = c
                log_odds += c
        for name, kind, table, other, missing in self.words:
            value = get(name)
            if value is None:
                c = missing
            elif type(value) is kind:
                c = table.get(value, other)
            else:
                raise ValueError(f"{name}: not a {'flag' if kind is bool else 'word'}")
            if c:
                contributions[name] = c
                log_odds += c
        return Prediction(sigmoid(log_odds), log_odds, self.bias, contributions)


def _line(field: Field, weights: Mapping[str, float], spread: Spread | None) -> tuple[str, float, float, float, bool, float]:
    """A number's name, mean, weight per unit, largest contribution, whether it is taken in logarithms, and the weight of its absence."""
    weight, missing = weights[field.name], weights[f"{field.name}?"]
    if spread is None or spread.variance <= 0.0:
        return field.name, 0.0, 0.0, 0.0, field.log, missing
    return field.name, spread.mean, weight / sqrt(spread.variance), CUT * abs(weight), field.log, missing


def _table(field: Field, weights: Mapping[str, float]) -> tuple[str, type, dict[FeatureValue, float], float, float]:
    """A flag's or category's name, type, weight of each word, of any other word, and of its absence."""
    name, missing = field.name, weights[f"{field.name}?"]
    if field.kind == "flag":
        return name, bool, {True: weights[name], False: 0.0}, 0.0, missing
    return name, str, {word: weights[f"{name}={word}"] for word in field.words}, weights[f"{name}={OTHER}"], missing
