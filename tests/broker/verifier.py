"""Was every input record accounted for exactly once, whatever happened to the workers? An oracle that shares only record types with them.

It reads the topics after a run and asks of every offset of every input where it went: into the state that the changelog decodes to
(or, for ingest, into the records it stands for), or into a dead letter; never both, never nowhere. It knows nothing of partitions,
routers, batches or offsets in memory. What the fold should have *decided* is ``expected``'s question; ``verify`` asks that too.

In a test with a fault::

    with Watch(live) as watch:  # committed offsets never pass what is durable, at any instant
        ...  # load, start, kill, settle
        live.finish(workers)
    accounts = verify(live, watch=watch)
    assert accounts.copies["decisions"] > 0, "nothing was redelivered: the fault hit nothing"
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec
from tests.broker.verifier_watch import Watch

from pipeline.core.beats import ClockState
from pipeline.core.events import (
    AnyEvent,
    Beat,
    CallChanged,
    Event,
    Feed,
    LineAsked,
    LineChanged,
    LineEvent,
    LineLinked,
    LoggedIn,
    MessageSeen,
)
from pipeline.core.policy import Policy
from pipeline.core.route import LineState, RouterState
from pipeline.core.timeline import Timeline, decode
from pipeline.wire.dead_letter import DeadLetter, parse
from pipeline.wire.records import RECORDS
from tests.broker.expected import assert_outputs, assert_routed, assert_state, last_decisions, refold
from tests.broker.harness import Deployment, Kept

__all__ = ["Accounts", "Watch", "verify"]
STAGES = ("ingest", "route", "detect")
ROUTED = (CallChanged, LineAsked, MessageSeen, LineChanged, LineLinked)  # what reaches an account by its line
Place = tuple[str, int, int]  # topic without prefix, partition, offset
_event = msgspec.json.Decoder(AnyEvent)
_line_event = msgspec.json.Decoder(LineEvent)
_raw = {feed: msgspec.json.Decoder(record) for feed, record in RECORDS.items()}


class Accounts(NamedTuple):
    """What became of the input. ``where``: per topic and place how many offsets; ``copies``: records written more than once, by topic."""

    where: dict[str, Counter[str]]
    copies: Counter[str]


def verify(
    live: Deployment,
    stages: Collection[str] = STAGES,
    watch: Watch | None = None,
    suspended: Collection[Feed] = (),
    redelivery: bool = True,
    zombies: bool = False,
    beats: bool = True,
) -> Accounts:
    """Check a run that has settled and whose workers have ended; returns what became of the input. Raises AssertionError with places.

    ``stages``: those that ran; a stage that did not run wrote nothing, its output was appended by the test. ``watch``: what was seen
    during the run. ``suspended``: feeds that were set aside; what of them is not committed counts as waiting. ``redelivery``: may
    output be written twice (identical bytes)? After a graceful end it may not. ``zombies``: a stale owner may have written last, so
    the last copy of a key need not be its last word; what is said must still be right. ``beats``: may a beat be held against the
    records' times of arrival? Not where a log with times of the past was loaded while ingest ran, nor one that is out of order.
    """
    run = _Run(live)
    where: dict[str, Counter[str]] = {}
    if "ingest" in stages:
        for feed in live.feeds:
            where[feed] = run.ingested(feed, waiting=feed in suspended)
        run.nothing_invented(stages)
        if beats:
            run.beats_come_after()
    if "route" in stages:
        where["lines"] = run.routed()
        assert_routed(run.logs["lines"], run.logs["events"], run.refused("lines"), run.policy)
    if "detect" in stages:
        where["events"] = run.detected()
        run.counted_once()
        expected = refold(run.logs["events"], run.refused("events"), run.policy)
        assert {(k.partition, k.offset) for k in expected.late} == run.refused("events", "late"), "other events were late"
        assert_outputs(live, expected, zombies)
        assert_state(live, expected)
        run.last_words(expected.records["decisions"], zombies)
    copies = run.copies(stages)
    assert redelivery or not +copies, f"written again: {dict(copies)}"
    for stage in stages:
        run.committed(stage)
    if watch is not None:
        watch.check(run.logs, {t: run.letters(t) for t in (*live.feeds, "lines", "events")})
    return Accounts(where, copies)


class _Run:
    """The topics of a run, read once, and the questions to them."""

    def __init__(self, live: Deployment) -> None:
        self.live = live
        self.policy: Policy = live.settings.policy()
        self.logs: dict[str, list[Kept]] = {
            t: live.read(t) for t in ("events", "lines", "alerts", "decisions", "dead-letters", *live.feeds)
        }
        self.events = [(k, _decoded(_event, k.value)) for k in self.logs["events"]]
        self.lines = [(k, _decoded(_line_event, k.value)) for k in self.logs["lines"]]
        self._letters: dict[str, dict[tuple[int, int], list[DeadLetter]]] = defaultdict(lambda: defaultdict(list))
        for kept in self.logs["dead-letters"]:
            letter = parse(kept.headers, kept.key, kept.value)
            assert letter.topic.startswith(live.prefix), letter.topic
            self._letters[letter.topic.removeprefix(live.prefix)][letter.partition, letter.offset].append(letter)

    def letters(self, topic: str) -> dict[tuple[int, int], list[DeadLetter]]:
        """The dead letters of a topic by partition and offset; copies of one say the same, sealed ones apart from the seal."""
        for at, found in self._letters[topic].items():
            bare = {msgspec.structs.replace(letter, sealed=None) for letter in found}
            assert len(bare) == 1, f"dead letters of {topic} {at} differ: {bare}"
        return self._letters[topic]

    def refused(self, topic: str, reason: str | None = None) -> set[tuple[int, int]]:
        """Places of a topic that were set aside, for ``reason``, or for any but being late."""
        return {at for at, (letter, *_) in self.letters(topic).items() if (letter.reason == reason if reason else letter.reason != "late")}

    # --- ingest

    def ingested(self, feed: str, waiting: bool) -> Counter[str]:
        """Each raw record became the records it stands for, or a dead letter."""
        out: dict[str, Counter[tuple[object, ...]]] = {
            "events": Counter(_identity(e) for _, e in self.events if isinstance(e, Event)),
            "lines": Counter(_identity(e) for _, e in self.lines if isinstance(e, Event)),
        }
        letters = self.letters(feed)
        committed = self.live.committed("ingest")
        where: Counter[str] = Counter()
        for kept in self.logs[feed]:
            at = (kept.partition, kept.offset)
            stands_for = _stands_for(feed, kept)
            missing = [one for topic, one in stands_for or () if not out[topic][one]]
            if waiting and kept.offset >= committed.get((feed, kept.partition), 0):
                where["waiting"] += 1
            elif at in letters:
                # A record with the same words may stand elsewhere: then the words are there, and this place is still a dead letter.
                where["dead letters"] += 1
            elif stands_for is None:
                raise AssertionError(f"{feed} {at} cannot be read and is in no dead letter")
            else:
                assert not missing, f"{feed} {at} is lost: {missing} was not written"
                where["written"] += 1
        twins = Counter(one for kept in self.logs[feed] for _, one in _stands_for(feed, kept) or ())
        for kept in self.logs[feed]:
            if (kept.partition, kept.offset) in letters:
                both = [one for topic, one in _stands_for(feed, kept) or () if out[topic][one] and twins[one] == 1]
                assert not both, f"{feed} {kept.partition}/{kept.offset} is in a dead letter and was written too"
        assert letters.keys() <= {(k.partition, k.offset) for k in self.logs[feed]}, f"dead letters of {feed} that nothing led to"
        return where

    def nothing_invented(self, stages: Collection[str]) -> None:
        """What is in ``lines`` and, beats apart, in ``events`` comes from a raw record, or from ``lines`` where route ran."""
        from_raw = {one for feed in self.live.feeds for kept in self.logs[feed] for one in _stands_for(feed, kept) or ()}
        for kept, event in self.lines:
            assert event is not None and ("lines", _identity(event)) in from_raw, f"lines {kept.partition}/{kept.offset} comes from nothing"
        from_lines = {(type(e), e.event_id, e.arrived_at) for _, e in self.lines if e is not None}
        for kept, event in self.events:
            if isinstance(event, Beat):
                assert kept.key is None
                continue
            assert event is not None, f"events {kept.partition}/{kept.offset} cannot be read"
            assert kept.key == event.account_id.encode(), f"events {kept.partition}/{kept.offset} is under another key"
            if isinstance(event, ROUTED) and "route" in stages:
                told = isinstance(event, LineLinked) or (type(event), event.event_id, event.arrived_at) in from_lines
            else:
                told = ("events", _identity(event)) in from_raw
            assert told, f"events {kept.partition}/{kept.offset} comes from nothing"

    def beats_come_after(self) -> None:
        """A beat speaks of records that are in front of it: in each partition of ``events`` it stands behind what it says was read."""
        first: dict[tuple[object, ...], Kept] = {}
        heard: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)  # offset and the mark, rising
        for kept, event in self.events:
            if isinstance(event, Beat):
                for key, mark in event.marks.items():
                    found = heard[kept.partition, key]
                    if not found or mark.read_to > found[-1][1]:
                        found.append((kept.offset, mark.read_to))
            elif event is not None:
                first.setdefault(_identity(event), kept)
        for feed in self.live.feeds:
            for kept in self.logs[feed]:
                for topic, one in _stands_for(feed, kept) or ():
                    if topic == "events" and one in first:
                        written = first[one]
                        marks = heard[written.partition, f"{feed}/{kept.partition}"]
                        early = [offset for offset, read_to in marks if read_to > kept.timestamp and offset < written.offset]
                        assert not early, f"a beat at events {written.partition}/{early[0]} speaks of {feed} {kept.partition}/{kept.offset}"

    # --- route and detect

    def routed(self) -> Counter[str]:
        """Each record of ``lines`` is in the state of its line, or in a dead letter."""
        states = _states(self.live.read("route-state"))
        letters = self.letters("lines")
        newest: dict[str, int] = {}  # arrival of the newest call or message behind the record at hand, by line
        where: Counter[str] = Counter()
        window = 1000 * self.policy.windows.route_recent_s
        for kept, event in reversed(self.lines):
            at = (kept.partition, kept.offset)
            state = states[kept.partition]
            clock = msgspec.msgpack.decode(state[""].state, type=RouterState)
            assert state[""].offset >= kept.offset, f"lines {at} is beyond the durable clock {state[''].offset}"
            assert clock.offset <= state[""].offset
            if at in letters:
                where["dead letters"] += 1
                continue
            assert event is not None, f"lines {at} cannot be read and is in no dead letter"
            assert event.line in state, f"lines {at} is lost: no state of its line"
            line = msgspec.msgpack.decode(state[event.line].state, type=LineState)
            assert line.offset >= kept.offset, f"lines {at} is lost: its line was folded up to {line.offset}"
            place = _in_line(line, event, newest.get(event.line, 0) - window, self.policy)
            assert place, f"lines {at} is lost: {type(event).__name__} {event.event_id} is not in the state of its line"
            where[place] += 1
            if isinstance(event, CallChanged | LineAsked | MessageSeen):
                newest[event.line] = max(newest.get(event.line, 0), event.arrived_at)
        return where

    def detected(self) -> Counter[str]:
        """Each record of ``events`` is in the state of its account, or in a dead letter, late or not."""
        states = _states(self.live.read("detect-state"))
        letters = self.letters("events")
        accounts = {(p, a): decode(e.state) for p, found in states.items() for a, e in found.items() if a}
        elsewhere = Counter(
            (k.partition, e.event_id) for k, e in self.events if isinstance(e, Event) and (k.partition, k.offset) not in letters
        )
        where: Counter[str] = Counter()
        for kept, event in self.events:
            at = (kept.partition, kept.offset)
            assert kept.partition in states, f"partition {kept.partition} of events has no state"
            clock = states[kept.partition][""]
            assert clock.offset >= kept.offset, f"events {at} is beyond the durable clock {clock.offset}"
            if at in letters:
                where["late" if letters[at][0].reason == "late" else "dead letters"] += 1
                timeline = accounts.get((kept.partition, event.account_id)) if isinstance(event, Event) else None
                if timeline is not None and not elsewhere[kept.partition, event.event_id]:
                    assert all(e.event_id != event.event_id for e in timeline.recent), f"events {at} is in a dead letter and was folded too"
                continue
            assert event is not None, f"events {at} cannot be read and is in no dead letter"
            if isinstance(event, Beat):
                _in_clock(msgspec.msgpack.decode(clock.state, type=ClockState), event, at)
                where["clock"] += 1
                continue
            timeline = accounts.get((kept.partition, event.account_id))
            assert timeline is not None, f"events {at} is lost: no state of its account"
            assert timeline.offset >= kept.offset, f"events {at} is lost: its account was folded up to {timeline.offset}"
            place = _in_timeline(timeline, event, self.policy)
            assert place, f"events {at} is lost: {type(event).__name__} {event.event_id} is not in the state of its account"
            where[place] += 1
        self._nothing_kept_of_nothing(accounts)
        return where

    def _nothing_kept_of_nothing(self, accounts: dict[tuple[int, str], Timeline]) -> None:
        told = {(k.partition, e.account_id, e.event_id) for k, e in self.events if isinstance(e, Event)}
        for (partition, account), timeline in accounts.items():
            for event in timeline.recent:
                assert (partition, account, event.event_id) in told, f"{account} holds {event.event_id}, which is not in events"

    def counted_once(self) -> None:
        """What an account counts, it counts once per event: late ones, and of the sealed ones the logins and the inbound calls."""
        letters = self.letters("events")
        late: Counter[tuple[int, str]] = Counter()
        kept_of: dict[tuple[int, str], dict[str, Event]] = defaultdict(dict)
        for kept, event in self.events:
            if isinstance(event, Event):
                letter = letters.get((kept.partition, kept.offset))
                if letter is None:
                    kept_of[kept.partition, event.account_id].setdefault(event.event_id, event)
                elif letter[0].reason == "late":
                    late[kept.partition, event.account_id] += 1
        for partition, found in _states(self.live.read("detect-state")).items():
            for account, entry in found.items():
                if not account:
                    continue
                t = decode(entry.state)
                assert t.late == late[partition, account], f"{account} counts {t.late} late events of {late[partition, account]}"
                if t.conflicts or t.dropped:
                    continue
                sealed = [e for e in kept_of[partition, account].values() if e.occurred_at <= t.sealed_to]
                logins = sum(isinstance(e, LoggedIn) and e.outcome == "passed" for e in sealed)
                calls = sum(isinstance(e, CallChanged) and e.direction == "inbound" and e.state in ("answered", "missed") for e in sealed)
                assert (t.profile.logins, t.profile.calls) == (logins, calls), f"{account} counts other logins or calls than there were"

    # --- outputs and commits

    def last_words(self, expected: Sequence[tuple[bytes | None, bytes | None, object]], zombies: bool) -> None:
        """The last decision on each challenge is the expected one; the last record too, unless a stale owner may have written it."""
        written = [k.value for k in self.logs["decisions"]]
        said = written if not zombies else list(dict.fromkeys(written))
        assert last_decisions(said) == last_decisions(value for _, value, _ in expected), "final assessments differ"

    def copies(self, stages: Collection[str]) -> Counter[str]:
        """Records that were written more than once, by topic; copies are identical in bytes, findings count up without a hole."""
        count: Counter[str] = Counter()
        if "detect" in stages:
            for topic in ("alerts", "decisions"):
                said: dict[object, set[tuple[object, ...]]] = defaultdict(set)
                for kept in self.logs[topic]:
                    value = msgspec.json.decode(kept.value or b"{}")
                    name = value["decision_id"] if topic == "decisions" else (value["finding_info"]["uid"], value["metadata"]["sequence"])
                    count[topic] += name in said
                    said[name].add((kept.partition, kept.key, kept.value, kept.headers))
                differing = [name for name, found in said.items() if len(found) > 1]
                assert not differing, f"{topic} with copies that differ: {differing}"
                if topic == "alerts":
                    _counts_up(said)
        for topic, found in (("events", self.events), ("lines", self.lines)):
            count[topic] += self._copied(topic, found, stages)
        count["dead-letters"] = sum(len(found) - 1 for letters in self._letters.values() for found in letters.values())
        return count

    def _copied(self, topic: str, found: Iterable[tuple[Kept, Event | Beat | None]], stages: Collection[str]) -> int:
        """How many records were written again, beyond what the raw records (or lines) ask for. Beats are never the same."""
        if "ingest" not in stages:
            return 0
        wanted = Counter(one for feed in self.live.feeds for kept in self.logs[feed] for one in _stands_for(feed, kept) or ())
        bodies: dict[tuple[object, ...], set[bytes | None]] = defaultdict(set)
        seen: Counter[tuple[object, ...]] = Counter()
        for kept, event in found:
            if isinstance(event, Event) and not (topic == "events" and isinstance(event, ROUTED)):
                one = _identity(event)
                seen[one] += 1
                bodies[one].add(kept.value)
        for one, values in bodies.items():
            assert len(values) <= wanted[topic, one], f"{topic}: {one} was written with {len(values)} bodies"
        return sum(max(0, n - wanted[topic, one]) for one, n in seen.items())

    def committed(self, stage: str) -> None:
        """What the group has committed does not pass what is there, nor what the state speaks for."""
        for (topic, partition), offset in self.live.committed(stage).items():
            end = max((k.offset + 1 for k in self.logs[topic] if k.partition == partition), default=0)
            assert offset <= end, f"{stage} committed {offset} of {topic}/{partition}, which ends at {end}"


class Entry(NamedTuple):
    """The newest state of an entity: by owner epoch, then by input offset."""

    epoch: int
    offset: int
    state: bytes


def _states(log: Iterable[Kept]) -> dict[int, dict[str, Entry]]:
    """What a changelog decodes to, per partition: entity (the clock is the empty one) to its newest state; a tombstone ends its own key."""
    keys: dict[tuple[int, bytes], bytes | None] = {}
    for kept in log:
        assert kept.key is not None
        keys[kept.partition, kept.key] = kept.value  # as a compacted topic says it: the last record of a key, highest offset or not
    best: dict[tuple[int, bytes], bytes] = {}
    for kept in log:  # one key holds the records of one owner, which rise; a stale copy below may still stand behind
        assert kept.key is not None
        at = (kept.partition, kept.key)
        if kept.value is not None and keys[at] is not None and kept.value[:8] >= best.get(at, b"")[:8]:
            best[at] = kept.value
    states: dict[int, dict[str, Entry]] = defaultdict(dict)
    for (partition, key), value in best.items():
        entity, epoch = key[:-9].decode(), int.from_bytes(key[-8:], "big")
        entry = Entry(epoch, int.from_bytes(value[:8], "big", signed=True), value[8:])
        have = states[partition].get(entity)
        if have is None or entry[:2] > have[:2]:
            states[partition][entity] = entry
    return states


def _decoded(decoder: "msgspec.json.Decoder[LineEvent | Beat]", value: bytes | None) -> AnyEvent | LineEvent | None:
    try:
        return decoder.decode(value or b"")
    except msgspec.DecodeError:
        return None


def _identity(event: Event) -> tuple[object, ...]:
    """What names a record among all: its kind, its id, its account or line, and when it arrived."""
    return (type(event).__name__, event.event_id, event.account_id, getattr(event, "line", None), event.arrived_at)


def _stands_for(feed: str, kept: Kept) -> list[tuple[str, tuple[object, ...]]] | None:
    """Which records of ``events`` and ``lines`` a raw record must lead to; None when it cannot be read."""
    raise NotImplementedError
