"""Was every input record accounted for exactly once, whatever happened to the workers? An oracle that shares only record types with them.

It reads the topics after a run and asks of every offset of every input where it went: into the state that the changelog decodes to
(or, for ingest, into the records it stands for), or into a dead letter; never both, never nowhere. It knows nothing of partitions,
routers, batches or offsets in memory. What the fold should have *decided* is ``expected``'s question; ``verify`` asks that too.

In a test with a fault::

    with Watch(live) as watch:  # committed offsets never pass what is durable, at any instant
        ...  # load, start, kill
        live.finish(workers)
    accounts = verify(live, watch=watch)
    assert accounts.copies["decisions"] > 0, "nothing was redelivered: the fault hit nothing"
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from pipeline.core.beats import ClockState
from pipeline.core.events import (
    LINES,
    AnyEvent,
    Beat,
    CallChanged,
    CampaignSeen,
    CodesSurged,
    Event,
    Feed,
    Keyless,
    LineAsked,
    LineChanged,
    LineEvent,
    LineLinked,
    LoggedIn,
    MessageSeen,
)
from pipeline.core.gatherer import GathererState, Slot
from pipeline.core.outcome import Sighting
from pipeline.core.route import LineState, RouterState
from pipeline.core.timeline import decode
from pipeline.wire.dead_letter import DeadLetter, parse
from pipeline.wire.records import RECORDS
from tests.broker.expected import (
    Refolded,
    Regathered,
    Rerouted,
    assert_gathered,
    assert_outputs,
    assert_routed,
    assert_state,
    assert_told,
    last_decisions,
    refold,
    regather,
    reroute,
)
from tests.broker.harness import Deployment, Kept
from tests.broker.verifier_campaign import decode_sighting, in_slot, in_table, slot_name
from tests.broker.verifier_state import CLOCK, assert_in_clock, in_line, in_timeline, is_counted_call, states_of
from tests.broker.verifier_watch import CHANGELOG, SOURCE, Due, Watch

__all__ = ["Accounts", "Watch", "verify"]
R = TypeVar("R")
STAGES = ("ingest", "route", "detect")
DETECTED = ("alerts", "decisions", "sightings")  # what detect writes, apart from what depends on its order
ROUTED = (CallChanged, LineAsked, MessageSeen, LineChanged, LineLinked)  # what reaches an account by its line
BECOMES = {  # the kinds of events a raw record must become, by its type (the contract's table)
    "Login": "LoggedIn",
    "OtpDispatch": "OtpDispatched",
    "OtpEntry": "OtpEntered",
    "AccountChange": "AccountChanged",
    "Disposition": "Disposed",
    "Call": "CallChanged",
    "CallStatus": "LineAsked",
    "Sms": "MessageSeen",
    "Line": "LineChanged",
    "PhoneLink": "LinkChanged",
}
BY_LINE = ("CallChanged", "LineAsked", "MessageSeen", "LineChanged", "LinkChanged")
Place = tuple[int, int]  # partition and offset
Name = tuple[str, str, str, str, int]  # topic, kind, event_id, account_id (empty on a line), arrival
_decode_event = msgspec.json.Decoder(AnyEvent).decode
_decode_line = msgspec.json.Decoder(LineEvent).decode
_decode_raw = {feed: msgspec.json.Decoder(record).decode for feed, record in RECORDS.items()}


class Accounts(NamedTuple):
    """What became of the input: per topic, where how many offsets are; and how many records were written again, per topic."""

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

    ``stages``: those that ran; what a stage that did not run would write was appended by the test. ``watch``: what was seen during
    the run. ``suspended``: feeds that were set aside; what of them is not committed counts as waiting. ``redelivery``: may output be
    written again (identical bytes)? After a graceful end it may not. ``zombies``: a stale owner may have written last, so the last
    record on a challenge need not be its last word. ``beats``: are the beats held against the arrivals of the records? Not where
    a log with times of the past was loaded while ingest ran, or one whose partitions are not in the order of arrival.
    """
    run = _Run(live)
    where: dict[str, Counter[str]] = {}
    copies: Counter[str] = Counter(run.copies_of_letters())
    dues: list[Due] = []
    if "ingest" in stages:
        for feed in live.feeds:
            where[feed] = run.ingested(feed, feed in suspended)
        run.nothing_invented("route" in stages)
        if beats:
            run.beats_of_ingest_come_after()
        copies += run.copies_of_ingest()
        dues += run.due_from_ingest()
    if "route" in stages:
        where["lines"] = run.routed()
        rerouted = reroute(run.logs["lines"], run.refused("lines"), live.settings.policy())
        copies["events"] += assert_routed(rerouted, [(k.key, k.value) for k, e in run.events if isinstance(e, ROUTED)])
        if beats:
            run.beats_of_route_come_after(rerouted)
        dues += run.due_from_route(rerouted)
    if "detect" in stages:
        where["events"] = run.detected()
        run.counted_once()
        expected = refold(run.logs["events"], run.refused("events"), live.settings.policy())
        assert expected.late == run.refused("events", "late"), "other events were late"
        assert_outputs(live, expected, zombies)
        assert_state(live, expected)
        run.last_words(expected, zombies)
        copies += run.copies_of_detect(expected)
        dues += run.due_from_detect(expected)
    if "campaign" in stages:
        where["sightings"] = run.gathered()
        regathered = regather(run.logs["sightings"], run.refused("sightings"), live.settings.policy())
        copies["events"] += assert_told(regathered, run.told_of_campaigns())
        assert_gathered(states_of(live.read(CHANGELOG["campaign"])), regathered)
        dues += run.due_from_campaign(regathered)
    else:
        assert not any(run.told_of_campaigns().values()), "campaign did not run, and has told of campaigns"
    for stage in stages:
        run.committed(stage)
    assert redelivery or not +copies, f"written again: {dict(+copies)}"
    if watch is not None:
        watch.check(dues)
    return Accounts(where, +copies)


class _Run:
    """The topics of a run, read once, and the questions to them."""

    def __init__(self, live: Deployment) -> None:
        self.live = live
        self.policy = live.settings.policy()
        self.logs = {t: live.read(t) for t in ("events", "lines", *DETECTED, "dead-letters", *live.feeds)}
        self.events = [(k, _decoded(_decode_event, k.value)) for k in self.logs["events"]]
        self.lines = [(k, _decoded(_decode_line, k.value)) for k in self.logs["lines"]]
        self.raw = {feed: [(k, _must_become(feed, k)) for k in self.logs[feed]] for feed in live.feeds}
        self._letters: dict[str, dict[Place, DeadLetter]] = defaultdict(dict)
        self._letter_at: dict[str, dict[Place, Kept]] = defaultdict(dict)  # the first copy of each
        self._letter_copies = 0
        for kept in self.logs["dead-letters"]:
            letter = msgspec.structs.replace(parse(kept.headers, kept.key, kept.value), sealed=None)  # each seal is another
            topic, at = letter.topic.removeprefix(live.prefix), (letter.partition, letter.offset)
            have = self._letters[topic].setdefault(at, letter)
            assert have == letter, f"two dead letters of {topic} {at} that differ: {have.reason}, {letter.reason}"
            self._letter_copies += at in self._letter_at[topic]
            self._letter_at[topic].setdefault(at, kept)
        for topic, found in self._letters.items():
            assert found.keys() <= {(k.partition, k.offset) for k in self.logs[topic]}, f"dead letters of {topic} that nothing led to"

    def refused(self, topic: str, reason: str | None = None) -> set[Place]:
        """Places of a topic that were set aside, for ``reason``, or for any but being late."""
        return {at for at, letter in self._letters[topic].items() if (letter.reason == reason if reason else letter.reason != "late")}

    # --- ingest

    def _written(self) -> dict[Name, list[Kept]]:
        found: dict[Name, list[Kept]] = defaultdict(list)
        for topic, log in (("events", self.events), ("lines", self.lines)):
            for kept, event in log:
                if isinstance(event, Event):
                    found[_name(topic, event)].append(kept)
        return found

    def ingested(self, feed: Feed, suspended: bool) -> Counter[str]:
        """Each raw record became what it must become, or a dead letter, and not both."""
        letters, written = self._letters[feed], self._written()
        committed = self.live.committed("ingest")
        twins = Counter(name for _, names in self.raw[feed] for name in names or ())
        where: Counter[str] = Counter()
        for kept, names in self.raw[feed]:
            at = (kept.partition, kept.offset)
            if suspended and kept.offset >= committed.get((feed, kept.partition), 0):
                where["waiting"] += 1
            elif at in letters:
                both = [name for name in names or () if name in written and twins[name] == 1]
                assert not both, f"{feed} {at} is in a dead letter and was written too: {both}"
                where["dead letters"] += 1
            else:
                assert names is not None, f"{feed} {at} cannot be read and is in no dead letter"
                missing = [name for name in names if name not in written]
                assert not missing, f"{feed} {at} is lost: {missing}"
                where["written" if names else "says nothing"] += 1
        return where

    def nothing_invented(self, route_ran: bool) -> None:
        """What is in ``lines`` and, beats apart, in ``events`` comes from a raw record, or from ``lines`` what came by a line."""
        known = {name for found in self.raw.values() for _, names in found for name in names or ()}
        for topic, log in (("lines", self.lines), ("events", self.events)):
            for kept, event in log:
                assert event is not None, f"{topic} {kept.partition}/{kept.offset} cannot be read"
                if isinstance(event, Beat | CampaignSeen | CodesSurged):
                    assert kept.key is None, "what goes to every partition has no key"
                elif topic == "lines" or not isinstance(event, ROUTED):
                    assert _name(topic, event) in known, f"{topic} {kept.partition}/{kept.offset} comes from nothing"
                else:
                    assert route_ran, f"{topic} {kept.partition}/{kept.offset} came by a line, and route did not run"

    def beats_of_ingest_come_after(self) -> None:
        """A beat speaks of records that are in front of it: in each partition it stands behind what it says was read."""
        for topic, log in (("events", self.events), ("lines", self.lines)):
            heard = _heard(log)
            for feed, kept, first in self._first_written(topic):
                _assert_in_front(heard[first.partition, f"{feed}/{kept.partition}"], kept.timestamp, topic, first)

    def beats_of_route_come_after(self, expected: Rerouted) -> None:
        """In each partition of ``events`` a beat stands behind what it says has come through a partition of ``lines``."""
        heard = _heard(self.events)
        first = {(k.key, k.value): k for k in reversed(self.logs["events"])}
        arrived = {(k.partition, k.offset): e.arrived_at for k, e in self.lines if e is not None}
        for record, origin in _first_led_by(expected.records, expected.origins).items():
            found = first[record]
            _assert_in_front(heard[found.partition, f"{LINES}/{origin[0]}"], arrived[origin], "events", found)

    def _first_written(self, topic: str = "events") -> Iterator[tuple[Feed, Kept, Kept]]:
        written = self._written()
        for feed, found in self.raw.items():
            for kept, names in found:
                for name in names or ():
                    if name[0] == topic and name in written:
                        yield feed, kept, written[name][0]

    def due_from_ingest(self) -> Iterator[Due]:
        """What must be in the log before a raw offset is committed."""
        for topic in ("events", "lines"):
            for feed, kept, first in self._first_written(topic):
                yield Due((feed, kept.partition), kept.offset, (topic, first.partition), first.offset)
        for feed in self.live.feeds:
            yield from self._due_letters(feed)

    def _due_letters(self, topic: str) -> Iterator[Due]:
        for (partition, offset), kept in self._letter_at[topic].items():
            yield Due((topic, partition), offset, ("dead-letters", kept.partition), kept.offset)

    # --- route and detect

    def routed(self) -> Counter[str]:
        """Each record of ``lines`` is in the state of its line, or in a dead letter."""
        states = states_of(self.live.read("route-state"))
        letters = self._letters["lines"]
        newest: dict[str, int] = {}  # arrival of the newest call or message behind the record at hand, by line
        window = 1000 * self.policy.windows.route_recent_s
        where: Counter[str] = Counter()
        for kept, event in reversed(self.lines):
            at = (kept.partition, kept.offset)
            state = states[kept.partition]
            assert CLOCK in state, f"partition {kept.partition} of lines has no clock"
            clock = msgspec.msgpack.decode(state[CLOCK].state, type=RouterState)
            assert min(state[CLOCK].offset, clock.offset) >= kept.offset, f"lines {at} is beyond the durable clock"
            if at in letters:
                where["dead letters"] += 1
                continue
            if isinstance(event, Beat):
                assert clock.clock is not None, f"the beat at lines {at} is lost"
                assert_in_clock(clock.clock, event, at)
                where["clock"] += 1
                continue
            assert isinstance(event, Event), f"lines {at} cannot be read and is in no dead letter"
            assert event.line in state, f"lines {at} is lost: no state of its line"
            line = msgspec.msgpack.decode(state[event.line].state, type=LineState)
            assert line.offset >= kept.offset, f"lines {at} is lost: its line was folded up to {line.offset}"
            place = in_line(line, event, newest.get(event.line, 0) - window, self.policy)
            assert place, f"lines {at} is lost: {type(event).__name__} {event.event_id} is not in the state of its line"
            where[place] += 1
            if isinstance(event, CallChanged | LineAsked | MessageSeen):
                newest[event.line] = max(newest.get(event.line, 0), event.arrived_at)
        return where

    def due_from_route(self, expected: Rerouted) -> Iterator[Due]:
        """What must be in the log before an offset of ``lines`` is in the clock."""
        first = {(k.key, k.value): k for k in reversed(self.logs["events"])}
        for record, (partition, offset) in zip(expected.records, expected.origins, strict=True):
            kept = first[record]
            yield Due(("lines", partition), offset, ("events", kept.partition), kept.offset)
        yield from self._due_letters("lines")

    def detected(self) -> Counter[str]:
        """Each record of ``events`` is in the state of its account, or in a dead letter, late or not, and not in both."""
        states = states_of(self.live.read("detect-state"))
        letters = self._letters["events"]
        accounts = {(p, a): decode(entry.state) for p, found in states.items() for a, entry in found.items() if a != CLOCK}
        told = {(k.partition, e.account_id, e.event_id) for k, e in self.events if isinstance(e, Event)}
        on_time = {
            (k.partition, e.account_id, e.event_id)
            for k, e in self.events
            if isinstance(e, Event) and (k.partition, k.offset) not in letters
        }
        where: Counter[str] = Counter()
        for kept, event in self.events:
            at = (kept.partition, kept.offset)
            clock = states[kept.partition].get(CLOCK)
            assert clock is not None, f"partition {kept.partition} of events has no clock"
            assert clock.offset >= kept.offset, f"events {at} is beyond the durable clock {clock.offset}"
            timeline = accounts.get((kept.partition, event.account_id)) if isinstance(event, Event) else None
            if at in letters:
                where["late" if letters[at].reason == "late" else "dead letters"] += 1
                if timeline is not None and isinstance(event, Event) and (kept.partition, event.account_id, event.event_id) not in on_time:
                    assert all(e.event_id != event.event_id for e in timeline.recent), f"events {at} is in a dead letter and in the state"
                continue
            assert event is not None, f"events {at} cannot be read and is in no dead letter"
            if isinstance(event, Beat):
                assert_in_clock(msgspec.msgpack.decode(clock.state, type=ClockState), event, at)
                where["clock"] += 1
                continue
            if isinstance(event, CampaignSeen | CodesSurged):
                of = msgspec.msgpack.decode(clock.state, type=ClockState)
                place = in_table(of, event, self.policy)
                assert place, f"the {'campaign' if isinstance(event, CampaignSeen) else 'surge'} told at events {at} is lost"
                where[place] += 1
                continue
            assert timeline is not None, f"events {at} is lost: no state of its account"
            assert timeline.offset >= kept.offset, f"events {at} is lost: its account was folded up to {timeline.offset}"
            place = in_timeline(timeline, event, self.policy)
            assert place, f"events {at} is lost: {type(event).__name__} {event.event_id} is not in the state of its account"
            where[place] += 1
        for (partition, account), timeline in accounts.items():
            for known in timeline.recent:
                assert (partition, account, known.event_id) in told, f"{account} holds {known.event_id}, which is not in events"
        return where

    def counted_once(self) -> None:
        """What an account counts, it counts once per event: late ones, and of the sealed ones logins and inbound calls."""
        letters = self._letters["events"]
        late: Counter[tuple[int, str]] = Counter()
        folded: dict[tuple[int, str], dict[str, Event]] = defaultdict(dict)
        for kept, event in self.events:
            if isinstance(event, Event):
                letter = letters.get((kept.partition, kept.offset))
                if letter is None:
                    folded[kept.partition, event.account_id].setdefault(event.event_id, event)
                else:
                    late[kept.partition, event.account_id] += letter.reason == "late"
        for partition, found in states_of(self.live.read("detect-state")).items():
            for account, entry in found.items():
                if account == CLOCK:
                    continue
                t, its = decode(entry.state), folded[partition, account]
                assert t.late == late[partition, account], f"{account} counts {t.late} late events, not {late[partition, account]}"
                if t.conflicts or t.dropped:
                    continue
                sealed = [e for e in its.values() if e.occurred_at <= t.sealed_to]
                logins = sum(isinstance(e, LoggedIn) and e.outcome == "passed" for e in sealed)
                counted = (logins, sum(is_counted_call(e) for e in sealed))
                assert (t.profile.logins, t.profile.calls) == counted, f"{account} counts other logins and calls than {counted}"

    def due_from_detect(self, expected: Refolded) -> Iterator[Due]:
        """What must be in the log before an offset of ``events`` is in the clock."""
        for topic in DETECTED:
            first = {(k.key, k.value, k.headers): k for k in reversed(self.logs[topic])}
            for record, (partition, offset) in _first_led_by(expected.records[topic], expected.origins[topic]).items():
                kept = first[record]
                yield Due(("events", partition), offset, (topic, kept.partition), kept.offset)
        yield from self._due_letters("events")

    # --- campaign

    def gathered(self) -> Counter[str]:
        """Each sighting is in the state of its entity's slot, or in a dead letter."""
        states = states_of(self.live.read(CHANGELOG["campaign"]))
        letters = self._letters["sightings"]
        where: Counter[str] = Counter()
        for kept in self.logs["sightings"]:
            at = (kept.partition, kept.offset)
            clock = states[kept.partition].get(CLOCK)
            assert clock is not None, f"partition {kept.partition} of sightings has no clock"
            known = msgspec.msgpack.decode(clock.state, type=GathererState)
            assert min(clock.offset, known.offset) >= kept.offset, f"sightings {at} is beyond the durable clock"
            if at in letters:
                where["dead letters"] += 1
                continue
            sighting: Sighting = decode_sighting(kept.value or b"")
            found = states[kept.partition].get(slot_name(sighting.entity))
            place = in_slot(found and msgspec.msgpack.decode(found.state, type=Slot), sighting, known.now, self.policy)
            assert place, f"sightings {at} is lost: it is not in the state of its slot"
            where[place] += 1
        return where

    def told_of_campaigns(self) -> dict[int, Counter[bytes]]:
        """What each partition of ``events`` was told of campaigns, and how often."""
        told: dict[int, Counter[bytes]] = {p: Counter() for p in range(self.live.partitions_of("events"))}
        for kept, event in self.events:
            if isinstance(event, CampaignSeen | CodesSurged):
                told[kept.partition][kept.value or b""] += 1
        return told

    def due_from_campaign(self, expected: Regathered) -> Iterator[Due]:
        """What must be in the log before an offset of ``sightings`` is in the clock: the news, in every partition."""
        first = {(k.partition, k.value): k.offset for k, e in reversed(self.events) if isinstance(e, CampaignSeen | CodesSurged)}
        for news, (partition, offset) in zip(expected.records, expected.origins, strict=True):
            for p in range(self.live.partitions_of("events")):
                yield Due((SOURCE["campaign"], partition), offset, ("events", p), first[p, news])
        yield from self._due_letters("sightings")

    def last_words(self, expected: Refolded, zombies: bool) -> None:
        """The last decision on each challenge is the expected one; the last record, too, unless a stale owner may have written it."""
        said = [k.value for k in self.logs["decisions"]]
        wanted = [value for _, value, _ in expected.records["decisions"]]
        if zombies:  # the first of identical ones; a challenge may come back to what was said before, so on both sides
            said, wanted = list(dict.fromkeys(said)), list(dict.fromkeys(wanted))
        assert last_decisions(said) == last_decisions(wanted), "final assessments differ"

    # --- copies and commits

    def copies_of_letters(self) -> dict[str, int]:
        """How many dead letters were written again."""
        return {"dead-letters": self._letter_copies}

    def copies_of_ingest(self) -> Counter[str]:
        """How many records ingest wrote again, beyond what the raw records ask for; copies of one are identical in bytes."""
        wanted = Counter(name for found in self.raw.values() for _, names in found for name in names or ())
        copies: Counter[str] = Counter()
        for name, found in self._written().items():
            if name in wanted:
                bodies = {(k.partition, k.key, k.value) for k in found}
                assert len(bodies) <= wanted[name], f"{name} was written in {len(bodies)} ways"
                copies[name[0]] += max(0, len(found) - wanted[name])
        return copies

    def copies_of_detect(self, expected: Refolded) -> Counter[str]:
        """How many alerts and decisions were written again; copies of one are identical in bytes, and findings count up without a hole."""
        copies: Counter[str] = Counter()
        for topic in ("alerts", "decisions"):
            bodies: dict[tuple[str, int], set[tuple[object, ...]]] = defaultdict(set)
            for kept in self.logs[topic]:
                value = msgspec.json.decode(kept.value or b"")
                finding = topic == "alerts"
                name = (value["finding_info"]["uid"], value["metadata"]["sequence"]) if finding else (value["decision_id"], 0)
                bodies[name].add((kept.partition, kept.key, kept.value, kept.headers))
            differing = [name for name, found in bodies.items() if len(found) > 1]
            assert not differing, f"{topic} with copies that differ: {differing}"
            if topic == "alerts":
                sequences: dict[str, list[int]] = defaultdict(list)
                for uid, sequence in sorted(bodies):
                    sequences[uid].append(sequence)
                holes = {uid: found for uid, found in sequences.items() if found != list(range(1, len(found) + 1))}
                assert not holes, f"findings with holes: {holes}"
        for topic in DETECTED:
            copies[topic] = len(self.logs[topic]) - len(expected.records[topic])
            assert copies[topic] >= 0, f"{-copies[topic]} {topic} are missing"
        return copies

    def committed(self, stage: str) -> None:
        """What the group has committed does not pass what the state speaks for, nor what is there."""
        states = states_of(self.live.read(CHANGELOG[stage])) if stage in CHANGELOG else None
        for (topic, partition), offset in self.live.committed(stage).items():
            end = max((k.offset + 1 for k in self.logs[topic] if k.partition == partition), default=0)
            durable = end if states is None else states[partition][CLOCK].offset + 1
            assert offset <= min(end, durable), f"{stage} committed {offset} of {topic}/{partition}: end {end}, durable {durable}"


def _heard(log: Iterable[tuple[Kept, Event | Keyless | None]]) -> dict[tuple[int, str], list[Place]]:
    """Of each partition and mark: at which offsets it rose, and how far."""
    heard: dict[tuple[int, str], list[Place]] = defaultdict(list)
    for kept, event in log:
        for key, mark in event.marks.items() if isinstance(event, Beat) else ():
            found = heard[kept.partition, key]
            if not found or mark.read_to > found[-1][1]:
                found.append((kept.offset, mark.read_to))
    return heard


def _first_led_by(records: Iterable[R], origins: Iterable[Place]) -> dict[R, Place]:
    """What led to each record first: to one that is written again, such as a call that comes again after its link, more did."""
    return dict(reversed(list(zip(records, origins, strict=True))))


def _assert_in_front(heard: list[Place], arrived_at: int, topic: str, record: Kept) -> None:
    for offset, read_to in heard:
        if read_to > arrived_at:
            assert record.offset < offset, f"a beat at {topic} {record.partition}/{offset} speaks of what is at {record.offset}"
            break


def _decoded(decode_one: "object", value: bytes | None) -> Event | Keyless | None:
    try:
        found: Event | Keyless = decode_one(value or b"")  # type: ignore[operator]
    except msgspec.DecodeError:
        return None
    return found


def _name(topic: str, event: Event) -> Name:
    return (topic, type(event).__name__, event.event_id, event.account_id, event.arrived_at)


def _must_become(feed: Feed, kept: Kept) -> list[Name] | None:
    """The names of the records that a raw record must lead to; None when it cannot be read. A code sent to a phone links the two."""
    if kept.value is None:
        return [] if feed == "phone-links" else None
    try:
        record = _decode_raw[feed](kept.value)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    kind, account = BECOMES[type(record).__name__], getattr(record, "account_id", "")
    names: list[Name] = [("lines" if kind in BY_LINE else "events", kind, record.event_id, account, kept.timestamp)]
    if kind == "OtpDispatched" and record.phone is not None and record.status != "failed":
        names.append(("lines", "LinkChanged", record.event_id, account, kept.timestamp))
    return names
