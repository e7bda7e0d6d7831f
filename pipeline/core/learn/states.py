"""What is a model in numbers? Settings and states of every learner: what a snapshot holds. Who scores needs these, and no learner."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.learn.schema import Schema, Spread, by_number, is_absence

DEEPEST = 24  # no settings allow a deeper tree; a restored one that is deeper is refused

Weight = Annotated[float, Meta(ge=0)]


class LogisticSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast it learns. ``balance``: see ``prediction.balanced``.

    ``memory``: a column's rate falls with its squared gradients, summed over about so many examples, so that what is seldom seen learns
    faster than what every example has (see ``logistic``); 0 where all learn alike.
    """

    rate: Annotated[float, Meta(gt=0, le=1)] = 0.003
    intercept_rate: Annotated[float, Meta(gt=0, le=1)] = 0.01
    l2: Annotated[float, Meta(ge=0, le=1)] = 0.0
    balance: Annotated[float, Meta(gt=0, le=1e6)] = 5.0
    memory: Annotated[int, Meta(ge=0, le=10_000_000)] = 0


class LogisticState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it in numbers: settings, weights in the order of the columns, the intercept as learned (``balance`` not yet taken off).

    ``squares``: the mean squared gradient of each column, where it is remembered; none before the first example.
    """

    settings: LogisticSettings
    weights: tuple[float, ...]
    intercept: float
    steps: Annotated[int, Meta(ge=0)]
    squares: tuple[Weight, ...] = ()


class LinearState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="linear"):
    """A linear learner in numbers."""

    schema: Schema
    spreads: tuple[Spread, ...]
    logistic: LogisticState


class TreeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a tree grows. Names as in River, where it has one."""

    columns_per_leaf: Annotated[int, Meta(ge=1, le=256)] = 10
    grace_period: Annotated[int, Meta(ge=1, le=100_000)] = 20
    delta: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    tau: Annotated[float, Meta(ge=0, le=1)] = 0.1
    max_depth: Annotated[int, Meta(ge=1, le=DEEPEST)] = 12
    most_leaves: Annotated[int, Meta(ge=2, le=1024)] = 128  # then its shape is final; drift replaces it
    shrink: Annotated[float, Meta(ge=0, le=1e6)] = 0.0


class Observed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What a leaf has seen of a column in one class: a weighted Gaussian, and the range."""

    weight: Weight
    mean: float
    squares: float  # sum of squared distances from the mean
    least: float
    most: float


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag="leaf"):
    """A leaf: weights of the classes, and while it may still split, what it has seen of its columns (benign, fraud)."""

    benign: Weight | None
    fraud: Weight | None
    attempt_at: Weight
    active: bool
    columns: tuple[int, ...]
    observed: tuple[tuple[Observed | None, Observed | None], ...]


class Branch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag="branch"):
    """A test: at most ``threshold`` goes left. Its left subtree follows it at once, then its right one."""

    benign: Weight | None
    fraud: Weight | None
    column: Annotated[int, Meta(ge=0)]
    threshold: float


class TreeState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tree in numbers: its nodes in preorder (none before the first example), and River's counters."""

    nodes: tuple[Branch | Leaf, ...] = ()
    active_leaves: Annotated[int, Meta(ge=0)] = 0
    inactive_leaves: Annotated[int, Meta(ge=0)] = 0
    weight_seen: Weight = 0.0
    grows: bool = True


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


class AnomalySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names as in River. A tree has 2 ** (height + 1) - 1 nodes: at height 15 the first example takes 19 s, above 10 is not allowed."""

    trees: Annotated[int, Meta(ge=1, le=50)] = 10
    height: Annotated[int, Meta(ge=1, le=10)] = 7
    window: Annotated[int, Meta(ge=10, le=100_000)] = 500


class SpaceState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tree, nodes in preorder: the tests of the inner ones, then the masses of all in the last window and in this one."""

    columns: tuple[int, ...]
    thresholds: tuple[float, ...]
    last: tuple[Annotated[int, Meta(ge=0)], ...]
    current: tuple[Annotated[int, Meta(ge=0)], ...]


class AnomalyState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="anomaly"):
    """Half-space trees in numbers; none before the first example, when ``seed`` decides their tests."""

    schema: Schema
    spreads: tuple[Spread, ...]
    settings: AnomalySettings
    seed: int
    seen: Annotated[int, Meta(ge=0)]  # in this window
    ready: bool  # one window is complete
    trees: tuple[SpaceState, ...]


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


def check_trees(state: ForestState) -> None:
    """Raises ValueError when the forest has another number of trees than its settings say."""
    if len(state.members) != state.settings.trees:
        raise ValueError(f"{len(state.members)} trees, not {state.settings.trees}")


def check_spaces(state: AnomalyState) -> None:
    """Raises ValueError when the half-space trees or the spreads do not fit the settings or the schema."""
    by_number(state.schema, state.spreads)
    if state.trees and len(state.trees) != state.settings.trees:
        raise ValueError(f"{len(state.trees)} half-space trees, not {state.settings.trees}")
    inner, columns = 2**state.settings.height - 1, len(columns_of_spaces(state.schema))
    for tree in state.trees:
        if not len(tree.columns) == len(tree.thresholds) == inner or not len(tree.last) == len(tree.current) == 2 * inner + 1:
            raise ValueError("a half-space tree of another height")
        if not all(0 <= c < columns for c in tree.columns):
            raise ValueError("a half-space tree over columns that are not there")


def columns_of_spaces(schema: Schema) -> tuple[str, ...]:
    """Half-space trees ask for what is there, not for what is missing."""
    return tuple(c for c in schema.columns if not is_absence(c))
