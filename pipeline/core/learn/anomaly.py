"""How unlike everything seen before, labels aside? Half-space trees (River) over the features that are there.

After Tan, Ting and Liu, "Fast anomaly detection for streaming data" (2011). Numbers are squashed into (0, 1) around their means; a missing
feature follows the busier branch, as River does. Every example counts as one: weights say what a label is worth, and none is used here.
"""

from collections.abc import Mapping
from typing import Any

from river import anomaly
from river.tree.padded import PaddedBranch, PaddedLeaf

from pipeline.core.learn.encoder import Encoder
from pipeline.core.learn.schema import FeatureValue, Row, Schema
from pipeline.core.learn.states import AnomalySettings, AnomalyState, SpaceState, check_spaces, columns_of_spaces


class Anomaly:
    """The label-free score: 0 is the most ordinary, 1 the most unusual."""

    def __init__(self, state: AnomalyState) -> None:
        """Raises ValueError when the trees do not fit the settings or the schema."""
        check_spaces(state)
        s = state.settings
        self.schema, self.settings, self.seed = state.schema, s, state.seed
        self.encoder = Encoder(state.schema, state.spreads)
        self.columns = columns_of_spaces(state.schema)
        self._numbers = [f.columns for f in state.schema.fields if f.kind == "number"]
        self._words = [(f.columns[:-1], f.columns[-1]) for f in state.schema.fields if f.kind != "number"]
        self.model = anomaly.HalfSpaceTrees(n_trees=s.trees, height=s.height, window_size=s.window, seed=state.seed)
        if state.trees:
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
