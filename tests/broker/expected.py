"""What should a run have written? Its recorded ``events`` topic folded again, apart from all that carried it: an independent verifier."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.live.changelog import CLOCK, Image
from pipeline.wire.codec import OutcomeEncoder, decode_event
from tests.broker.harness import Deployment, Kept

OUTPUTS = ("alerts", "decisions", "holds")
SAME = ("stage", "level", "probability", "incident_id", "finding_uid")  # of the last decision on a challenge, however it was carried
Written = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]  # key, value, headers


class Refolded(NamedTuple):
    """What a second fold of the recorded events says, and the partitions it ends with."""

    records: dict[str, list[Written]]  # per output topic, in the order of the fold, partition by partition
    partitions: dict[int, Partition]


def refold(events: Iterable[Kept]) -> Refolded:
    """Fold recorded events, given partition by partition and in offset order."""
    encode = OutcomeEncoder("live").encode
    partitions: dict[int, Partition] = {}
    records: dict[str, list[Written]] = {topic: [] for topic in OUTPUTS}
    for event in events:
        assert event.value is not None
        partition = partitions.setdefault(event.partition, Partition(Policy()))
        for outcome in partition.fold(event.offset, decode_event(event.value)):
            out = encode(outcome)
            if out is not None:
                records[out.topic].append((out.key, out.value, out.headers))
    return Refolded(records, partitions)


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
    for topic in ("alerts", "decisions"):
        found = written(deployment.read(topic))
        assert [r for r in expected.records[topic] if r not in set(found)] == [], f"{topic} that were not written"
        assert [r for r in found if r not in set(expected.records[topic])] == [], f"{topic} that should not have been written"
        assert per_key(found) == per_key(list(dict.fromkeys(expected.records[topic]))), f"{topic}: another order"
    holds = [(k.key, k.value, k.headers) for k in deployment.read("holds")]
    assert standing(holds) == standing(expected.records["holds"])
    assert {r for r in holds if r[1] is not None} == {r for r in expected.records["holds"] if r[1] is not None}
    return expected


def per_key(records: Iterable[Written]) -> dict[bytes | None, list[Written]]:
    """The records of each key in the order in which they were written."""
    found: dict[bytes | None, list[Written]] = {}
    for record in records:
        found.setdefault(record[0], []).append(record)
    return found


def assert_state(deployment: Deployment, expected: Refolded) -> None:
    """Assert that the changelog holds the state of every account as the verifier has it, and the clock, byte for byte."""
    images: dict[int, Image] = {}
    for kept in deployment.read("detect-state"):
        assert kept.key is not None
        images.setdefault(kept.partition, Image()).take(kept.key, kept.value)
    assert images.keys() >= expected.partitions.keys()
    for number, partition in expected.partitions.items():
        kept = images[number].kept
        assert kept.pop(CLOCK).state == partition.clock(), f"the clock of partition {number}"
        assert {entity: k.state for entity, k in kept.items()} == partition.changes(), f"partition {number}"


def last_decisions(values: Iterable[bytes | None]) -> dict[tuple[str, str], tuple[object, ...]]:
    """The last word on each challenge, those left out that ended clear and unused (law 7: the final assessments)."""
    last = {}
    for value in values:
        decision = json.loads(value or b"{}")
        last[decision["account_id"], decision["otp_id"]] = tuple(decision[name] for name in SAME)
    return {key: said for key, said in last.items() if said[:2] not in (("before_entry", "clear"), ("near_miss", "clear"))}
