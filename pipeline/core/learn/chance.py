"""Where do a forest's dice come from? A generator whose whole state is one number: a restored forest throws the same."""

from collections.abc import Sequence
from math import exp
from typing import TypeVar

T = TypeVar("T")
MASK = (1 << 64) - 1


class Chance:
    """SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""

    def __init__(self, state: int) -> None:
        self.state = state & MASK

    def bits(self) -> int:
        """64 random bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def random(self) -> float:
        """Uniform in [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def poisson(self, mean: float) -> int:
        """By multiplication of uniforms (Knuth); meant for means up to 10."""
        least, product, count = exp(-mean), self.random(), 0
        while product > least:
            product *= self.random()
            count += 1
        return count

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """``k`` different elements, all orders equally likely. River's random leaves call it by this name."""
        pool = list(population)
        for i in range(k):
            j = i + int(self.random() * (len(pool) - i))
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]
