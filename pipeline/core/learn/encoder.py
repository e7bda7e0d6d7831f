"""How does an example become a row? The encoder that learns means and spreads (River's StandardScaler) on the way."""

from collections.abc import Mapping

from river import preprocessing

from pipeline.core.learn.schema import FeatureValue, Row, Schema, Spread, by_number, number, row_of, standardise


class Encoder:
    """Features -> Row. Learns the mean and spread of the numbers that are there (River's StandardScaler)."""

    def __init__(self, schema: Schema, spreads: tuple[Spread, ...] = ()) -> None:
        """Raises ValueError when ``spreads`` does not fit the schema: one for each number, in its order, or none at all."""
        self.schema = schema
        seen = {name: s for name, s in by_number(schema, spreads).items() if s.count}
        self.scaler = preprocessing.StandardScaler._from_state(
            counts={name: s.count for name, s in seen.items()},
            means={name: s.mean for name, s in seen.items()},
            vars={name: s.variance for name, s in seen.items()},
        )

    def learn(self, features: Mapping[str, FeatureValue]) -> None:
        """Take the numbers that are there into the means and spreads. Raises ValueError as ``row`` does."""
        self.scaler.learn_one(
            {f.name: number(f, features[f.name]) for f in self.schema.fields if f.kind == "number" and f.name in features}
        )

    def spreads(self) -> tuple[Spread, ...]:
        s = self.scaler  # .get, not []: its dictionaries grow by being asked
        return tuple(Spread(s.counts.get(n, 0), s.means.get(n, 0.0), s.vars.get(n, 0.0)) for n in self.schema.numbers)

    def row(self, features: Mapping[str, FeatureValue]) -> Row:
        """Every column, numbers unscaled. Raises ValueError on a value of the wrong kind or that is not finite."""
        return row_of(self.schema, self.scaler.means, features)

    def scaled(self, row: Row) -> Row:
        """The row with its numbers in standard deviations from their means, cut at ``CUT``."""
        means, variances = self.scaler.means, self.scaler.vars
        out = dict(row)
        for name in self.schema.numbers:
            out[name] = standardise(row[name], means.get(name, 0.0), variances.get(name, 0.0))
        return out
