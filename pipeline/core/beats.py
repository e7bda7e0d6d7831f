"""What time is it inside the log? Ingest and route make beats; detect merges them into one time and the set of missing feeds.

A beat says how far its writer has read each partition it owns: ingest those of the raw topics, route those of ``lines``, through
which calls reach their accounts. The time of an events partition is the smallest mark of all that is expected, so nothing that
arrived before it is still on its way. What is behind is waited for, up to the policy's patience; what is suspended is not.
"""

from collections.abc import Iterable

import msgspec

from pipeline.core.campaign import Known
from pipeline.core.events import EVIDENCE_FEEDS, LINE_FEEDS, LINES, Activation, Beat, Feed, Mark, Ms
from pipeline.core.policy import Policy
from pipeline.core.surge import Surge

BEAT_MS = 1000  # one beat a second of arrival time (architecture.md)
QUIET_FEEDS: frozenset[str] = frozenset(("phone-links", "account-changes", "dispositions", "snoozes"))  # silence is normal in these
_VIA_ROUTE: frozenset[str] = frozenset(("telephony", "phone-links"))  # reach an account through ``lines`` only
_STEP_MS = 10_000  # what one beat counts for at most while waiting: time may leap, after an outage or at the end of a log


class BeatMaker:
    """Make a beat for each second of arrival time from what one ingest worker has read."""

    def __init__(self, partitions: dict[Feed, int], lines: int = 0) -> None:
        """``partitions``: of every feed that exists; ``lines``: of ``lines``, 0 where no route reads it.

        Where there is no telephony nothing is waited for in ``lines``.
        """
        self.partitions: dict[str, int] = {feed: count for feed, count in partitions.items()}  # noqa: C416 (widens the key type)
        self.expected = {**self.partitions, LINES: lines} if lines and "telephony" in partitions else self.partitions
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
        """The beat to write to ``events`` when a second of arrival time has passed since the last one, else None."""
        floor = self._floor
        if not (self._marks or floor) or not self.is_due(now):
            return None
        self._last = now
        if floor:
            for feed, count in self.partitions.items():
                for partition in range(count):
                    self._marks.setdefault(f"{feed}/{partition}", Mark(floor, None))
        marks = {key: mark if mark.read_to >= floor else Mark(floor, mark.last) for key, mark in self._marks.items()}
        return Beat(arrived_at=now, marks=marks, partitions=self.expected, suspended=tuple(sorted(self.suspended)))


def for_lines(beat: Beat) -> Beat:
    """The same beat for ``lines``: what it says of the feeds whose records travel there."""
    return Beat(
        arrived_at=beat.arrived_at,
        marks={key: mark for key, mark in beat.marks.items() if _feed_of(key) in LINE_FEEDS},
        partitions={feed: count for feed, count in beat.partitions.items() if feed in LINE_FEEDS},
        suspended=tuple(feed for feed in beat.suspended if feed in LINE_FEEDS),
    )


def with_routed(beat: Beat, to: dict[int, Ms]) -> Beat:
    """The beat with the word of route: how far each partition of ``lines`` has been routed (ms)."""
    routed = {f"{LINES}/{partition}": Mark(at, None) for partition, at in to.items()}
    return msgspec.structs.replace(beat, marks={**beat.marks, **routed})


class RouteBeats:
    """Make the beats of one route worker: one for each second by which the slowest of its partitions has come forward."""

    def __init__(self) -> None:
        self._routed: dict[int, Ms] = {}  # 0: nothing is known of the partition yet
        self._told: Ms | None = None

    def own(self, partitions: Iterable[int]) -> None:
        """These partitions are ours now, and nothing has been said of them yet."""
        self._routed = dict.fromkeys(partitions, 0)
        self._told = None

    def routed(self, partition: int, to: Ms) -> None:
        """All that arrived up to ``to`` has been routed from this partition, and is durable."""
        if partition in self._routed:
            self._routed[partition] = to

    def due(self) -> Beat | None:
        """The beat to write to ``events``, if any: not before every partition of ours has been heard of."""
        least = min(self._routed.values(), default=0)
        if not least or (self._told is not None and least - self._told < BEAT_MS):
            return None
        self._told = least
        return with_routed(Beat(arrived_at=least, marks={}, partitions={}), self._routed)


class ClockState(msgspec.Struct, array_like=True, gc=False):
    """What a partition knows of time after a record: its offset, the time, and the marks it rests on.

    ``waited``: for how long what is behind has been waited for (ms); ``heard_at``: the latest beat's arrival time; ``campaigns``: those
    that run, by entity; ``surges``: stretches of time with unusually many codes, by their beginning (ms).
    """

    offset: int = -1
    now: Ms = 0
    marks: dict[str, Mark] = {}
    partitions: dict[str, int] = {}
    suspended: tuple[str, ...] = ()
    waited: Ms = 0
    heard_at: Ms = 0
    activation: Activation | None = None  # the one in force
    campaigns: dict[str, Known] = {}
    surges: dict[Ms, Surge] = {}


class Clock:
    """Merge beats into one time per partition and the set of feeds that are missing."""

    def __init__(self, policy: Policy, state: ClockState | None = None) -> None:
        self._behind = 1000 * policy.feeds.behind_s
        self._silent = 1000 * policy.feeds.silent_s
        self._patience = 1000 * policy.feeds.patience_s
        self.state = state or ClockState()
        self.missing: tuple[str, ...] = ()
        self._steady_until: Ms = 0  # while nothing comes, goes or falls behind, ``missing`` stands until this time
        self._settle(0)

    @property
    def now(self) -> Ms:
        """The time up to which all arrivals have been read (ms); 0 before all that is expected has been heard of."""
        return self.state.now

    @property
    def heard(self) -> bool:
        """Whether there has been a beat at all."""
        return self.state.heard_at > 0 or self.state.now > 0

    def advance(self, beat: Beat) -> Ms:
        """Merge one beat; returns the time after it. Time never goes back."""
        state = self.state
        steady = not beat.suspended and not state.suspended
        if beat.partitions and beat.partitions != state.partitions:  # a beat of route says nothing of what is expected
            steady = False
            state.partitions = beat.partitions
            state.marks = {key: mark for key, mark in state.marks.items() if _feed_of(key) in beat.partitions}
        marks = state.marks
        for key, mark in beat.marks.items():
            have = marks.get(key)
            if have is None:
                if _feed_of(key) not in state.partitions:
                    continue
                steady = False
            elif have.last is None and mark.last is not None:
                steady = False
            elif mark.read_to < have.read_to or (mark.last or 0) < (have.last or 0):
                mark = Mark(max(mark.read_to, have.read_to), max(mark.last or 0, have.last or 0) or None)  # noqa: PLW2901
            marks[key] = mark
        passed = min(max(0, beat.arrived_at - state.heard_at), _STEP_MS) if state.heard_at else 0
        state.heard_at = max(state.heard_at, beat.arrived_at)
        if steady and self._steady_until:
            read = [mark.read_to for mark in marks.values()]
            least = min(read)
            if max(read) - least <= self._behind and least < self._steady_until:
                state.now = max(state.now, least)
                return state.now
        if beat.suspended or state.suspended:
            heard = {_feed_of(key) for key in beat.marks}
            state.suspended = tuple(sorted((set(state.suspended) - heard) | set(beat.suspended)))
        self._settle(passed)
        return state.now

    def _settle(self, passed: Ms) -> None:
        """Find the time and the missing feeds from the marks, ``passed`` ms after it was last done."""
        state = self.state
        unheard = {feed: count for feed, count in state.partitions.items() if feed not in state.suspended}
        least: dict[str, Ms] = {}
        last: dict[str, Ms] = {}
        read: list[Ms] = []
        for key, mark in state.marks.items():
            feed = _feed_of(key)
            last[feed] = max(last.get(feed, 0), mark.last or 0)
            if feed in unheard:
                unheard[feed] -= 1
                least[feed] = min(least.get(feed, mark.read_to), mark.read_to)
                read.append(mark.read_to)
        bound = max(read, default=0) - self._behind
        late = {feed for feed, count in unheard.items() if count > 0 or least[feed] < bound}
        state.waited = state.waited + passed if late else 0
        if not late or state.waited > self._patience:
            state.now = max(state.now, min((at for at in read if at >= bound), default=0))
        elif not any(count > 0 for count in unheard.values()):
            state.now = max(state.now, min(read))
        if LINES in late:
            late |= _VIA_ROUTE
        silent = state.now - self._silent
        self.missing = tuple(
            feed
            for feed in EVIDENCE_FEEDS
            if state.partitions
            and (feed not in unheard or feed in late or not last.get(feed) or (last[feed] < silent and feed not in QUIET_FEEDS))
        )
        alive = [at for feed, at in last.items() if at and feed not in QUIET_FEEDS]
        self._steady_until = min(alive) + self._silent if alive and not late and not any(last.get(f) for f in self.missing) else 0


def _feed_of(key: str) -> str:
    return key.partition("/")[0]
