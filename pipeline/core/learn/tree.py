"""How does one Hoeffding tree (River) learn, score and become numbers? The member of the forest.

The tree is the base tree of River's adaptive random forest: each leaf watches a random few columns, and splits when the Hoeffding bound
says that the best split is the best. Its score is ours: log-odds along the path, shrunk as in Agarwal et al., "Hierarchical shrinkage"
(2022): a step from a parent of weight n counts n / (n + shrink), so that a leaf of few examples stays near its ancestors. The steps of
a path add up to the score, so each column on the path gets its share exactly (Saabas attribution, in log-odds).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from river.forest.adaptive_random_forest import BaseTreeClassifier
from river.proba import Gaussian
from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.splitter import GaussianSplitter

from pipeline.core.learn.chance import Chance
from pipeline.core.learn.forest_scorer import node_log_odds, share_of, trust_in
from pipeline.core.learn.schema import Row
from pipeline.core.learn.states import DEEPEST, Branch, Leaf, Observed, TreeSettings, TreeState


class Tree:
    """One tree that learns."""

    def __init__(self, columns: Sequence[str], settings: TreeSettings, chance: Chance, state: TreeState = TreeState()) -> None:  # noqa: B008
        """Raises ValueError when the nodes are no tree over these columns."""
        self.columns, self.settings = tuple(columns), settings
        self.model = BaseTreeClassifier(
            max_features=min(settings.columns_per_leaf, len(columns)),
            grace_period=settings.grace_period,
            delta=settings.delta,
            tau=settings.tau,
            max_depth=settings.max_depth,
            leaf_prediction="mc",
            splitter=GaussianSplitter(),
            rng=chance,
        )
        if state.nodes:
            Planting(self.columns, self.model).plant(state)

    def path(self, row: Row) -> list[Any]:
        """The nodes from the root to the leaf of this row; none before the first example."""
        node = self.model._root
        path = []
        while node is not None:
            path.append(node)
            if not isinstance(node, NumericBinaryBranch):
                break
            node = node.children[0 if row[node.feature] <= node.threshold else 1]
        return path

    def log_odds(self, path: list[Any]) -> float | None:
        """Of a path; balanced as learned. None before the first example."""
        if not path:
            return None
        share = share_of(path[0].stats)
        before = total = node_log_odds(path[0].stats, share)
        for parent, node in pairwise(path):
            here = node_log_odds(node.stats, share)
            total += (here - before) * trust_in(parent.stats, self.settings.shrink)
            before = here
        return total

    def learn(self, path: list[Any], row: Row, label: bool, weight: float) -> None:
        """Learn a row whose path is known."""
        self.model.learn_one(row, label, w=weight)
        for node in path[:-1]:  # River counts in leaves only; the leaf itself has counted, even where it has just become a branch
            node.stats[label] = node.stats.get(label, 0.0) + weight
        if self.model._growth_allowed and self.model._n_active_leaves + self.model._n_inactive_leaves >= self.settings.most_leaves:
            self._stop_growing()

    def _stop_growing(self) -> None:
        self.model._growth_allowed = False
        for leaf in self.model._root.iter_leaves():
            if leaf.is_active():
                leaf.deactivate()
                self.model._n_active_leaves -= 1
                self.model._n_inactive_leaves += 1

    def state(self, to_learn: bool = True) -> TreeState:
        """In numbers; with ``to_learn=False`` without what the leaves have seen of their columns, which only learning needs."""
        m = self.model
        if m._root is None:
            return TreeState()
        place = {column: i for i, column in enumerate(self.columns)}
        nodes = tuple(node_state(node, place, to_learn) for node in preorder(m._root))
        return TreeState(nodes, m._n_active_leaves, m._n_inactive_leaves, float(m._train_weight_seen_by_model), m._growth_allowed)


def preorder(node: Any) -> Iterator[Any]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, NumericBinaryBranch):
            waiting += [node.children[1], node.children[0]]


def node_state(node: Any, place: dict[str, int], to_learn: bool) -> Branch | Leaf:
    benign, fraud = node.stats.get(False), node.stats.get(True)
    if isinstance(node, NumericBinaryBranch):
        return Branch(benign, fraud, place[node.feature], float(node.threshold))
    if not to_learn:
        return Leaf(benign, fraud, 0.0, False, (), ())
    watched = node.splitters or {}
    return Leaf(
        benign,
        fraud,
        float(node.last_split_attempt_at),
        node.is_active(),
        tuple(place[column] for column in node.feature_indices),
        tuple((observed(watched[c], False), observed(watched[c], True)) for c in node.feature_indices if c in watched),
    )


def observed(splitter: GaussianSplitter, label: bool) -> Observed | None:
    seen = splitter._att_dist_per_class.get(label)
    if seen is None:
        return None
    var = seen._var
    return Observed(
        float(var.mean.n),
        float(var.mean._mean),
        float(var._S),
        float(splitter._min_per_class[label]),
        float(splitter._max_per_class[label]),
    )


class Planting:
    """Rebuilds River's nodes from numbers."""

    def __init__(self, columns: tuple[str, ...], model: BaseTreeClassifier) -> None:
        self.columns, self.model = columns, model

    def plant(self, state: TreeState) -> None:
        """Give the model its root and counters. Raises ValueError when the nodes are no tree, or name a column that is not there."""
        nodes = iter(state.nodes)
        m = self.model
        m._root = self._grow(nodes, 0)
        if next(nodes, None) is not None:
            raise ValueError("nodes left over")
        m.classes = {True, False}
        m._n_active_leaves, m._n_inactive_leaves = state.active_leaves, state.inactive_leaves
        m._train_weight_seen_by_model, m._growth_allowed = state.weight_seen, state.grows

    def _grow(self, nodes: Iterator[Branch | Leaf], depth: int) -> Any:
        node = next(nodes, None)
        if node is None or depth > DEEPEST:
            raise ValueError("a branch without its children" if node is None else "too deep")
        stats = {label: w for label, w in ((False, node.benign), (True, node.fraud)) if w is not None}
        if isinstance(node, Branch):
            left = self._grow(nodes, depth + 1)
            right = self._grow(nodes, depth + 1)
            return NumericBinaryBranch(stats, self._column(node.column), node.threshold, depth, left, right)
        leaf = self.model._new_leaf(stats)
        leaf.depth = depth
        leaf.last_split_attempt_at = node.attempt_at
        leaf.feature_indices = [self._column(i) for i in node.columns]
        if not node.active:
            leaf.deactivate()
        elif node.observed:
            if len(node.observed) != len(node.columns):
                raise ValueError("not one observation for each column")
            leaf.splitters = {c: splitter(seen) for c, seen in zip(leaf.feature_indices, node.observed, strict=True)}
        return leaf

    def _column(self, index: int) -> str:
        if not 0 <= index < len(self.columns):
            raise ValueError(f"no column {index}")
        return self.columns[index]


def splitter(seen: tuple[Observed | None, Observed | None]) -> GaussianSplitter:
    out = GaussianSplitter()
    for label, o in zip((False, True), seen, strict=True):
        if o is not None:
            gaussian = Gaussian()
            gaussian._var.mean.n, gaussian._var.mean._mean, gaussian._var._S = o.weight, o.mean, o.squares
            out._att_dist_per_class[label] = gaussian
            out._min_per_class[label], out._max_per_class[label] = o.least, o.most
    return out
