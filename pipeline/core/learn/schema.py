"""Which features does a model know, and how do they become columns? Features -> a row of numbers in which missing is missing.

The vocabulary is declared and bounded: a model never grows a column because the world sent a new word. Every field has a column of its
own that says "missing" (``name?``); the field's other columns are then neutral (a number its running mean, a flag and a category 0), so
that absent data is evidence of its own and never a zero.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from math import copysign, isfinite, log1p, nan, sqrt
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

FeatureValue = float | int | bool | str
Row = dict[str, float]  # every column of a schema, in its order

MOST_COLUMNS = 1024
OTHER = "other"  # the column of a word that was not declared
Name = Annotated[str, Meta(min_length=1, max_length=64)]


def is_absence(column: str) -> bool:
    """Whether a column says that a feature is missing.

    >>> is_absence("channel?"), is_absence("channel=sms"), is_absence("channel=what?")
    (True, False, False)
    """
    return column.endswith("?") and "=" not in column


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One feature: its name, what it is, the words of a category, and whether a number spans orders of magnitude.

    ``log`` numbers are taken as sign(x) * ln(1 + abs(x)).
    """

    name: Name
    kind: Literal["number", "flag", "category"]
    words: tuple[Name, ...] = ()
    log: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        if self.kind == "category":
            return (*(f"{self.name}={word}" for word in (*self.words, OTHER)), f"{self.name}?")
        return (self.name, f"{self.name}?")


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The vocabulary of a model. ``id`` is a hash of its content and goes into every snapshot."""

    fields: Annotated[tuple[Field, ...], Meta(min_length=1, max_length=256)]

    def __post_init__(self) -> None:
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("a column is declared twice")
        if len(self.columns) > MOST_COLUMNS:
            raise ValueError(f"{len(self.columns)} columns; at most {MOST_COLUMNS}")
        if any((f.kind == "category") != bool(f.words) for f in self.fields):
            raise ValueError("a category, and nothing else, declares its words")

    @cached_property
    def id(self) -> str:
        """``f_`` and ten characters of the content's SHA-256."""
        return "f_" + hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:10]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for field in self.fields for column in field.columns)

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.kind == "number")

    @cached_property
    def owner(self) -> dict[str, str]:
        """Column -> the feature it speaks of."""
        return {column: field.name for field in self.fields for column in field.columns}


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What is known of one number: how often seen, its mean and variance (after the logarithm, where the field asks for one)."""

    count: Annotated[int, Meta(ge=0)]
    mean: float
    variance: Annotated[float, Meta(ge=0)]


def by_number(schema: Schema, spreads: tuple[Spread, ...]) -> dict[str, Spread]:
    """The spreads by name; none at all before anything was learned. Raises ValueError when they are not one for each number."""
    if spreads and len(spreads) != len(schema.numbers):
        raise ValueError("one spread for each number")
    return dict(zip(schema.numbers, spreads, strict=False))


def means_of(schema: Schema, spreads: tuple[Spread, ...]) -> dict[str, float]:
    """The mean of each number that has been seen. Raises ValueError as ``by_number`` does."""
    return {name: s.mean for name, s in by_number(schema, spreads).items() if s.count}


MOST = 1e12  # a number beyond is taken for this: its square must stay finite
CUT = 8.0  # standard deviations: one absurd value must not drag every weight along


def standardise(value: float, mean: float, variance: float) -> float:
    if variance <= 0.0:
        return 0.0
    return max(-CUT, min(CUT, (value - mean) / sqrt(variance)))


def plain_number(name: str, value: FeatureValue) -> float:
    """A number within bounds. Raises ValueError when it is none, not finite, or an integer that no float holds."""
    try:
        plain = nan if isinstance(value, str) else float(value)
    except OverflowError:
        plain = nan
    if not isfinite(plain):
        raise ValueError(f"{name}: not a finite number")
    return max(-MOST, min(MOST, plain))


def number(field: Field, value: FeatureValue) -> float:
    """A number as its column takes it. Raises ValueError as ``plain_number`` does."""
    plain = plain_number(field.name, value)
    return copysign(log1p(abs(plain)), plain) if field.log else plain


def flag(field: Field, value: FeatureValue) -> float:
    if not isinstance(value, bool):
        raise ValueError(f"{field.name}: not a flag")
    return 1.0 if value else 0.0


def word_column(field: Field, value: FeatureValue) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field.name}: not a word")
    return f"{field.name}={value if value in field.words else OTHER}"


def row_of(schema: Schema, means: Mapping[str, float], features: Mapping[str, FeatureValue]) -> Row:
    """Every column, numbers unscaled, absent ones at their means. Raises ValueError on a value of the wrong kind or that is not finite."""
    row = dict.fromkeys(schema.columns, 0.0)
    for field in schema.fields:
        name = field.name
        value = features.get(name)
        if value is None:
            row[f"{name}?"] = 1.0
            if field.kind == "number":
                row[name] = means.get(name, 0.0)
        elif field.kind == "number":
            row[name] = number(field, value)
        elif field.kind == "flag":
            row[name] = flag(field, value)
        else:
            row[word_column(field, value)] = 1.0
    return row
