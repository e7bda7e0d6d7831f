"""How is a blend asked as quickly as an account logs in? Frozen, multiplied out, over a list: the scorer in the hot path of detect.

It says what the blend would say, up to rounding, and skips what weighs nothing. A row starts as that of an example of which nothing is
known, and only the features that are there are looked at. Tests of half-space trees are carried over into the units of the row, and
nodes behind the one where River stops are cut off.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import copysign, inf, log, log1p, sqrt
from typing import Any, Final, NamedTuple

from pipeline.core.learn.forest_scorer import ForestScorer
from pipeline.core.learn.linear_scorer import LinearScorer
from pipeline.core.learn.prediction import MOST_LOG_ODDS, Ask, Prediction, Scorer, sigmoid
from pipeline.core.learn.schema import CUT, MOST, OTHER, FeatureValue, Schema, Spread, by_number, plain_number
from pipeline.core.learn.stack import ANOMALY, INPUTS, KNOWN, Unusual, known
from pipeline.core.learn.states import AnomalySettings, AnomalyState, BlendState, check_spaces, columns_of_spaces

NUMBER: Final = "number"
NOTHING_SEEN: Final = Spread(0, 0.0, 0.0)


class BlendScorer(Scorer):
    """A blend that scores."""

    def __init__(self, state: BlendState) -> None:
        """Raises ValueError when a part does not fit the schema."""
        if not state.schema == state.linear.schema == state.forest.schema == state.anomaly.schema:
            raise ValueError("the members know other features than the blend")
        if len(state.stack.weights) != len(INPUTS):
            raise ValueError("a stack over other members")
        of_linear, of_forest, self._of_anomaly, self._of_known = state.stack.weights
        linear, forest = LinearScorer(state.schema, state.spreads, state.linear.logistic), ForestScorer(state.forest)
        self._bias = state.stack.intercept - log(state.stack.settings.balance)
        self._linear_bias, self._linear_most = of_linear * linear.bias, abs(of_linear) * MOST_LOG_ODDS
        self._forest_bias, self._forest_most = of_forest * forest.bias, abs(of_forest) * MOST_LOG_ODDS
        place = {column: at for at, column in enumerate(state.schema.columns)}
        self._trees = [_scaled(root, of_forest * forest.scale, place) for root in forest.roots] if of_forest else []
        self._blank = _blank(state.schema, state.spreads)
        self._fields, self._absent = _fields(linear, of_linear, place)
        self._names = [name for _, name, *_ in self._fields]
        self._by_name = self.over([*self._names, KNOWN])
        self._unusual = Unusual(state.unusual)
        self._most_mass, self._spaces = 1.0, []
        check_spaces(state.anomaly)  # all of it, whatever it weighs
        if self._of_anomaly and state.anomaly.ready:
            self._most_mass, self._spaces = most_mass(state.anomaly.settings), list(_spaces(state.anomaly, state.spreads, place))

    def over(self, names: Sequence[str]) -> Ask:
        fields = {field[1]: field for field in self._fields}
        return partial(self._ask, [fields.get(name) for name in names], names.index(KNOWN) if KNOWN in names else None)

    def predict(self, features: Mapping[str, FeatureValue]) -> Prediction:
        get = features.get
        return self._by_name([*[get(name) for name in self._names], get(KNOWN)])[1]()

    def _ask(
        self, fields: Sequence[tuple[Any, ...] | None], known_at: int | None, values: Sequence[FeatureValue | None]
    ) -> tuple[float, Callable[[], Prediction]]:
        said = self._said(fields, values, None if known_at is None else values[known_at])
        return said.log_odds, partial(self._prediction, said)

    def _prediction(self, said: "Said") -> Prediction:
        contributions = {name: said.of_linear * c for name, c in zip(self._names, said.parts, strict=True) if c}
        for root in self._trees:
            node = root
            while node is not None:
                at, threshold, name, left, right = node
                step, node = left if said.row[at] <= threshold else right
                contributions[name] = contributions.get(name, 0.0) + said.of_forest * step
        if said.unusual:
            contributions[ANOMALY] = said.unusual
        if said.people:
            contributions[KNOWN] = said.people
        bias = self._bias + said.of_linear * self._linear_bias + said.of_forest * self._forest_bias
        return Prediction(sigmoid(said.log_odds), said.log_odds, bias, contributions)

    def _said(self, fields: Sequence[tuple[Any, ...] | None], values: Sequence[FeatureValue | None], people: FeatureValue | None) -> "Said":
        row, parts = self._row(fields, values)
        linear, forest = self._linear_bias + sum(parts), self._forest_bias
        for root in self._trees:
            node = root
            while node is not None:
                at, threshold, _, left, right = node
                step, node = left if row[at] <= threshold else right
                forest += step
        of_linear, of_forest = _within(linear, self._linear_most), _within(forest, self._forest_most)
        unusual = self._of_anomaly * self._unusual.standard(self._anomaly(row))
        of_people = self._of_known * known(people)
        log_odds = self._bias + of_linear * linear + of_forest * forest + unusual + of_people
        return Said(log_odds, row, parts, of_linear, of_forest, unusual, of_people)

    def _row(self, fields: Sequence[tuple[Any, ...] | None], values: Sequence[FeatureValue | None]) -> tuple[list[float], list[float]]:
        """Every column, numbers unscaled, and what the linear member makes of each field. Raises ValueError as ``row_of`` does."""
        row, parts = self._blank.copy(), self._absent.copy()
        for field, value in zip(fields, values, strict=True):
            if value is None or field is None:
                continue
            number, name, kind, at, missing, words, other, mean, most, in_logs = field
            if kind is NUMBER:
                x: float = value  # type: ignore[assignment]
                if type(value) is str or not -MOST <= x <= MOST:
                    x = plain_number(name, value)
                if in_logs:
                    x = copysign(log1p(abs(x)), x)
                row[at] = x
                c = (x - mean) * other
                if not -most <= c <= most:
                    c = copysign(most, c)
            elif type(value) is kind:
                column, c = words.get(value, other)
                row[column] = 0.0 if value is False else 1.0  # an empty word is one too
            else:
                raise ValueError(f"{name}: not a {'flag' if kind is bool else 'word'}")
            row[missing] = 0.0
            parts[number] = c
        return row, parts

    def _anomaly(self, row: list[float]) -> float | None:
        """How unusual, 0 to 1; None before the first window is complete."""
        if not self._spaces:
            return None
        mass = 0.0
        for root in self._spaces:
            node = root
            while node is not None:
                here, at, threshold, missing, default, left, right = node
                mass += here
                node = default if row[missing] else left if row[at] < threshold else right
        return 1 - mass / self._most_mass


class Said(NamedTuple):
    """The log-odds, and what they are made of: the row, each field's part in the linear member, what brings both members within bounds."""

    log_odds: float
    row: list[float]
    parts: list[float]
    of_linear: float
    of_forest: float
    unusual: float
    people: float


def _within(log_odds: float, most: float) -> float:
    """The factor that brings a member's log-odds within bounds; nearly always 1."""
    return 1.0 if -most <= log_odds <= most else most / abs(log_odds)


def _blank(schema: Schema, spreads: tuple[Spread, ...]) -> list[float]:
    """The row of an example of which nothing is known: numbers at their means."""
    spread, row = by_number(schema, spreads), []
    for field in schema.fields:
        seen = spread.get(field.name)
        row += [seen.mean if seen is not None and seen.count else 0.0] + [0.0] * (len(field.columns) - 2) + [1.0]
    return row


def _fields(linear: LinearScorer, weight: float, place: Mapping[str, int]) -> tuple[list[tuple[Any, ...]], list[float]]:
    """How each feature fills the row and what it contributes, and what the absence of each contributes."""
    fields: list[tuple[Any, ...]] = []
    absent: list[float] = []
    for name, mean, per_unit, most, in_logs, missing in linear.numbers:
        fields.append(
            (len(fields), name, NUMBER, place[name], place[f"{name}?"], None, weight * per_unit, mean, abs(weight) * most, in_logs)
        )
        absent.append(weight * missing)
    for name, kind, table, other, missing in linear.words:
        if kind is bool:
            words = {word: (place[name], weight * c) for word, c in table.items()}
            rest = None
        else:
            words = {word: (place[f"{name}={word}"], weight * c) for word, c in table.items()}
            rest = (place[f"{name}={OTHER}"], weight * other)
        fields.append((len(fields), name, kind, 0, place[f"{name}?"], words, rest, 0.0, 0.0, False))
        absent.append(weight * missing)
    return fields, absent


def _scaled(node: Any, scale: float, place: Mapping[str, int]) -> Any:
    """A tree of the forest whose steps are multiplied out, and whose columns are places."""
    if node is None:
        return None
    column, threshold, name, *sides = node
    return (place[column], threshold, name, *((scale * step, _scaled(under, scale, place)) for step, under in sides))


def least_mass(settings: AnomalySettings) -> float:
    """River looks at no node below one that fewer examples of the last window have come to."""
    return 0.1 * settings.window


def most_mass(settings: AnomalySettings) -> float:
    """What the masses are divided by, as in River."""
    return float(settings.trees * settings.window * (2 ** (settings.height + 1) - 1))


def _spaces(state: AnomalyState, spreads: tuple[Spread, ...], place: Mapping[str, int]) -> Any:
    """Each half-space tree: ``(mass, place, threshold, place of what says missing, then, (less), (else))``; None below what counts."""
    columns, least = columns_of_spaces(state.schema), least_mass(state.settings)
    spread, owner = by_number(state.schema, spreads), state.schema.owner
    for tree in state.trees:
        tests = iter(zip(tree.columns, tree.thresholds, strict=True))
        masses = iter(zip(tree.last, tree.current, strict=True))

        def grow(height: int, power: int, tests: Any = tests, masses: Any = masses) -> tuple[Any, int]:
            last, current = next(masses)
            if height == 0:
                return (last * power, 0, 0.0, 0, None, None, None), current
            number, threshold = next(tests)
            left, on_left = grow(height - 1, 2 * power)
            right, on_right = grow(height - 1, 2 * power)
            if last < least:  # River stops here
                return (last * power, 0, 0.0, 0, None, None, None), current
            column = columns[number]
            name = owner[column]
            if name in state.schema.numbers:
                threshold = raw_threshold(threshold, spread.get(name, NOTHING_SEEN))
            default = right if on_left < on_right else left
            return (last * power, place[column], threshold, place[f"{name}?"], default, left, right), current

        yield grow(state.settings.height, 1)[0]


def raw_threshold(threshold: float, spread: Spread) -> float:
    """The number that a test in the unit cube stands for (``Anomaly.point``); infinite where all numbers fall on one side of it."""
    sign = 2.0 * threshold - 1.0
    z = sign / (1.0 - abs(sign)) if abs(sign) < 1.0 else copysign(inf, sign)
    if spread.variance <= 0.0:
        return inf if z > 0.0 else -inf
    if z > CUT:
        return inf
    return spread.mean + z * sqrt(spread.variance) if z > -CUT else -inf
