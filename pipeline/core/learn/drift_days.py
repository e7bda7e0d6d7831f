"""What is kept of a day, and when is it over? A bounded sample of its challenges, and the order of days in a log of several partitions.

Between ``decisions``, which has no order between its partitions, and ``drift_watch``, which looks at whole days (UTC). A day is the same
however unevenly the partitions are read, and however often a decision comes: all that is kept are sets, by a hash of the challenge.
"""

from collections import deque
from collections.abc import Collection, Iterable
from hashlib import blake2b
from heapq import heappush, heapreplace, nsmallest
from typing import Final, Generic, TypeVar

from pipeline.core.events import Ms
from pipeline.core.learn.drift import DriftSettings

DAY_MS: Final = 86_400_000
HASHES: Final = 1 << 64
V = TypeVar("V")


def place_of(challenge: str) -> int:
    """The hash that orders the challenges of a day, below ``HASHES``.

    Not the one by which examples are sampled: where both are of one day, the smallest would be those that nobody labelled.
    """
    return int.from_bytes(blake2b(challenge.encode(), digest_size=8, person=b"drift").digest(), "big")


class Sample(Generic[V]):
    """Those with the smallest hashes of all that were offered, at most ``most``; of one hash the first that was kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.kept: dict[int, V] = {}
        self._largest: list[int] = []  # a heap of the hashes, negated

    def admits(self, place: int) -> bool:
        """Whether a value at this hash would be kept, and is not yet."""
        return place not in self.kept and (len(self.kept) < self._most or place < -self._largest[0])

    def keep(self, place: int, value: V) -> None:
        """Keep a value that is admitted, in place of the one with the largest hash where there is no room."""
        if len(self.kept) < self._most:
            heappush(self._largest, -place)
        else:
            del self.kept[-heapreplace(self._largest, -place)]
        self.kept[place] = value


def distinct(places: Iterable[int], most: int) -> int:
    """How many different hashes there were, of which ``places`` has at least the ``most`` smallest, or all.

    Exact below ``most``; from there on what the largest of the smallest says, whose standard error is 1 / sqrt(most - 2): 2.2 % of 2,000.
    """
    smallest = nsmallest(most, set(places))
    return len(smallest) if len(smallest) < most else (most - 1) * HASHES // max(1, smallest[-1])


class Day(Generic[V]):
    """One day: rows of the challenges that were entered, and which ones alarmed, entered or not."""

    def __init__(self, number: int, most: int) -> None:
        """``number``: days since 1970; ``most``: of each that are kept."""
        self.number = number
        self._most = most
        self.entered: Sample[V] = Sample(most)
        self.alarmed: Sample[None] = Sample(most)

    def alarm(self, place: int) -> None:
        """A challenge was at level alert."""
        if self.alarmed.admits(place):
            self.alarmed.keep(place, None)

    @property
    def alerts(self) -> int:
        """How many challenges alarmed; see ``distinct``."""
        return distinct(self.alarmed.kept, self._most)

    @property
    def challenges(self) -> int:
        """How many challenges were entered or alarmed, never fewer than ``alerts``; see ``distinct``."""
        return distinct((*self.entered.kept, *self.alarmed.kept), self._most)

    def rows(self) -> deque[V]:
        """What is kept of those that were entered, in the order of their hash."""
        return deque(self.entered.kept[place] for place in sorted(self.entered.kept))


class OpenDays(Generic[V]):
    """The days that are not over yet, of partitions that each come more or less in the order of time.

    A day is over when every partition has come ``patience`` into the next one. One that has been read to its end is not waited for: the
    others say how late it is. So a day ends with the first decisions after it, and where none come it stays open. A decision is late,
    and counts for nothing, when its own partition had come that far before, or when its day is over. Above ``most_open`` days the oldest
    ends, whoever is behind.
    """

    def __init__(self, partitions: Collection[int], settings: DriftSettings) -> None:
        self._settings = settings
        self._newest: dict[int, Ms] = dict.fromkeys(partitions, 0)
        self._at_end: frozenset[int] = frozenset()
        self._days: dict[int, Day[V]] = {}
        self._over: list[Day[V]] = []
        self._last = -1  # the number of the last day that is over
        self.late = 0

    def __len__(self) -> int:
        """How many days are open."""
        return len(self._days)

    def reached(self, partition: int, time: Ms) -> None:
        """A decision of this time has been read: the partition is not at its end, as far as is known."""
        self._newest[partition] = max(self._newest[partition], time)
        if partition in self._at_end:
            self._at_end -= {partition}

    def at_end(self, partitions: Collection[int]) -> None:
        """These partitions, and no others, have been read to their end."""
        self._at_end = frozenset(partitions)

    def day(self, partition: int, time: Ms) -> Day[V] | None:
        """The day of a decision that counts, which is opened where need be; None where it comes too late."""
        number = time // DAY_MS
        if number not in self._days and number > self._last:
            self._days[number] = Day(number, self._settings.a_day)
            if len(self._days) > self._settings.most_open:
                self._end_day(min(self._days))
        if number <= self._last or self._end(number) <= self._newest[partition]:
            self.late += 1
            return None
        return self._days[number]

    def over(self) -> list[Day[V]]:
        """The days that have ended since the last call, in order."""
        clock = max(self._newest.values(), default=0)
        reached = min((newest for partition, newest in self._newest.items() if partition not in self._at_end), default=clock)
        for number in sorted(self._days):
            if self._end(number) > reached:
                break
            self._end_day(number)
        over, self._over = self._over, []
        return over

    def _end(self, number: int) -> Ms:
        return (number + 1) * DAY_MS + self._settings.patience

    def _end_day(self, number: int) -> None:
        self._over.append(self._days.pop(number))
        self._last = number
