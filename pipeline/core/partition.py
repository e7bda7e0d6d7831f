"""One partition of ``events``: accounts, clock and deadlines, folded record by record; the same object in live and replay.

A driver calls ``fold`` for each record, sends the outcomes, then persists ``changes()`` and, once those are durable, ``clock()``.
"""

from collections.abc import Callable, Iterator, Set
from heapq import heappop, heappush

import msgspec

from pipeline.core import campaign, surge
from pipeline.core import timeline as timeline_module
from pipeline.core.beats import Clock, ClockState
from pipeline.core.breaker import Breaker
from pipeline.core.champion import NoModels, NotEquipped, Shelf, found, put_in_force
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.errors import UnsupportedState
from pipeline.core.events import Activation, AnyEvent, Beat, CampaignSeen, CodesSurged, Ms
from pipeline.core.meetings import Meetings
from pipeline.core.model import Model
from pipeline.core.outcome import Outcome, Sighting
from pipeline.core.policy import Policy
from pipeline.core.store import Encoded, InMemory, Store
from pipeline.core.timeline import Timeline


class Partition:
    """Fold the events of one partition in offset order. Owns no I/O: drivers carry bytes in and out."""

    def __init__(
        self, policy: Policy, cached: int = 30_000, encoded: Callable[[], Encoded] = InMemory, models: Shelf | None = None
    ) -> None:
        """``cached``: how many decoded timelines are kept beside the encoded ones; ``encoded``: where those are. Never a decision.

        ``models``: where the models are that activations name.
        """
        self._policy = policy
        self.detector = Detector(policy)
        self._accounts: Store[Timeline] = Store(timeline_module.encode, timeline_module.decode, cached, encoded)
        self._keep_time(Clock(policy))
        self._models = models or NoModels()
        self._by_hand = Model(policy)
        self.equipped = True  # do the models that the activation in force names stand ready?
        self._settled = -1  # all records up to here are durable: skipped wholesale
        self._offset = -1
        self.tripped: list[tuple[str, Exception]] = []  # accounts whose deadline tripped a bug of ours; the driver takes them out
        self.aside: Set[str] = frozenset()  # accounts that are not folded until somebody has looked: their deadlines wait too
        self._heap: list[tuple[Ms, str]] = []  # deadlines; entries that no longer hold are skipped when they come up
        self._meetings = Meetings()  # whom the open challenges met
        self._before: dict[str, Timeline | None] = {}  # what the last record has changed, as it was

    def _keep_time(self, clock: Clock) -> None:
        """Go by this clock: what runs in the whole bank is part of its state."""
        self._clock = clock
        self.detector.campaigns, self.detector.surges = clock.state.campaigns, clock.state.surges

    def fold(self, offset: int, event: AnyEvent) -> list[Outcome]:
        """Fold one record. A record whose offset this account (or the whole partition) has already folded yields nothing."""
        if offset <= self._settled:
            return []
        self._offset = offset
        self._before = {}
        breaker = self.detector.breaker
        breaker.offset = offset
        if type(event) is Beat:
            return self._beat(offset, event)
        breaker.at = self._clock.state.heard_at or event.arrived_at
        if type(event) is Activation:
            return self._activate(offset, event)
        if type(event) is CampaignSeen:
            return self._hear(offset, event)
        if type(event) is CodesSurged:  # what happens on an account from here on is held beside it, and every code when it is settled
            surge.hear(self.detector.surges, event)
            return []
        account = event.account_id
        timeline = self._accounts.get(account)
        if timeline is None:
            timeline = new_timeline(account)
        elif timeline.offset >= offset:
            return []
        new, outcomes = self.detector.step(timeline, event)
        self._before[account] = timeline if timeline.offset >= 0 else None
        self._put(offset, timeline.deadline, new)
        for outcome in outcomes:
            if type(outcome) is Sighting and not surge.is_of_codes(outcome.entity):
                self._meetings.add(outcome.entity, account, outcome.arrived_at)
        return outcomes

    def _hear(self, offset: int, said: CampaignSeen) -> list[Outcome]:
        """Take in what is new of a campaign, and assess the open challenges anew that it concerns."""
        outcomes: list[Outcome] = []
        if not campaign.hear(self.detector.campaigns, said, self._policy):
            return outcomes
        for account in self._meetings.of(said.entity):
            timeline = self._accounts.get(account)
            if timeline is None or not any(said.entity in track.entities for track in timeline.tracks):
                self._meetings.end(said.entity, account)
                continue
            if timeline.offset >= offset or account in self.aside:
                continue
            try:
                new, told = self.detector.recall(timeline, said.entity)
            except Exception as e:  # a bug of ours: this account stays as it was, the others go on
                self.tripped.append((account, e))
                continue
            self._before[account] = timeline
            self._put(offset, timeline.deadline, new)
            outcomes += told
        return outcomes

    def _activate(self, offset: int, event: Activation) -> list[Outcome]:
        """Change the models from here on. A champion that is refused changes nothing; a challenger that is refused does not run."""
        self._clock.state.offset = offset
        if found(event.champion, self._by_hand, self._models) is not None:
            self._clock.state.activation = event
            self.equip()
        return []

    def equip(self) -> None:
        """Let score what the activation in force names. Call it after ``restore_clock`` and before the next ``fold``.

        Raises LookupError for a model of which the shelf knows nothing.
        """
        put_in_force(self.detector, self._clock.state.activation, self._by_hand, self._models)
        self.equipped = True

    @property
    def activation(self) -> Activation | None:
        """The activation in force."""
        return self._clock.state.activation

    def _beat(self, offset: int, beat: Beat) -> list[Outcome]:
        now = self.detector.read_to = self._clock.advance(beat)
        self._clock.state.offset = offset
        self.detector.missing = self._clock.missing
        self.detector.breaker.at = self._clock.state.heard_at
        outcomes: list[Outcome] = []
        heap = self._heap
        ahead: list[tuple[Ms, str]] = []  # accounts that were durable beyond this record before a crash
        while heap and heap[0][0] <= now:
            due, account = heappop(heap)
            timeline = self._accounts.get(account)
            if timeline is None or timeline.deadline != due or account in self.aside:
                continue
            if timeline.offset >= offset:
                ahead.append((due, account))
                continue
            try:
                new, said = self.detector.fire(timeline, now)
            except Exception as e:  # a bug of ours: this account stays as it was, the others go on
                self.tripped.append((account, e))
                continue
            self._before[account] = timeline
            self._put(offset, None, new)
            outcomes += said
        for entry in ahead:
            heappush(heap, entry)
        campaign.forget(self.detector.campaigns, now, self._policy)  # not before the deadlines that could still ask
        surge.forget(self.detector.surges, now, self._policy)
        self._meetings.forget(now, self._policy)
        return outcomes

    def _put(self, offset: int, deadline_before: Ms | None, timeline: Timeline) -> None:
        timeline.offset = offset
        self._accounts.put(timeline.account_id, timeline)
        if timeline.raised:
            self.detector.breaker.note(timeline.account_id, timeline.raised)
        if timeline.deadline is not None and timeline.deadline != deadline_before:
            heappush(self._heap, (timeline.deadline, timeline.account_id))

    def undo(self, account_id: str) -> None:
        """Take back what the last record has changed in an account, where what it led to cannot be said: the account stays as it was."""
        if account_id not in self._before:
            return
        before = self._before.pop(account_id)
        self.detector.breaker.note(account_id, before.raised if before is not None else ())
        if before is None:
            self._accounts.remove(account_id)
        else:
            self._accounts.put(account_id, before)

    def changes(self) -> dict[str, bytes]:
        """Encoded state of every account that changed since the last call, and forget that they changed."""
        return self._accounts.changes()

    def clock(self) -> bytes:
        """Encoded partition state (offset, watermarks). Valid to persist only after all ``changes()`` up to here are durable."""
        self._clock.state.offset = self._offset
        return timeline_module.plain(self._clock.state)

    def restore(self, account_id: str, state: bytes) -> None:
        """Take an account's state back. Raises UnsupportedState for a version newer than this code."""
        head = timeline_module.read_head(state)
        self._accounts.restore(account_id, state)
        marks = timeline_module.read_marks(state)
        self.detector.breaker.note(account_id, marks.raised)
        if head.deadline is not None:
            heappush(self._heap, (head.deadline, account_id))
            for entity in marks.entities:
                self._meetings.add(entity, account_id, head.deadline)

    def forget(self, account_id: str) -> None:
        """Forget an account: its state was taken away."""
        self.detector.breaker.note(account_id, ())
        self._accounts.remove(account_id)

    def encoded(self, account_id: str) -> bytes | None:
        """Encoded state of an account; None of one that is not known."""
        return self._accounts.encoded(account_id)

    def resize(self, cached: int) -> None:
        """Keep at most so many decoded timelines from now on."""
        self._accounts.cached = cached

    def restore_clock(self, state: bytes) -> None:
        """Take the partition's state back. Raises UnsupportedState for what is no such state."""
        try:
            known = msgspec.msgpack.decode(state, type=ClockState)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise UnsupportedState(f"the clock of a partition is damaged: {type(e).__name__}") from None
        self._keep_time(Clock(self._policy, known))
        self.detector.read_to = self._clock.now if self._clock.heard else None
        self.detector.missing = self._clock.missing
        self._settled = self._offset = self._clock.state.offset
        self.detector.model, self.detector.challengers = NotEquipped(), ()
        self.equipped = False
        if self._clock.state.activation is None:
            self.equip()

    @property
    def now(self) -> Ms:
        """The partition's time: all arrivals up to here have been read (ms)."""
        return self._clock.now

    @property
    def missing(self) -> tuple[str, ...]:
        """The feeds that are absent now."""
        return self._clock.missing

    @property
    def flooded(self) -> bool:
        """Whether the detector's own alerts are a flood now, so that only the most probable are heard."""
        return self.detector.breaker.is_open

    def timeline(self, account_id: str) -> Timeline | None:
        """What is kept of an account."""
        return self._accounts.get(account_id)

    def accounts(self) -> Iterator[str]:
        """All accounts held."""
        return self._accounts.keys()

    def __len__(self) -> int:
        return len(self._accounts)

    @property
    def size(self) -> int:
        """Bytes of encoded state held."""
        return self._accounts.bytes

    def drop(self) -> None:
        """Forget everything (the partition was revoked)."""
        self._accounts.clear()
        self._heap.clear()
        self._meetings = Meetings()
        self._keep_time(Clock(self._policy))
        self.detector.read_to, self.detector.missing = None, ()
        self.equip()
        self.detector.breaker = Breaker(self._policy.flood)
        self._settled = self._offset = -1
