"""What is a blend in numbers? Its settings and state, and what its stack is given; for the blend that learns and the one that scores."""

from pipeline.core.learn.prediction import bounded
from pipeline.core.learn.schema import FeatureValue, Spread, plain_number, standardise

ANOMALY = "anomaly"  # the name under which the anomaly score contributes
KNOWN = "known"  # the name under which the log-odds of what people know come in beside the features, and contribute
INPUTS = ("linear", "forest", ANOMALY, KNOWN)


class Unusual:
    """The anomaly score in standard deviations from its mean; 0 while there is none."""

    def __init__(self, spread: Spread) -> None:
        self.count, self.mean, self.variance = spread.count, spread.mean, spread.variance

    def learn(self, score: float | None) -> None:
        if score is not None:
            self.count += 1
            before = self.mean
            self.mean += (score - before) / self.count
            self.variance += ((score - before) * (score - self.mean) - self.variance) / self.count

    def standard(self, score: float | None) -> float:
        return 0.0 if score is None else standardise(score, self.mean, self.variance)

    def state(self) -> Spread:
        return Spread(self.count, self.mean, self.variance)


def known(people: FeatureValue | None) -> float:
    """The log-odds of what people know, within bounds; 0 where the caller has none. Raises ValueError for what is no number."""
    return 0.0 if people is None else bounded(plain_number(KNOWN, people))
