"""How likely, by many trees? An adaptive random forest of River's Hoeffding trees, and its scorer as flat nodes.

After Gomes et al., "Adaptive random forests for evolving data stream classification" (2017): each tree learns each example a random
number of times, each leaf watches random columns, and a tree whose errors grow is replaced by one that began to grow when they first
did. Two things differ from River's ARFClassifier. Errors are the tree's log loss, watched by Page-Hinkley, not its wrong majority votes,
which never move where one example in a thousand is a fraud. And all state is numbers that can be written down: River keeps the detectors'
in native code. The forest's log-odds are the mean of its trees'.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite, log

from river import drift

from pipeline.core.learn.chance import Chance
from pipeline.core.learn.encoder import Encoder
from pipeline.core.learn.forest_scorer import ForestScorer
from pipeline.core.learn.prediction import START_LOG_ODDS, balanced, sigmoid
from pipeline.core.learn.schema import FeatureValue, Row, Schema
from pipeline.core.learn.states import ForestSettings, ForestState, MemberState, WatchState, check_trees
from pipeline.core.learn.tree import Tree

MOST_LOSS = 5.0  # of one example, as the detectors see it: one wrong label is no drift
# A rise of the mean loss by less than this is no drift. Page-Hinkley fires by chance with odds of about exp(-2 * TOLERATED * threshold /
# variance), and the variance is 0.2 to 0.5, as rare frauds cost much: River's own 0.005 replaces healthy trees every few thousand examples.
TOLERATED = 0.05


class Member:
    """A tree, its detectors, and the tree in the background."""

    def __init__(self, columns: Sequence[str], settings: ForestSettings, chance: Chance, state: MemberState) -> None:
        self._new = partial(Tree, columns, settings.tree, chance)
        self.settings = settings
        self.tree = self._new(state.tree)
        self.background = self._new(state.background) if state.background is not None else None
        self.warning = watch(settings.warning, state.warning)
        self.drift = watch(settings.drift, state.drift)

    def learn(self, row: Row, label: bool, weight: float, times: int) -> bool:
        """Learn an example; True when the tree was replaced."""
        path = self.tree.path(row)
        before = self.tree.log_odds(path)
        if times:
            self.tree.learn(path, row, label, weight * times)
            if self.background is not None:
                self.background.learn(self.background.path(row), row, label, weight * times)
        if before is None:
            return False
        loss = min(MOST_LOSS, -log(max(sigmoid(before if label else -before), 1e-9)))
        self.warning.update(loss)
        self.drift.update(loss)
        if self.drift.drift_detected:
            self.tree = self.background if self.background is not None else self._new()
            self.background = None
            self.warning, self.drift = watch(self.settings.warning), watch(self.settings.drift)
            return True
        if self.warning.drift_detected:
            self.background = self._new()
        return False

    def state(self, to_learn: bool) -> MemberState:
        if not to_learn:
            return MemberState(self.tree.state(to_learn=False))
        background = self.background.state() if self.background is not None else None
        return MemberState(self.tree.state(), watch_state(self.warning), watch_state(self.drift), background)


def watch(threshold: float, state: WatchState = WatchState()) -> drift.PageHinkley:  # noqa: B008  # frozen
    """A detector of growing loss, as new or as it was. River's forgetting is off: a sum that hovers reaches any threshold by chance."""
    out = drift.PageHinkley(threshold=threshold, delta=TOLERATED, alpha=1.0, mode="up", min_instances=100)
    out._x_mean.n, out._x_mean._mean = state.count, state.mean
    out._sum_increase, out._sum_decrease = state.rise, state.fall
    out._min_increase = float("inf") if state.least is None else state.least
    out._max_decrease, out._drift_detected = state.most, state.fired
    return out


def watch_state(w: drift.PageHinkley) -> WatchState:
    least = float(w._min_increase)
    return WatchState(
        float(w._x_mean.n), float(w._x_mean._mean), float(w._sum_increase), least if isfinite(least) else None,
        float(w._sum_decrease), float(w._max_decrease), bool(w.drift_detected),
    )  # fmt: skip


class Forest:
    """Trees that learn by chance, and are replaced when they fall behind."""

    def __init__(self, state: ForestState) -> None:
        """Raises ValueError when the state does not fit its own schema or settings."""
        check_trees(state)
        self.schema, self.settings = state.schema, state.settings
        self.encoder = Encoder(state.schema, state.spreads)
        self.chance = Chance(state.dice)
        self.replaced = state.replaced
        self.members = [Member(state.schema.columns, state.settings, self.chance, m) for m in state.members]

    @classmethod
    def fresh(cls, schema: Schema, settings: ForestSettings = ForestSettings(), seed: int = 0) -> "Forest":  # noqa: B008  # frozen
        return cls(ForestState(schema, (), settings, seed, 0, (MemberState(),) * settings.trees))

    def learn(self, features: Mapping[str, FeatureValue], label: bool, weight: float = 1.0) -> None:
        row = self.encoder.row(features)  # first of all: a wrong value must teach nothing
        self.encoder.learn(features)
        self.learn_row(row, label, weight)

    def learn_row(self, row: Row, label: bool, weight: float) -> None:
        weight = balanced(label, weight, self.settings.balance)
        for member in self.members:
            self.replaced += member.learn(row, label, weight, self.chance.poisson(self.settings.repeat))

    def log_odds(self, row: Row) -> float:
        """What the scorer would say, up to rounding, without making one."""
        start = START_LOG_ODDS + log(self.settings.balance)
        scores = [m.tree.log_odds(m.tree.path(row)) for m in self.members]
        return sum(start if s is None else s for s in scores) / len(scores) - log(self.settings.balance)

    def state(self, to_learn: bool = True) -> ForestState:
        """All of it in numbers; with ``to_learn=False`` only what scoring needs, a tenth of the size."""
        members = tuple(m.state(to_learn) for m in self.members)
        return ForestState(self.schema, self.encoder.spreads(), self.settings, self.chance.state, self.replaced, members)

    def scorer(self) -> "ForestScorer":
        return ForestScorer(self.state(to_learn=False))
