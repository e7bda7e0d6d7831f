"""How likely, by a weighted sum? The scaled logistic regression (River), and its scorer with one table per feature."""

from collections.abc import Mapping
from math import log
from typing import Literal

from pipeline.core.learn.encoder import Encoder
from pipeline.core.learn.linear_scorer import LinearScorer
from pipeline.core.learn.logistic import Logistic
from pipeline.core.learn.prediction import START_LOG_ODDS
from pipeline.core.learn.schema import FeatureValue, Schema
from pipeline.core.learn.states import LinearState, LogisticSettings, LogisticState


class Linear:
    """Logistic regression on standardised numbers, flags and one-hot words, each with its missing column."""

    kind: Literal["linear"] = "linear"

    def __init__(self, state: LinearState) -> None:
        """Raises ValueError when the state does not fit its own schema."""
        self.schema = state.schema
        self.encoder = Encoder(state.schema, state.spreads)
        self.logistic = Logistic(state.schema.columns, state.logistic)

    @classmethod
    def fresh(
        cls,
        schema: Schema,
        settings: LogisticSettings = LogisticSettings(),  # noqa: B008  # frozen
        start: float = START_LOG_ODDS,
    ) -> "Linear":
        """One that knows nothing but the log-odds it starts from."""
        intercept = start + log(settings.balance)
        return cls(LinearState(schema, (), LogisticState(settings, (0.0,) * len(schema.columns), intercept, 0)))

    def learn(self, features: Mapping[str, FeatureValue], label: bool, weight: float = 1.0) -> None:
        row = self.encoder.row(features)  # first of all: a wrong value must teach nothing
        self.encoder.learn(features)
        self.logistic.learn(self.encoder.scaled(row), label, weight)

    def state(self, to_learn: bool = True) -> LinearState:
        """All of it in numbers; scoring needs no less than learning."""
        return LinearState(self.schema, self.encoder.spreads(), self.logistic.state())

    def scorer(self) -> "LinearScorer":
        return LinearScorer(self.schema, self.encoder.spreads(), self.logistic.state())
