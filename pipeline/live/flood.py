"""Is too much of a feed unreadable, and when is it looked at again? A sliding window over its records, and pauses between probes.

Looks across all partitions of the feed that are ours. While a feed is suspended its records wait where they are. After a pause a
probe reads on: what it can read goes on, what it cannot becomes dead letters. A probe that finds most of it readable ends the
suspension; else the next pause is longer, and so is the probe, so that a bad feed makes dead letters at a bounded rate.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from pipeline.core.policy import Feeds

FIRST_PAUSE_S: Final = 5.0  # a producer that was rolled back at once is heard again soon
LONGEST_PAUSE_S: Final = 60.0
PROBED_PER_S: Final = 100  # records of a suspended feed read on average: 3 GB a day of dead letters by reference, at the very most
_STEADY: Final = 10  # windows read without a flood after which a feed counts as mended: the next pause is a first one again


class FloodWatch:
    """Tell when more than ``dead_letter_share`` of the last ``dead_letter_window`` records of a feed were refused."""

    def __init__(self, policy: Feeds) -> None:
        self._window = policy.dead_letter_window
        self._most = policy.dead_letter_share * policy.dead_letter_window
        self._read: dict[str, int] = {}
        self._refused: dict[str, deque[int]] = {}

    def floods(self, feed: str, records: int, refused: Sequence[int]) -> bool:
        """Note ``records`` more of a feed, those at the places ``refused`` (from 0) refused. Has it flooded at any of them?"""
        start = self._read.get(feed, 0)
        self._read[feed] = start + records
        known = self._refused.setdefault(feed, deque())
        for place in refused:
            number = start + place
            known.append(number)
            while known[0] <= number - self._window:
                known.popleft()
            if len(known) > self._most:
                return True
        return False

    def most(self, records: int, refused: int) -> bool:
        """Is too large a share of these records refused, whatever was before?"""
        return refused * self._window > self._most * records

    def forget(self, feed: str) -> None:
        """Watch the feed as if from the beginning."""
        self._read.pop(feed, None)
        self._refused.pop(feed, None)

    def steady(self, feed: str) -> bool:
        """Has the feed been read for long since it was last forgotten?"""
        return self._read.get(feed, 0) >= _STEADY * self._window


class Suspensions:
    """Which feeds are suspended, and when is each probed?"""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """``clock``: seconds that only go forward."""
        self._clock = clock
        self._pause: dict[str, float] = {}  # the last one of each feed
        self._due: dict[str, float | None] = {}  # of the feeds that are suspended; None while one is probed

    def __contains__(self, feed: str) -> bool:
        return feed in self._due

    def probed(self, feed: str) -> bool:
        """Is a probe of the feed under way?"""
        return feed in self._due and self._due[feed] is None

    def pause(self, feed: str, again: bool) -> float:
        """Suspend the feed, or go on suspending it, for a pause (s): a longer one ``again``, else the first."""
        last = self._pause.get(feed)
        pause = FIRST_PAUSE_S if last is None or not again else min(2 * last, LONGEST_PAUSE_S)
        self._pause[feed] = pause
        self._due[feed] = self._clock() + pause
        return pause

    def due(self) -> dict[str, int]:
        """Begin the probes that are due: feed -> how many records each may read."""
        now = self._clock()
        begun = [feed for feed, at in self._due.items() if at is not None and at <= now]
        self._due.update(dict.fromkeys(begun))
        return {feed: int(PROBED_PER_S * self._pause[feed]) for feed in begun}

    def end(self, feed: str) -> None:
        """The feed is read again."""
        self._due.pop(feed, None)
