"""What does a changelog decode to, and is an event in it? Read from the records alone: the verifier's own view of durable state."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.core.beats import ClockState
from pipeline.core.events import Beat, CallChanged, Disposed, Event, LineChanged, LineEvent, LineLinked, LinkChanged
from pipeline.core.policy import Policy
from pipeline.core.profile import FACTS_PER_CHANGE, LinkFact
from pipeline.core.route import LineState
from pipeline.core.timeline import Timeline
from tests.broker.harness import Kept

CLOCK = ""  # the entity under which a partition's clock is kept


class Entry(NamedTuple):
    """The state of an entity as its owner of an epoch wrote it, as of an input offset."""

    epoch: int
    offset: int
    state: bytes


def entry_of(key: bytes, value: bytes) -> tuple[str, Entry]:
    """Read a record of a changelog: the key is entity, zero, epoch in 8 bytes; the value the input offset in 8 (signed) and the state."""
    assert key[-9:-8] == b"\0", "not a key of a changelog"
    offset = int.from_bytes(value[:8], "big", signed=True)
    return key[:-9].decode(), Entry(int.from_bytes(key[-8:], "big"), offset, value[8:])


def states_of(log: Iterable[Kept]) -> dict[int, dict[str, Entry]]:
    """What a changelog says, per partition: each entity in the words of the highest epoch; a tombstone ends its own key only.

    One key is one owner's, whose input offsets never fall: if they do, two owners share an epoch. (A claim that was given up may
    repeat an epoch with an older clock, which says less than the newer one and nothing else: the newest stands.)
    """
    last: dict[tuple[int, bytes], Entry | None] = {}
    names: dict[bytes, str] = {}
    for kept in log:
        assert kept.key is not None
        at = (kept.partition, kept.key)
        if kept.value is None:
            last[at] = None
            continue
        names[kept.key], entry = entry_of(kept.key, kept.value)
        before = last.get(at)
        if before is None or before.offset <= entry.offset:
            last[at] = entry
        else:
            assert names[kept.key] == CLOCK, f"two owners of epoch {entry.epoch} write to partition {kept.partition}"
    states: dict[int, dict[str, Entry]] = defaultdict(dict)
    for (partition, key), found in last.items():
        if found is not None and not names[key].startswith("!"):  # such an entity says that an account is set aside
            have = states[partition].get(names[key])
            if have is None or found[:2] > have[:2]:
                states[partition][names[key]] = found
    return states


def clocks_of(log: Iterable[Kept]) -> dict[int, int]:
    """The input offset up to which each partition of a changelog speaks; -1 where it was claimed and nothing was folded."""
    return {partition: found[CLOCK].offset for partition, found in states_of(log).items() if CLOCK in found}


def assert_in_clock(clock: ClockState, beat: Beat, at: tuple[int, int]) -> None:
    """Assert that a partition's clock has heard a beat, apart from marks of what nobody expects."""
    assert clock.offset >= at[1], f"{at} is beyond the clock's offset {clock.offset}"
    for key, mark in beat.marks.items():
        if key.partition("/")[0] not in clock.partitions:
            continue
        heard = clock.marks[key].read_to if key in clock.marks else -1
        assert heard >= mark.read_to, f"the beat at {at} is lost: {key} is not at {mark.read_to}"


def in_timeline(t: Timeline, event: Event, policy: Policy) -> str:
    """Where an account's state has an event: ``recent``, ``sealed`` or ``merged`` (profile), ``dropped`` by a bound; empty: nowhere."""
    match event:
        case LineChanged():
            facts = t.profile.line_facts.get(event.line, ())
            later = [f for f in facts if f.change == event.change and (f.occurred_at, f.event_id) > (event.occurred_at, event.event_id)]
            known = any(f.event_id == event.event_id for f in facts)
            return "merged" if known or len(later) >= FACTS_PER_CHANGE else ""
        case LineLinked():
            fact = t.profile.links.get(event.line)
            heard = fact is not None and _rank(fact) >= _rank(event) and fact.counted_at >= event.arrived_at
            return "merged" if heard else ""
        case Disposed():
            key = (event.occurred_at, event.event_id)
            forgotten = len(t.disposals) == 2 * policy.bounds.settled and key < t.disposals[0]
            return "merged" if key in t.disposals or forgotten else ""
        case _:
            if any(e.event_id == event.event_id for e in t.recent):
                return "recent"
            return "sealed" if event.occurred_at <= t.sealed_to else "dropped" if t.dropped else ""


def _rank(word: LineLinked | LinkFact) -> tuple[bool, int, str]:
    return (word.status != "learned", word.occurred_at, word.event_id)


def in_line(line: LineState, event: LineEvent, aged_before: int, policy: Policy) -> str:
    """Where a line's state has an event: ``recent``, ``merged``, ``aged`` out or ``dropped`` by a bound; empty: nowhere.

    ``aged_before``: calls and messages that arrived earlier have been let go (ms).
    """
    match event:
        case LinkChanged():
            link = line.links.get(event.account_id)
            if link is None:  # a full line lets go of the account that was not heard of for longest
                kept = [(max(k.occurred_at, k.dispatched_at), account) for account, k in line.links.items()]
                full = len(kept) == policy.bounds.line_links
                return "dropped" if full and (event.occurred_at, event.account_id) < min(kept) else ""
            learned = event.status == "learned" and link.dispatched_at >= event.occurred_at
            declared = event.status != "learned" and (link.occurred_at, link.event_id) >= (event.occurred_at, event.event_id)
            return "merged" if learned or declared else ""
        case LineChanged():
            have = line.changes.get(event.change, ())
            later = [c for c in have if (c.occurred_at, c.event_id) > (event.occurred_at, event.event_id)]
            return "merged" if any(c.event_id == event.event_id for c in have) or len(later) >= FACTS_PER_CHANGE else ""
        case _:
            if any(e.event_id == event.event_id for e in line.recent):
                return "recent"
            return "aged" if event.arrived_at < aged_before else "dropped" if len(line.recent) == policy.bounds.recent_events else ""


def is_counted_call(event: Event) -> bool:
    """Whether a sealed event adds to the account's number of inbound calls."""
    return isinstance(event, CallChanged) and event.direction == "inbound" and event.state in ("answered", "missed")
