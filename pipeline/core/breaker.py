"""Are the detector's own alerts a flood? The new findings of one partition in a sliding window, and which of them are still heard.

Two stages. As long as fewer than the policy's bound were made within the window, every finding is heard. Beyond it only those are that
belong to the most probable of the window, as many as the bound: whoever floods the bank with weak findings to hide an attack does not
hide one that is more probable than they are. The others are written down, marked as suppressed. It closes by itself, when the window holds
fewer again; a finding that was heard is not silenced later, and one that was silenced is heard when its evidence grows, or when it is
updated after the flood.

What counts is kept with the accounts (``Raised``), so it is durable exactly when they are: whatever is folded again after a crash meets
the same window, as long as it spans less time than that. Findings of one record of ``events`` do not count for each other.
"""

from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush

import msgspec

from pipeline.core.events import Ms
from pipeline.core.policy import Flood

MOST_KEPT = 16  # per account: twice what can count within a window


class Raised(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """A new finding that would page: the record of ``events`` that led to it, the time of the log (ms), and its probability."""

    offset: int
    at: Ms
    probability: float


class Breaker:
    """The window of one partition. ``offset`` and ``at``: the record that is folded, and the time of the log (ms)."""

    def __init__(self, policy: Flood) -> None:
        self.offset = -1
        self.at: Ms = 0
        self._policy = policy
        self._window = 1000 * policy.window_s
        self._of: dict[str, tuple[Raised, ...]] = {}  # per account, what is in the window or ahead
        self._ahead: list[tuple[Raised, str]] = []  # a heap: what counts from a later record on
        self._in: list[tuple[Ms, int, str, float]] = []  # in the window, oldest first
        self._probable: list[float] = []  # the same, least probable first

    def passes(self, probability: float) -> bool:
        """Whether a new finding is heard: no flood, or it belongs to the most probable of the window."""
        self._move()
        most = self._policy.findings
        return len(self._in) < most or len(self._probable) - bisect_left(self._probable, probability) < most

    @property
    def is_open(self) -> bool:
        """Whether there is a flood."""
        self._move()
        return len(self._in) >= self._policy.findings

    def counted(self, raised: tuple[Raised, ...], probability: float) -> tuple[Raised, ...]:
        """What an account has raised, with one more finding; the same object when its share of the window is used up."""
        since = self.at - self._window
        if sum(one.at > since for one in raised) >= self._policy.per_account:
            return raised
        return (*raised, Raised(self.offset, self.at, probability))[-MOST_KEPT:]

    def note(self, account_id: str, raised: tuple[Raised, ...]) -> None:
        """Take what an account has raised as its state has it now, in place of what was known of it."""
        since = self.at - self._window
        new = tuple(one for one in raised if one.at > since)
        old = self._of.get(account_id, ())
        if new == old:
            return
        for one in old:
            if one not in new:
                self._remove(account_id, one)
        for one in new:
            if one not in old:
                heappush(self._ahead, (one, account_id))
        if new:
            self._of[account_id] = new
        else:
            self._of.pop(account_id, None)

    def _remove(self, account_id: str, one: Raised) -> None:
        entry = (one.at, one.offset, account_id, one.probability)
        place = bisect_left(self._in, entry)
        if place < len(self._in) and self._in[place] == entry:
            del self._in[place]
            del self._probable[bisect_left(self._probable, one.probability)]
        elif (one, account_id) in self._ahead:
            self._ahead.remove((one, account_id))
            heapify(self._ahead)

    def _move(self) -> None:
        """Let in what earlier records have raised, and out what is older than the window."""
        while self._ahead and self._ahead[0][0].offset < self.offset:
            one, account_id = heappop(self._ahead)
            insort(self._in, (one.at, one.offset, account_id, one.probability))
            insort(self._probable, one.probability)
        since = self.at - self._window
        gone = 0
        for at, offset, account_id, probability in self._in:
            if at > since:
                break
            gone += 1
            del self._probable[bisect_left(self._probable, probability)]
            left = tuple(one for one in self._of.get(account_id, ()) if one != Raised(offset, at, probability))
            if left:
                self._of[account_id] = left
            else:
                self._of.pop(account_id, None)
        del self._in[:gone]
