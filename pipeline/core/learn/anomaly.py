"""How unlike everything seen before, labels aside? Half-space trees (River) over the features that are there.

After Tan, Ting and Liu, "Fast anomaly detection for streaming data" (2011). Numbers are squashed into (0, 1) around their means; a missing
feature follows the busier branch, as River does. Every example counts as one: weights say what a label is worth, and none is used here.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from river import anomaly
from river.tree.padded import PaddedBranch, PaddedLeaf

from pipeline.core.learn.schema import Encoder, FeatureValue, Row, Schema, Spread


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


class Anomaly:
    """The label-free score: 0 is the most ordinary, 1 the most unusual."""

    def __init__(self, state: AnomalyState) -> None:
        """Raises ValueError when the trees do not fit the settings or the schema."""
        s = state.settings
        self.schema, self.settings, self.seed = state.schema, s, state.seed
        self.encoder = Encoder(state.schema, state.spreads)
        self.columns = tuple(c for c in state.schema.columns if not c.endswith("?"))
        self._numbers = [f.columns for f in state.schema.fields if f.kind == "number"]
        self._words = [(f.columns[:-1], f.columns[-1]) for f in state.schema.fields if f.kind != "number"]
        self.model = anomaly.HalfSpaceTrees(n_trees=s.trees, height=s.height, window_size=s.window, seed=state.seed)
        if state.trees:
            if len(state.trees) != s.trees:
                raise ValueError(f"{len(state.trees)} half-space trees, not {s.trees}")
            self.model.trees = [self._plant(tree) for tree in state.trees]
            self.model._tree_nodes = [list(tree.iter_dfs()) for tree in self.model.trees]
            self.model.counter, self.model._first_window = state.seen, not state.ready

    @classmethod
    def fresh(cls, schema: Schema, settings: AnomalySettings = AnomalySettings(), seed: int = 0) -> "Anomaly":  # noqa: B008  # frozen
        return cls(AnomalyState(schema, (), settings, seed, 0, False, ()))

    def learn(self, features: Mapping[str, FeatureValue]) -> None:
        """Learn one example, whatever it was."""
        row = self.encoder.row(features)  # first of all: a wrong value must teach nothing
        self.encoder.learn(features)
        self.learn_row(row, self.encoder.scaled(row))

    def learn_row(self, row: Row, scaled: Row) -> None:
        if not self.model.trees:
            self.model.learn_one(dict.fromkeys(self.columns, 0.5))  # River lays the tests over the columns of the first example
            self.model.counter = 0
            for nodes in self.model._tree_nodes:
                for node in nodes:
                    node.l_mass = 0
        self.model.learn_one(self.point(row, scaled))

    def score(self, features: Mapping[str, FeatureValue]) -> float | None:
        """How unusual, 0 to 1; None before the first window is complete."""
        row = self.encoder.row(features)
        return self.score_row(row, self.encoder.scaled(row))

    def score_row(self, row: Row, scaled: Row) -> float | None:
        return None if self.model._first_window else float(self.model.score_one(self.point(row, scaled)))

    @property
    def least_mass(self) -> float:
        """River looks at no node below one that fewer examples of the last window have come to."""
        return float(self.model.size_limit)

    @property
    def most_mass(self) -> float:
        """What the masses are divided by."""
        return float(self.model._max_score)

    def point(self, row: Row, scaled: Row) -> Row:
        """The place of an example in the unit cube, without the columns of what is missing."""
        out = {}
        for name, missing in self._numbers:
            if not row[missing]:
                z = scaled[name]
                out[name] = 0.5 + 0.5 * z / (1.0 + abs(z))
        for columns, missing in self._words:
            if not row[missing]:
                for column in columns:
                    out[column] = row[column]
        return out

    def state(self) -> AnomalyState:
        m = self.model
        place = {column: i for i, column in enumerate(self.columns)}
        trees = tuple(
            SpaceState(
                tuple(place[n.feature] for n in nodes if isinstance(n, PaddedBranch)),
                tuple(float(n.threshold) for n in nodes if isinstance(n, PaddedBranch)),
                tuple(n.r_mass for n in nodes),
                tuple(n.l_mass for n in nodes),
            )
            for nodes in m._tree_nodes
        )
        return AnomalyState(self.schema, self.encoder.spreads(), self.settings, self.seed, m.counter, not m._first_window, trees)

    def _plant(self, tree: SpaceState) -> Any:
        inner = 2**self.settings.height - 1
        if not len(tree.columns) == len(tree.thresholds) == inner or not len(tree.last) == len(tree.current) == 2 * inner + 1:
            raise ValueError("a half-space tree of another height")
        if not all(0 <= c < len(self.columns) for c in tree.columns):
            raise ValueError("a half-space tree over columns that are not there")
        tests = zip(tree.columns, tree.thresholds, strict=True)
        masses = zip(tree.last, tree.current, strict=True)

        def grow(height: int) -> Any:
            last, current = next(masses)
            if height == 0:
                return PaddedLeaf(r_mass=last, l_mass=current)
            column, threshold = next(tests)
            left = grow(height - 1)
            right = grow(height - 1)
            return PaddedBranch(left=left, right=right, feature=self.columns[column], threshold=threshold, r_mass=last, l_mass=current)

        return grow(self.settings.height)
