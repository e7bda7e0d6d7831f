"""What time is it inside the log? Ingest makes beats from arrivals; detect merges them into one time and the set of missing feeds.

A beat says how far its writer has read each raw partition it owns. The time of an events partition is the smallest mark over
all partitions of all feeds that keep up; a feed that is behind, suspended or silent is missing and holds nothing back.
"""

import msgspec

from pipeline.core.events import FEEDS, Beat, Feed, Mark, Ms
from pipeline.core.policy import Policy

BEAT_MS = 1000  # one beat a second of arrival time (architecture.md)
QUIET_FEEDS: frozenset[str] = frozenset(("phone-links", "account-changes", "dispositions"))  # silence is normal in these


class BeatMaker:
    """Make a beat for each second of arrival time from what one ingest worker has read."""

    def __init__(self, partitions: dict[Feed, int]) -> None:
        """``partitions``: number of partitions of every feed that exists."""
        self.partitions: dict[str, int] = {feed: count for feed, count in partitions.items()}  # noqa: C416 (widens the key type)
        self.suspended: set[str] = set()
        self._marks: dict[str, Mark] = {}
        self._last: Ms | None = None

    def arrived(self, feed: Feed, partition: int, arrived_at: Ms) -> None:
        """Note that a record was read and its outputs handed on."""
        key = f"{feed}/{partition}"
        mark = self._marks.get(key)
        if mark is None:
            self._marks[key] = Mark(arrived_at, arrived_at)
        elif mark.last is None or arrived_at > mark.last:
            self._marks[key] = Mark(max(mark.read_to, arrived_at), arrived_at)

    def caught_up(self, feed: Feed, partition: int, at: Ms) -> None:
        """Note that a partition was read to its end as of arrival time ``at``, so that idle partitions advance."""
        key = f"{feed}/{partition}"
        mark = self._marks.get(key)
        if mark is None:
            self._marks[key] = Mark(at, None)
        elif at > mark.read_to:
            self._marks[key] = Mark(at, mark.last)

    def forget(self, feed: Feed, partition: int) -> None:
        """The partition is no longer ours: say nothing more about it."""
        self._marks.pop(f"{feed}/{partition}", None)

    def suspend(self, feed: Feed) -> None:
        """Too much of the feed cannot be read: mark it absent in the beats."""
        self.suspended.add(feed)

    def resume(self, feed: Feed) -> None:
        """The feed can be read again."""
        self.suspended.discard(feed)

    def is_due(self, now: Ms) -> bool:
        """Whether a second of arrival time has passed since the last beat."""
        return self._last is None or now - self._last >= BEAT_MS

    def due(self, now: Ms) -> Beat | None:
        """The beat to write when a second of arrival time has passed since the last one, else None."""
        if not self._marks or not self.is_due(now):
            return None
        self._last = now
        return Beat(arrived_at=now, marks=dict(self._marks), partitions=self.partitions, suspended=tuple(sorted(self.suspended)))


class ClockState(msgspec.Struct, array_like=True):
    """What a partition of ``events`` knows of time after a record: its offset, the time, and the marks it rests on."""

    offset: int = -1
    now: Ms = 0
    marks: dict[str, Mark] = {}
    partitions: dict[str, int] = {}
    suspended: tuple[str, ...] = ()


class Clock:
    """Merge beats into one time per events partition and the set of feeds that are missing."""

    def __init__(self, policy: Policy, state: ClockState | None = None) -> None:
        self._policy = policy.feeds
        self.state = state or ClockState()
        self.missing: tuple[str, ...] = self._missing(self._times())

    @property
    def now(self) -> Ms:
        """The time up to which all arrivals have been read (ms); 0 before the first beat."""
        return self.state.now

    def advance(self, beat: Beat) -> Ms:
        """Merge one beat; returns the time after it. Time never goes back."""
        state = self.state
        marks = state.marks
        for key, mark in beat.marks.items():
            have = marks.get(key)
            if have is None:
                marks[key] = mark
            elif mark.read_to > have.read_to or (mark.last or 0) > (have.last or 0):
                marks[key] = Mark(max(mark.read_to, have.read_to), max(mark.last or 0, have.last or 0) or None)
        state.partitions.update(beat.partitions)
        heard = {key.partition("/")[0] for key in beat.marks}
        state.suspended = tuple(sorted((set(state.suspended) - heard) | set(beat.suspended)))
        times = self._times()
        if times:
            top = max(times.values())
            bound = top - 1000 * self._policy.behind_s
            state.now = max(state.now, min(t for t in times.values() if t >= bound))
        self.missing = self._missing(times)
        return state.now

    def _times(self) -> dict[str, Ms]:
        """Time of each feed whose every partition has been heard of and that is not suspended."""
        state = self.state
        heard: dict[str, tuple[int, Ms]] = {}
        for key, mark in state.marks.items():
            feed = key.partition("/")[0]
            count, least = heard.get(feed, (0, mark.read_to))
            heard[feed] = (count + 1, min(least, mark.read_to))
        return {
            feed: least for feed, (count, least) in heard.items() if count >= state.partitions.get(feed, 1) and feed not in state.suspended
        }

    def _missing(self, times: dict[str, Ms]) -> tuple[str, ...]:
        state = self.state
        last: dict[str, Ms] = {}
        for key, mark in state.marks.items():
            if mark.last is not None:
                feed = key.partition("/")[0]
                last[feed] = max(last.get(feed, 0), mark.last)
        silent = state.now - 1000 * self._policy.silent_s
        behind = max(times.values(), default=0) - 1000 * self._policy.behind_s
        return tuple(
            feed
            for feed in FEEDS
            if feed not in last
            or feed in state.suspended
            or times.get(feed, state.now) < behind
            or (last[feed] < silent and feed not in QUIET_FEEDS)
        )
