"""What should a run have written? Its recorded ``lines`` and ``events`` folded again by the pure fold, apart from all that carried it."""

import json
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from pipeline.core.champion import Shelf
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Keyless
from pipeline.core.gatherer import Gatherer
from pipeline.core.outcome import Late
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.wire.codec import OutcomeEncoder, decode_event, decode_line_event, decode_sighting, encode_event
from tests.broker.harness import Deployment, Kept
from tests.broker.verifier_state import CLOCK, Entry, states_of

OUTPUTS = ("alerts", "decisions", "holds", "examples", "sightings")
SAME = ("stage", "level", "probability", "incident_id", "finding_uid")  # of the last decision on a challenge, however it was carried
Written = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]  # key, value, headers
Place = tuple[int, int]  # partition and offset of an input


class Refolded(NamedTuple):
    """What a second fold of the recorded events says, and the partitions it ends with."""

    records: dict[str, list[Written]]  # per output topic, in the order of the fold, partition by partition
    origins: dict[str, list[Place]]  # for each of the records, the event that led to it
    late: set[Place]  # events that came too late
    partitions: dict[int, Partition]


def refold(events: Iterable[Kept], refused: Collection[Place] = (), policy: Policy | None = None, models: Shelf | None = None) -> Refolded:
    """Fold recorded events, given partition by partition and in offset order; those ``refused`` are left out, beats never."""
    encode = OutcomeEncoder("live").encode
    policy = policy or Policy()
    said = Refolded({topic: [] for topic in OUTPUTS}, {topic: [] for topic in OUTPUTS}, set(), {})
    for event in events:
        at = (event.partition, event.offset)
        partition = said.partitions.setdefault(event.partition, Partition(policy, models=models))
        try:
            decoded = decode_event(event.value or b"")
        except InvalidEvent:
            continue  # whether it is in a dead letter is the verifier's question
        if at in refused and not isinstance(decoded, Keyless):
            continue
        for outcome in partition.fold(event.offset, decoded):
            out = encode(outcome)
            if out is not None and out.topic in OUTPUTS:
                said.records[out.topic].append((out.key, out.value, out.headers))
                said.origins[out.topic].append(at)
            elif isinstance(outcome, Late):
                said.late.add(at)
    return said


class Rerouted(NamedTuple):
    """What a second fold of the recorded lines addresses to accounts: keys and values, and the line event that led to each."""

    records: list[tuple[bytes, bytes]]
    origins: list[Place]


def reroute(lines: Iterable[Kept], refused: Collection[Place] = (), policy: Policy | None = None) -> Rerouted:
    """Route recorded line events again, given partition by partition and in offset order."""
    routers: dict[int, Router] = {}
    said = Rerouted([], [])
    for line in lines:
        at = (line.partition, line.offset)
        if at in refused:
            continue
        router = routers.setdefault(line.partition, Router(policy or Policy()))
        for event in router.fold(line.offset, decode_line_event(line.value or b"")):
            said.records.append((event.account_id.encode(), encode_event(event)))
            said.origins.append(at)
    return said


class Regathered(NamedTuple):
    """What a second count of the recorded sightings tells of campaigns, the sighting that led to each, and what it ends with."""

    records: list[bytes]
    origins: list[Place]
    gatherers: dict[int, Gatherer]


def regather(sightings: Iterable[Kept], refused: Collection[Place] = (), policy: Policy | None = None) -> Regathered:
    """Count recorded sightings again, given partition by partition and in offset order."""
    said = Regathered([], [], {})
    for kept in sightings:
        at = (kept.partition, kept.offset)
        gatherer = said.gatherers.setdefault(kept.partition, Gatherer(policy or Policy()))
        if at in refused:
            continue
        news = gatherer.fold(kept.offset, decode_sighting(kept.value or b""))
        if news is not None:
            said.records.append(encode_event(news))
            said.origins.append(at)
    return said


def assert_told(expected: Regathered, told: dict[int, Counter[bytes]]) -> int:
    """Assert that every partition of ``events`` was told of the expected campaigns and no others; returns how many were told again."""
    wanted = Counter(expected.records)
    for partition, found in told.items():
        assert not wanted - found, f"campaigns that partition {partition} was not told of: {list(wanted - found)[:3]}"
        assert found.keys() <= wanted.keys(), f"campaigns that nobody saw: {list(found.keys() - wanted.keys())[:3]}"
    return sum((found - wanted).total() for found in told.values())


def assert_gathered(states: dict[int, dict[str, Entry]], expected: Regathered) -> None:
    """Assert that the changelog holds every slot as a second count has it, byte for byte."""
    for number, gatherer in expected.gatherers.items():
        kept = dict(states[number])
        assert kept.pop(CLOCK).state == gatherer.clock(), f"the clock of partition {number} of sightings"
        assert {slot: entry.state for slot, entry in kept.items()} == gatherer.changes(), f"slots of partition {number} of sightings"


def assert_routed(expected: Rerouted, events: Iterable[tuple[bytes | None, bytes | None]]) -> int:
    """Assert that the events which came by a line are those that route must write; returns how many were written again."""
    wanted, found = Counter(expected.records), Counter(events)
    assert not wanted - found, f"events that route did not write: {list(wanted - found)[:3]}"
    assert found.keys() <= wanted.keys(), f"events that route should not have written: {list(found.keys() - wanted.keys())[:3]}"
    return sum((found - wanted).values())


def written(kept: Iterable[Kept]) -> list[Written]:
    """Records as they were written, redelivered copies left out: the first of identical ones stands.

    A hold may be placed, ended and placed again with the same bytes: holds are compared by what stands at the end, see ``standing``.
    """
    return list(dict.fromkeys((k.key, k.value, k.headers) for k in kept))


def standing(records: Iterable[Written]) -> dict[bytes | None, bytes]:
    """What a compacted topic says at the end: the last value per key, tombstones cleared."""
    last = {key: value for key, value, _ in records}
    return {key: value for key, value in last.items() if value is not None}


def assert_parity(deployment: Deployment) -> Refolded:
    """Assert that the run's outputs are those of its recorded events, byte for byte; returns what the verifier has folded."""
    expected = refold(deployment.read("events"))
    assert_outputs(deployment, expected)
    return expected


def assert_outputs(deployment: Deployment, expected: Refolded, zombies: bool = False) -> None:
    """Assert that what detect has written is what is expected, byte for byte and, per key, in order.

    ``zombies``: a stale owner may have written a hold last that had stood before; it then must be one that did stand.
    """
    for topic in ("alerts", "decisions", "examples", "sightings"):
        found = written(deployment.read(topic))
        there, wanted = set(found), set(expected.records[topic])
        assert [r for r in expected.records[topic] if r not in there] == [], f"{topic} that were not written"
        assert [r for r in found if r not in wanted] == [], f"{topic} that should not have been written"
        if topic != "sightings":  # accounts of several partitions write of one entity, and none waits for another
            assert per_key(found) == per_key(list(dict.fromkeys(expected.records[topic]))), f"{topic}: another order"
    holds = [(k.key, k.value, k.headers) for k in deployment.read("holds")]
    if not zombies:
        assert standing(holds) == standing(expected.records["holds"])
    assert set(holds) == set(expected.records["holds"])


def per_key(records: Iterable[Written]) -> dict[bytes | None, list[Written]]:
    """The records of each key in the order in which they were written."""
    found: dict[bytes | None, list[Written]] = {}
    for record in records:
        found.setdefault(record[0], []).append(record)
    return found


def assert_state(deployment: Deployment, expected: Refolded) -> None:
    """Assert that the changelog holds the state of every account as the verifier has it, and the clock, byte for byte."""
    states = states_of(deployment.read("detect-state"))
    assert states.keys() >= expected.partitions.keys()
    for number, partition in expected.partitions.items():
        kept = dict(states[number])
        assert kept.pop(CLOCK).state == partition.clock(), f"the clock of partition {number}"
        assert {entity: entry.state for entity, entry in kept.items()} == partition.changes(), f"partition {number}"


def last_decisions(values: Iterable[bytes | None]) -> dict[tuple[str, str], tuple[object, ...]]:
    """The last word on each challenge, those left out that ended clear and unused (law 7: the final assessments)."""
    last = {}
    for value in values:
        decision = json.loads(value or b"{}")
        last[decision["account_id"], decision["otp_id"]] = tuple(decision[name] for name in SAME)
    return {key: said for key, said in last.items() if said[:2] not in (("before_entry", "clear"), ("near_miss", "clear"))}
