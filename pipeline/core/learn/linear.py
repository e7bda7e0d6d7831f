"""How likely, by a weighted sum? The scaled logistic regression (River), and its scorer with one table per feature."""

from collections.abc import Callable, Mapping
from math import copysign, isfinite, log, log1p, sqrt
from typing import Literal

import msgspec

from pipeline.core.learn.logistic import Logistic, LogisticSettings, LogisticState
from pipeline.core.learn.prediction import Prediction, sigmoid
from pipeline.core.learn.schema import CUT, OTHER, Encoder, FeatureValue, Field, Schema, Spread, by_number

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
        self.encoder.learn(features)
        self.logistic.learn(self.encoder.scaled(self.encoder.row(features)), label, weight)

    def state(self, to_learn: bool = True) -> LinearState:
        """All of it in numbers; scoring needs no less than learning."""
        return LinearState(self.schema, self.encoder.spreads(), self.logistic.state())

    def scorer(self) -> "LinearScorer":
        return LinearScorer(self.schema, self.encoder.spreads(), self.logistic.state())


class LinearScorer:
    """The linear model with everything multiplied out: a feature's contribution is one look-up, or one multiplication.

    Contributions are weight times distance from neutral: for a number the mean, for a flag "no", for a category no word at all.
    """

    def __init__(self, schema: Schema, spreads: tuple[Spread, ...], state: LogisticState) -> None:
        """Raises ValueError when weights or spreads do not fit the schema."""
        self.bias = state.intercept - log(state.settings.balance)
        weights = dict(zip(schema.columns, state.weights, strict=True))
        spread = by_number(schema, spreads)
        self._parts = tuple((f.name, part(f, weights, spread.get(f.name)), weights[f"{f.name}?"]) for f in schema.fields)

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        contributions: dict[str, float] = {}
        log_odds = self.bias
        get = features.get
        for name, contribution, missing in self._parts:
            value = get(name)
            c = missing if value is None else contribution(value)
            if c:
                contributions[name] = c
                log_odds += c
        return Prediction(sigmoid(log_odds), log_odds, self.bias, contributions)


def part(field: Field, weights: Mapping[str, float], spread: Spread | None) -> Callable[[FeatureValue], float]:
    """The function from a feature's value to its contribution."""
    if field.kind == "number":
        return _number_part(field, weights[field.name], spread)
    name = field.name
    if field.kind == "flag":
        table: dict[FeatureValue, float] = {True: weights[name], False: 0.0}
    else:
        table = {word: weights[f"{name}={word}"] for word in field.words}
    other = weights.get(f"{name}={OTHER}", 0.0)
    kind = bool if field.kind == "flag" else str

    def of_word(value: FeatureValue) -> float:
        if type(value) is not kind:
            raise ValueError(f"{name}: not a {field.kind}")
        return table.get(value, other)

    return of_word


def _number_part(field: Field, weight: float, spread: Spread | None) -> Callable[[FeatureValue], float]:
    name = field.name
    if spread is None or not spread.count or spread.variance <= 0.0:
        mean, per_unit, most = 0.0, 0.0, 0.0
    else:
        mean, per_unit, most = spread.mean, weight / sqrt(spread.variance), CUT * abs(weight)

    def of_number(value: FeatureValue) -> float:
        if type(value) is str or not isfinite(value):  # type: ignore[arg-type]  # no text any more
            raise ValueError(f"{name}: not a finite number")
        c = (value - mean) * per_unit  # type: ignore[operator]
        return c if -most <= c <= most else copysign(most, c)

    def of_logarithm(value: FeatureValue) -> float:
        if type(value) is str or not isfinite(value):  # type: ignore[arg-type]
            raise ValueError(f"{name}: not a finite number")
        c = (copysign(log1p(abs(value)), value) - mean) * per_unit  # type: ignore[arg-type]
        return c if -most <= c <= most else copysign(most, c)

    return of_logarithm if field.log else of_number
