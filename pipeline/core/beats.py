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
        self._floor: Ms = 0  # every partition has been read to here

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

    def all_caught_up(self, at: Ms) -> None:
        """Note that every partition of every feed was read to its end as of arrival time ``at`` (a replay reads one after the other)."""
        self._floor = at

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
        floor = self._floor
        if not (self._marks or floor) or not self.is_due(now):
            return None
        self._last = now
        if floor:
            for feed, count in self.partitions.items():
                for partition in range(count):
                    self._marks.setdefault(f"{feed}/{partition}", Mark(floor, None))
        marks = {key: mark if mark.read_to >= floor else Mark(floor, mark.last) for key, mark in self._marks.items()}
        return Beat(arrived_at=now, marks=marks, partitions=self.partitions, suspended=tuple(sorted(self.suspended)))


class ClockState(msgspec.Struct, array_like=True, gc=False):
    """What a partition of ``events`` knows of time after a record: its offset, the time, and the marks it rests on."""

    offset: int = -1
    now: Ms = 0
    marks: dict[str, Mark] = {}
    partitions: dict[str, int] = {}
    suspended: tuple[str, ...] = ()


class Clock:
    """Merge beats into one time per events partition and the set of feeds that are missing."""

    def __init__(self, policy: Policy, state: ClockState | None = None) -> None:
        self._behind = 1000 * policy.feeds.behind_s
        self._silent = 1000 * policy.feeds.silent_s
        self.state = state or ClockState()
        self._feed_of = {key: key.partition("/")[0] for key in self.state.marks}
        self.missing: tuple[str, ...] = ()
        self._steady_until: Ms = 0  # while no feed comes, goes or falls behind, ``missing`` stands until this time
        self._settle()

    @property
    def now(self) -> Ms:
        """The time up to which all arrivals have been read (ms); 0 before the first beat."""
        return self.state.now

    def advance(self, beat: Beat) -> Ms:
        """Merge one beat; returns the time after it. Time never goes back."""
        state = self.state
        marks, feed_of = state.marks, self._feed_of
        steady = beat.partitions == state.partitions and not beat.suspended and not state.suspended
        for key, mark in beat.marks.items():
            have = marks.get(key)
            if have is None:
                feed_of[key] = key.partition("/")[0]
                steady = False
            elif have.last is None and mark.last is not None:
                steady = False
            elif mark.read_to < have.read_to or (mark.last or 0) < (have.last or 0):
                mark = Mark(max(mark.read_to, have.read_to), max(mark.last or 0, have.last or 0) or None)  # noqa: PLW2901
            marks[key] = mark
        if steady and self._steady_until:
            read = [mark.read_to for mark in marks.values()]
            least = min(read)
            if max(read) - least <= self._behind and least < self._steady_until:
                state.now = max(state.now, least)
                return state.now
        if beat.partitions != state.partitions:
            state.partitions = {**state.partitions, **beat.partitions}
        if beat.suspended or state.suspended:
            heard = {feed_of[key] for key in beat.marks}
            state.suspended = tuple(sorted((set(state.suspended) - heard) | set(beat.suspended)))
        self._settle()
        return state.now

    def _settle(self) -> None:
        """Find the time and the missing feeds from the marks."""
        state, feed_of = self.state, self._feed_of
        partitions, suspended = state.partitions, state.suspended
        count: dict[str, int] = {}
        least: dict[str, Ms] = {}
        last: dict[str, Ms] = {}
        for key, mark in state.marks.items():
            feed = feed_of[key]
            if feed not in count:
                count[feed], least[feed], last[feed] = 1, mark.read_to, mark.last or 0
                continue
            count[feed] += 1
            least[feed] = min(least[feed], mark.read_to)
            last[feed] = max(last[feed], mark.last or 0)
        whole = least  # feeds whose every partition has been heard of
        if suspended or any(count[feed] < partitions.get(feed, 1) for feed in count):
            whole = {f: t for f, t in least.items() if count[f] >= partitions.get(f, 1) and f not in suspended}
        if whole:
            bound = max(whole.values()) - self._behind
            state.now = max(state.now, min(t for t in whole.values() if t >= bound))
        else:
            bound = 0
        silent = state.now - self._silent
        self.missing = tuple(
            feed
            for feed in FEEDS
            if feed not in whole or whole[feed] < bound or not last[feed] or (last[feed] < silent and feed not in QUIET_FEEDS)
        )
        alive = [at for feed, at in last.items() if at and feed not in QUIET_FEEDS]
        quiet = all(feed not in last or not last[feed] for feed in self.missing)  # nothing is missing but what never came
        self._steady_until = min(alive) + self._silent if quiet and alive and len(whole) == len(count) else 0
