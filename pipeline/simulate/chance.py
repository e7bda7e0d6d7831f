"""How does a seed become chance that is the same everywhere: derived generators, spreads, and the hours of the day."""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import TypeVar

import msgspec

T = TypeVar("T")

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def derived(seed: int, *parts: str | int) -> Random:
    """Return the generator that belongs to this seed and name, the same on every machine and in every order of use."""
    text = "/".join(map(str, (seed, *parts)))
    return Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big"))


class Spread(msgspec.Struct, frozen=True):
    """A log-normal spread: ``median`` in the unit of its name, ``sigma`` of the logarithm."""

    median: float
    sigma: float

    def draw(self, rng: Random) -> float:
        return self.median * math.exp(self.sigma * rng.gauss(0.0, 1.0))

    def ms(self, rng: Random) -> int:
        """Draw a duration; the median is in seconds, the result in milliseconds."""
        return int(1000 * self.median * math.exp(self.sigma * rng.gauss(0.0, 1.0)))


class Span(msgspec.Struct, frozen=True):
    """Anything between two bounds is as likely."""

    low: float
    high: float

    def draw(self, rng: Random) -> float:
        return self.low + (self.high - self.low) * rng.random()

    def ms(self, rng: Random) -> int:
        """Draw a duration; the bounds are in seconds, the result in milliseconds."""
        return int(1000 * (self.low + (self.high - self.low) * rng.random()))


def poisson(rng: Random, mean: float) -> int:
    """Draw how often something that happens ``mean`` times on average happens."""
    if mean > 40.0:  # Knuth's method needs one draw per event; the normal limit is close enough here
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    floor, product, n = math.exp(-mean), rng.random(), 0
    while product > floor:
        product *= rng.random()
        n += 1
    return n


def weighted(rng: Random, choices: Sequence[tuple[T, float]]) -> T:
    """Choose one of ``(value, weight)``."""
    left = rng.random() * sum(w for _, w in choices)
    for value, weight in choices:
        left -= weight
        if left < 0.0:
            return value
    return choices[-1][0]


class Clock(msgspec.Struct, frozen=True):
    """When within a window something that follows the hours of the day takes place."""

    begin: int
    ends: tuple[int, ...]  # of each hour-long step, ms since the epoch
    sums: tuple[float, ...]  # running weight up to each end, in days

    @property
    def days(self) -> float:
        """How many average days' worth of it fits into the window."""
        return self.sums[-1] if self.sums else 0.0

    def pick(self, rng: Random) -> int:
        """Choose an instant, ms."""
        i = min(bisect_right(self.sums, rng.random() * self.sums[-1]), len(self.ends) - 1)
        begin = self.ends[i - 1] if i else self.begin
        return begin + int(rng.random() * (self.ends[i] - begin))


@lru_cache(maxsize=256)
def clock(begin: int, end: int, offset_min: int, weights: tuple[float, ...]) -> Clock:
    """Build the clock of a window for people at this offset from UTC; ``weights`` has one number per local hour."""
    ends: list[int] = []
    parts: list[float] = []
    at, total = begin, sum(weights)
    while at < end:
        local = at + offset_min * MINUTE
        step = min(end, at - local % HOUR + HOUR)
        weight = weights[(local // HOUR) % 24]
        ends.append(step)
        parts.append(weight / total * (step - at) / HOUR)
        at = step
    return Clock(begin, tuple(ends), tuple(accumulate(parts)))


WAKING = tuple(1.0 if 7 <= h < 23 else 0.02 for h in range(24))  # calls: a 16-hour day (domain.md, base-rate arithmetic)
LOGINS = (0.15, 0.08, 0.05, 0.05, 0.1, 0.3, 0.8, 1.5, 1.6, 1.4, 1.2, 1.2, 1.4, 1.3, 1.1, 1.0, 1.1, 1.3, 1.5, 1.5, 1.4, 1.1, 0.7, 0.3)
WORKING = tuple(1.0 if 9 <= h < 20 else 0.1 if 7 <= h < 22 else 0.0 for h in range(24))  # bots ring when people answer
