"""How does River's logistic regression learn here, and how does it become numbers? The core of the linear learner and of the blend."""

from collections.abc import Mapping, Sequence
from math import log

from river import linear_model, optim, utils

from pipeline.core.learn.prediction import balanced
from pipeline.core.learn.states import LogisticState

MOST_GRADIENT = 5.0  # a single example, whatever its weight, moves no weight by more than the rate times this


class Logistic:
    """Logistic regression over fixed columns, by stochastic gradient descent (River)."""

    def __init__(self, columns: Sequence[str], state: LogisticState) -> None:
        """Raises ValueError when the state has another number of columns."""
        if len(state.weights) != len(columns):
            raise ValueError(f"{len(state.weights)} weights for {len(columns)} columns")
        self.columns, self.settings = tuple(columns), state.settings
        s = state.settings
        self.model = linear_model.LogisticRegression(
            optimizer=optim.SGD(s.rate),
            l2=s.l2,
            intercept_init=state.intercept,
            intercept_lr=s.intercept_rate,
            clip_gradient=MOST_GRADIENT,
        )
        self.model._weights = utils.VectorDict(dict(zip(columns, state.weights, strict=True)))
        self.model.optimizer.n_iterations = state.steps

    def log_odds(self, row: Mapping[str, float]) -> float:
        return self.model._raw_dot_one(row) - log(self.settings.balance)  # type: ignore[no-any-return]

    def learn(self, row: Mapping[str, float], label: bool, weight: float) -> None:
        self.model.learn_one(row, label, w=balanced(label, weight, self.settings.balance))

    def shift(self, log_odds: float) -> None:
        """Add to the intercept: the population's prior is known to have changed."""
        self.model.intercept += log_odds

    def state(self) -> LogisticState:
        weights = self.model.weights
        return LogisticState(
            self.settings,
            tuple(float(weights[c]) for c in self.columns),
            float(self.model.intercept),
            self.model.optimizer.n_iterations,
        )
