"""How likely, by many trees? The forest that scores, as flat nodes; and what a node of a tree says.

Log-odds along the path, shrunk as in Agarwal et al., "Hierarchical shrinkage" (2022): a step from a parent of weight n counts
n / (n + shrink), so that a leaf of few examples stays near its ancestors. The steps of a path add up to the score, so each column on the
path gets its share exactly (Saabas attribution, in log-odds). The forest's log-odds are the mean of its trees'.
"""

from collections.abc import Iterator, Mapping
from math import log
from typing import Any, TypeAlias

from pipeline.core.learn.prediction import START_LOG_ODDS, Prediction, Scorer, sigmoid
from pipeline.core.learn.schema import FeatureValue, Schema, means_of, row_of
from pipeline.core.learn.states import DEEPEST, Branch, ForestState, Leaf, TreeSettings, check_trees

Stats: TypeAlias = dict[bool, float]
SMOOTHING = 1.0  # examples of the tree's own prior that every node is given, so that no node is certain


class ForestScorer(Scorer):
    """The trees as nested tuples; scoring touches nothing else. Works from a state without the leaves' observations, too."""

    def __init__(self, state: ForestState) -> None:
        """Raises ValueError when the state does not fit its own schema or settings."""
        check_trees(state)
        self.schema = state.schema
        self.means = means_of(state.schema, state.spreads)
        settings = state.settings
        start = START_LOG_ODDS + log(settings.balance)
        trees = [flatten(iter(m.tree.nodes), state.schema, settings.tree) if m.tree.nodes else (start, None) for m in state.members]
        self.bias = sum(base for base, _ in trees) / len(trees) - log(settings.balance)
        self.roots = [root for _, root in trees]
        self.scale = 1.0 / len(trees)

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        row, scale = row_of(self.schema, self.means, features), self.scale
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


def share_of(stats: Stats) -> float:
    """The share of frauds at a root, with one of each beforehand."""
    fraud, benign = stats.get(True, 0.0), stats.get(False, 0.0)
    return (fraud + 1.0) / (fraud + benign + 2.0)


def node_log_odds(stats: Stats, share: float) -> float:
    return log((stats.get(True, 0.0) + SMOOTHING * share) / (stats.get(False, 0.0) + SMOOTHING * (1.0 - share)))


def trust_in(stats: Stats, shrink: float) -> float:
    """The share of a step that counts, below a node of these weights."""
    weight = stats.get(False, 0.0) + stats.get(True, 0.0)
    return weight / (weight + shrink) if weight > 0.0 else 0.0
