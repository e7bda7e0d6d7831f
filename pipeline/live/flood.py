"""Is too much of a feed unreadable? Looks at a sliding window of its records, across all its partitions that are ours."""

from collections import deque
from collections.abc import Sequence

from pipeline.core.policy import Feeds


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
