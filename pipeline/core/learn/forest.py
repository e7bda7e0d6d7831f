"""How likely, by many trees? An adaptive random forest of River's Hoeffding trees, and its scorer as flat nodes.

After Gomes et al., "Adaptive random forests for evolving data stream classification" (2017): each tree learns each example a random
number of times, each leaf watches random columns, and a tree whose errors grow is replaced by one that began to grow when they first
did. Two things differ from River's ARFClassifier. Errors are the tree's log loss, watched by Page-Hinkley, not its wrong majority votes,
which never move where one example in a thousand is a fraud. And all state is numbers that can be written down: River keeps the detectors'
in native code. The forest's log-odds are the mean of its trees'.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isfinite, log
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from river import drift

from pipeline.core.learn.chance import Chance
from pipeline.core.learn.linear import START_LOG_ODDS
from pipeline.core.learn.prediction import Prediction, Scorer, balanced, sigmoid
from pipeline.core.learn.schema import Encoder, FeatureValue, Row, Schema, Spread
from pipeline.core.learn.tree import DEEPEST, Branch, Leaf, Tree, TreeSettings, TreeState, node_log_odds, share_of, trust_in

MOST_LOSS = 5.0  # of one example, as the detectors see it: one wrong label is no drift
# A rise of the mean loss by less than this is no drift. Page-Hinkley fires by chance with odds of about exp(-2 * TOLERATED * threshold /
# variance), and the variance is 0.2 to 0.5, as rare frauds cost much: River's own 0.005 replaces healthy trees every few thousand examples.
TOLERATED = 0.05


class ForestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many trees, how often each learns an example, and when one is replaced. ``balance``: see ``prediction.balanced``."""

    trees: Annotated[int, Meta(ge=1, le=64)] = 10
    repeat: Annotated[float, Meta(gt=0, le=10)] = 1.0  # mean of the Poisson number of times (lambda)
    balance: Annotated[float, Meta(gt=0, le=1e6)] = 5.0
    warning: Annotated[float, Meta(gt=0)] = 25.0  # excess log loss, summed: a tree in the background begins to grow
    drift: Annotated[float, Meta(gt=0)] = 75.0  # and takes over
    tree: TreeSettings = TreeSettings()


class WatchState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A Page-Hinkley detector in numbers."""

    count: Annotated[float, Meta(ge=0)] = 0.0
    mean: float = 0.0
    rise: float = 0.0
    least: float | None = None
    fall: float = 0.0
    most: float = -1.0  # where River begins
    fired: bool = False


class MemberState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tree of the forest, with what watches it and what grows behind it."""

    tree: TreeState = TreeState()
    warning: WatchState = WatchState()
    drift: WatchState = WatchState()
    background: TreeState | None = None


class ForestState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="forest"):
    """A forest learner in numbers. ``dice``: the state of its generator. ``replaced``: trees that drift has cost so far."""

    schema: Schema
    spreads: tuple[Spread, ...]
    settings: ForestSettings
    dice: Annotated[int, Meta(ge=0)]
    replaced: Annotated[int, Meta(ge=0)]
    members: tuple[MemberState, ...]


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


def check_trees(state: ForestState) -> None:
    if len(state.members) != state.settings.trees:
        raise ValueError(f"{len(state.members)} trees, not {state.settings.trees}")


class ForestScorer(Scorer):
    """The trees as nested tuples; scoring touches nothing else. Works from a state without the leaves' observations, too."""

    def __init__(self, state: ForestState) -> None:
        """Raises ValueError when the state does not fit its own schema or settings."""
        self.encoder = Encoder(state.schema, state.spreads)
        check_trees(state)
        settings = state.settings
        start = START_LOG_ODDS + log(settings.balance)
        trees = [flatten(iter(m.tree.nodes), state.schema, settings.tree) if m.tree.nodes else (start, None) for m in state.members]
        self.bias = sum(base for base, _ in trees) / len(trees) - log(settings.balance)
        self.roots = [root for _, root in trees]
        self.scale = 1.0 / len(trees)

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        row, scale = self.encoder.row(features), self.scale
        contributions: dict[str, float] = {}
        for root in self.roots:
            node = root
            while node is not None:
                column, threshold, name, left, right = node
                step, node = left if row[column] <= threshold else right
                contributions[name] = contributions.get(name, 0.0) + step * scale
        log_odds = self.bias
        for c in contributions.values():
            log_odds += c
        return Prediction(sigmoid(log_odds), log_odds, self.bias, contributions)


def flatten(nodes: Iterator[Branch | Leaf], schema: Schema, settings: TreeSettings) -> tuple[float, Any]:
    """A tree's log-odds at the root, and its tests: ``(column, threshold, feature, (step, left), (step, right))``; None for a leaf.

    Raises ValueError when the nodes are no tree over the columns of the schema.
    """
    share = 0.5

    def flat(depth: int) -> tuple[float, Any]:
        nonlocal share
        node = next(nodes, None)
        if node is None or depth > DEEPEST:
            raise ValueError("a branch without its children" if node is None else "too deep")
        stats = {False: node.benign or 0.0, True: node.fraud or 0.0}
        if depth == 0:
            share = share_of(stats)
        here = node_log_odds(stats, share)
        if isinstance(node, Leaf):
            return here, None
        if node.column >= len(schema.columns):
            raise ValueError(f"no column {node.column}")
        column, trust = schema.columns[node.column], trust_in(stats, settings.shrink)
        (left, under_left), (right, under_right) = flat(depth + 1), flat(depth + 1)
        steps = ((left - here) * trust, under_left), ((right - here) * trust, under_right)
        return here, (column, node.threshold, schema.owner[column], *steps)

    tree = flat(0)
    if next(nodes, None) is not None:
        raise ValueError("nodes left over")
    return tree
