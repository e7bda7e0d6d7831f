"""How does River's logistic regression learn here, and how does it become numbers? The core of the linear learner and of the blend.

Columns that remember their gradients (``memory``) are taught by River's RMSProp, set so that at first it is AdaGrad (Duchi et al., 2011):
``rate`` over the root of ``DAMPING`` plus the squared gradients so far. It forgets, since a rate that only falls would stop following the
attackers; and it is damped, since without that the many examples that are foreseen well would teach as much as the few that are not.
"""

from collections.abc import Mapping, Sequence
from math import log, sqrt

from river import linear_model, optim, utils

from pipeline.core.learn.prediction import balanced
from pipeline.core.learn.states import LogisticState

DAMPING = 1.0  # squared gradients; that of a fraud that nobody foresaw is 25 (``balance`` of 5)
MOST_GRADIENT = 5.0  # the loss gradient of a single example, whatever its weight, is cut here


class Logistic:
    """Logistic regression over fixed columns, by stochastic gradient descent (River)."""

    def __init__(self, columns: Sequence[str], state: LogisticState) -> None:
        """Raises ValueError when the state has another number of columns."""
        if len(state.weights) != len(columns) or (state.squares and len(state.squares) != len(columns)):
            raise ValueError(f"{len(state.weights)} weights and {len(state.squares)} squares for {len(columns)} columns")
        self.columns, self.settings = tuple(columns), state.settings
        s = state.settings
        self._remembers = optim.RMSProp(s.rate / sqrt(s.memory), 1 - 1 / s.memory, DAMPING / s.memory) if s.memory else None
        if self._remembers is not None and state.squares:
            self._remembers.g2 = utils.VectorDict(dict(zip(columns, state.squares, strict=True)))
        self.model = linear_model.LogisticRegression(
            optimizer=self._remembers or optim.SGD(s.rate),
            l2=s.l2,
            intercept_init=state.intercept,
            intercept_lr=s.intercept_rate,
            clip_gradient=MOST_GRADIENT,
        )
        self.model._weights = utils.VectorDict(dict(zip(columns, state.weights, strict=True)))
        self.model.optimizer.n_iterations = state.steps

    def log_odds(self, row: Mapping[str, float]) -> float:
        return self.model._raw_dot_one(row) - log(self.settings.balance)  # type: ignore[no-any-return]

    def learn(self, row: Mapping[str, float], label: bool, weight: float, told: float = 0.0) -> None:
        """Learn an example. ``told``: log-odds that come from elsewhere; only what they leave open is learned."""
        self.model.intercept += told
        self.model.learn_one(row, label, w=balanced(label, weight, self.settings.balance))
        self.model.intercept -= told

    def shift(self, log_odds: float) -> None:
        """Add to the intercept: the population's prior is known to have changed."""
        self.model.intercept += log_odds

    def state(self) -> LogisticState:
        weights, squares = self.model.weights, self._remembers.g2 if self._remembers is not None else None
        return LogisticState(
            self.settings,
            tuple(float(weights[c]) for c in self.columns),
            float(self.model.intercept),
            self.model.optimizer.n_iterations,
            () if squares is None else tuple(float(squares.get(c, 0.0)) for c in self.columns),
        )
