"""Is too much of a feed unreadable? Counts dead letters per feed over a sliding window of its records."""

from collections import deque

from pipeline.core.errors import DeadLetterFlood
from pipeline.core.policy import Feeds


class FloodGate:
    """Raise DeadLetterFlood when more than ``dead_letter_share`` of a feed's last ``dead_letter_window`` records were refused.

    Costs nothing for a record that can be read: a feed's own record count tells how far back the window reaches.
    """

    def __init__(self, policy: Feeds) -> None:
        self._window = policy.dead_letter_window
        self._most = policy.dead_letter_share * policy.dead_letter_window
        self._refused: dict[str, deque[int]] = {}

    def refused(self, feed: str, number: int, reason: str) -> None:
        """Note that the ``number``-th record of the feed (from 1) was refused."""
        refused = self._refused.setdefault(feed, deque())
        refused.append(number)
        while refused[0] <= number - self._window:
            refused.popleft()
        if len(refused) > self._most:
            raise DeadLetterFlood(
                f"{len(refused)} of the last {min(number, self._window)} records of {feed} cannot be read (the last one: {reason}); "
                f"see dead-letters.jsonl, repair the log or leave the feed out"
            )
