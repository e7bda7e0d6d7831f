"""What cannot be read is set aside with a reason, its neighbours go on, and no number of a person gets anywhere."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest
from faust.types.tuples import TP

from pipeline.core.events import Beat
from pipeline.core.outcome import Outcome
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.store import Encoded
from pipeline.live.batch import Batch
from pipeline.live.changelog import ChangelogReader
from pipeline.live.detect import DetectStage
from pipeline.live.health import Health
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.wire.codec import decode_event, encode_event
from pipeline.wire.dead_letter import DeadLetters, parse
from pipeline.wire.log import LogRecord
from tests.broker.harness import ROOT, Deployment, Nowhere

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")
PHONE = "+447700900123"


def login(number: int, **other: object) -> bytes:
    at = datetime.now(UTC).isoformat()
    fields = {"event_id": f"l{number}", "occurred_at": at, "account_id": f"acc-{number}", "session_id": f"s{number}"}
    return json.dumps(fields | {"outcome": "passed", "flow": "login"} | other).encode()


def bad_logins() -> dict[str, bytes | None]:
    """Values that are no login, by the reason they must be refused for."""
    return {
        "broken JSON": b'{"event_id": "x", "occur',
        "not UTF-8": login(900).replace(b"s900", b"s\xff\xfe900"),
        "a wrong type": login(901, account_id=17),
        "a missing field": b'{"event_id":"x","occurred_at":"2026-01-01T00:00:00Z"}',
        "an unknown enum": login(902, outcome="maybe"),
        "nothing": None,
        "NaN": login(903).replace(b'"s903"', b"NaN"),
        "a date in 2099": login(904, occurred_at="2099-01-01T00:00:00Z"),
        "deep nesting": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "a large value": login(905, note="x" * 900_000),
    }


REASONS = {
    "broken JSON": "not_json",
    "not UTF-8": "not_utf8",
    "a wrong type": "invalid_field",
    "a missing field": "invalid_field",
    "an unknown enum": "invalid_field",
    "nothing": "no_value",
    "NaN": "not_json",
    "a date in 2099": "future",
    "deep nesting": "not_json",
    "a large value": "too_large",
}


def test_bad_records_are_set_aside_and_their_neighbours_are_read(deploy: Callable[..., Deployment]) -> None:
    live = deploy(log_append_time=True, trust_create_time="false", record_bytes=500_000)
    records = []
    for number, (name, value) in enumerate(bad_logins().items()):
        records += [Outgoing(b"a", login(number)), Outgoing(None if name == "nothing" else b"key", value)]
    live.append("logins", records, to=1)
    workers = {stage: live.start(stage) for stage in STAGES}
    live.finish(workers)
    letters = [parse(kept.headers, kept.key, kept.value) for kept in live.read("dead-letters")]
    assert sorted(letter.reason for letter in letters) == sorted(REASONS.values())
    sources = {(kept.partition, kept.offset): kept.value for kept in live.read("logins")}
    by_value = {value: REASONS[name] for name, value in bad_logins().items() if name in ("broken JSON", "nothing", "deep nesting")}
    for letter in letters:
        value = sources[letter.partition, letter.offset]
        assert letter.length == (None if value is None else len(value))
        assert by_value.get(value, letter.reason) == letter.reason
    events = [decode_event(kept.value or b"") for kept in live.read("events")]
    assert sorted(e.event_id for e in events if not isinstance(e, Beat)) == sorted(f"l{n}" for n in range(len(REASONS)))


def test_no_number_of_a_person_leaves_ingest(deploy: Callable[..., Deployment]) -> None:
    live = deploy(log_append_time=True, trust_create_time="false")
    at = datetime.now(UTC).isoformat()
    common = {"occurred_at": at, "phone": PHONE}
    call = {"type": "call", "call_id": "c1", "state": "answered", "direction": "inbound", "peer": "+15550100123"}
    link = {"event_id": "p1", "account_id": "acc-1", "status": "linked"}
    live.append("phone-links", [Outgoing(f"{PHONE}|acc-1".encode(), json.dumps(common | link).encode())])
    live.append("telephony", [Outgoing(PHONE.encode(), json.dumps(common | call | {"event_id": "t1"}).encode())])
    live.append("telephony", [Outgoing(PHONE.encode(), json.dumps(common | {"type": "call", "event_id": "t2"}).encode())])
    live.append("logins", [Outgoing(PHONE.encode(), PHONE.encode())])
    live.finish({stage: live.start(stage) for stage in STAGES})
    assert len(live.read("dead-letters")) == 2
    assert any(b'"call_changed"' in (kept.value or b"") for kept in live.read("events")), "the call reached the account"
    for topic in ("events", "lines", "alerts", "decisions", "holds", "dead-letters", "route-state", "detect-state"):
        for kept in live.read(topic):
            text = b"|".join([kept.key or b"", kept.value or b"", *(name.encode() + value for name, value in kept.headers)])
            assert b"7700900123" not in text, topic
            assert b"5550100123" not in text, topic


def test_topics_whose_producers_set_the_time_are_refused(deploy: Callable[..., Deployment]) -> None:
    live = deploy(trust_create_time="false")
    command = [sys.executable, "-m", "pipeline", "worker", "--stages", "ingest"]
    ended = subprocess.run(command, env=live.environment, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 3
    assert b"message.timestamp.type" in ended.stderr
    assert b"Traceback" not in ended.stderr


class Faulty(Partition):
    """The product's fold, with a fault in it that one account trips."""

    def fold(self, offset: int, event: object) -> list[Outcome]:
        if getattr(event, "account_id", "") == "acc-1":
            raise ZeroDivisionError("acc-1 and what it holds")
        return super().fold(offset, event)  # type: ignore[arg-type]


class FaultyStage(DetectStage):
    def new_fold(self, encoded: Callable[[], Encoded]) -> Partition:
        return Faulty(Policy(), encoded=encoded)


def test_a_bug_of_ours_sets_one_account_aside(deploy: Callable[..., Deployment], recorded: list[Outgoing]) -> None:
    live = deploy(partitions=1)
    template = next(decode_event(r.value or b"") for r in recorded if b'"logged_in"' in (r.value or b""))
    events = [msgspec.structs.replace(template, account_id=f"acc-{n % 3}", event_id=f"e{n}") for n in range(9)]  # type: ignore[type-var]
    live.append("events", [Outgoing(b"k", encode_event(e)) for e in events])

    async def run() -> None:
        connection = {"bootstrap_servers": live.bootstrap}
        async with Outbox(connection) as outbox:
            stage = FaultyStage(Policy(), 100, live.prefix, partial(ChangelogReader, connection), DeadLetters("reference"), Health())
            await outbox.know(stage.targets)
            await stage.start(outbox, Nowhere())
            tp = TP(live.prefix + "events", 0)
            stage.assigned({tp}, 1)
            records = [LogRecord(tp.topic, 0, n, 0, b"k", encode_event(e)) for n, e in enumerate(events)]
            batch = Batch(tp, 1, [_Fetched(r.offset, e.arrived_at, r.key, r.value, ()) for r, e in zip(records, events, strict=True)])
            await stage.prepare(batch)
            await stage.handle(batch)
            await stage.stop()

    asyncio.run(run())
    letters = [parse(kept.headers, kept.key, kept.value) for kept in live.read("dead-letters")]
    assert [(letter.reason, letter.offset) for letter in letters] == [("bug", 1), ("bug", 4), ("bug", 7)]
    assert "ZeroDivisionError at" in letters[0].detail
    assert "acc-1" not in "".join(letter.detail for letter in letters)
    state = [kept.key for kept in live.read("detect-state") if kept.key]
    assert {key.split(b"\0")[0] for key in state} == {b"", b"acc-0", b"acc-2", b"!acc-1"}


class _Fetched(msgspec.Struct):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
