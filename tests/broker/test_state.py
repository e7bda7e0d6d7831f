"""What may a worker start from? State that is there, whole, of a version it reads; anything else ends it with a word and an exit code."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterable

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.core.timeline import STATE_VERSION, read_head
from pipeline.exits import STATE
from pipeline.live.changelog import CLOCK, Image, encode_key, encode_value
from pipeline.live.outbox import Outgoing
from pipeline.wire.codec import encode_event
from pipeline.wire.dead_letter import parse
from tests.broker.harness import ROOT, Deployment
from tests.broker.verifier import verify
from tests.core.test_state_versions import recorded as recorded_states
from tests.core.test_state_versions import states_of as recorded_states_of

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]  # on a busy machine its workers take their time
WITHIN_S = 180.0


def ends_by_itself(live: Deployment, stage: str = "detect", **settings: object) -> tuple[int, str]:
    """Start a worker that must not go on; returns its exit code and its last words."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment
    environment |= {f"OFFHOOK_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "pipeline", "worker", "--stages", stage]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=300, check=False)
    return ended.returncode, ended.stderr.decode()


def remake(live: Deployment, topic: str) -> None:
    """Delete a topic, as somebody might who takes a changelog for a cache, and make it again, empty."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=live.bootstrap)
        await admin.start()
        try:
            full = live.prefix + topic
            await admin.delete_topics([full])
            deadline = asyncio.get_running_loop().time() + 60
            while full in await admin.list_topics():
                assert asyncio.get_running_loop().time() < deadline, "the topic does not go"
                await asyncio.sleep(0.1)
            answer = await admin.create_topics([NewTopic(full, live.partitions, 1, topic_configs={"cleanup.policy": "compact"})])
            assert all(error[1] == 0 for error in answer.topic_errors), answer
        finally:
            await admin.close()

    asyncio.run(run())


def keys(live: Deployment, topic: str) -> dict[int, Image]:
    images: dict[int, Image] = {}
    for kept in live.read(topic):
        assert kept.key is not None
        images.setdefault(kept.partition, Image()).take(kept.key, kept.value)
    return images


@pytest.mark.soak
def test_a_changelog_that_was_deleted_is_missed_and_going_on_without_it_must_be_asked_for(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live = deploy(partitions=2)
    half = len(recorded) // 2
    live.append("events", recorded[:half])
    live.finish({"detect": live.start("detect")}, within_s=WITHIN_S)
    committed = live.committed("detect")
    remake(live, "detect-state")
    for _ in range(2):  # the first attempt claims the partition: that must not pass for state
        code, said = ends_by_itself(live)
        assert code == STATE.code, said
        assert "StateMissing" in said
        assert "was the changelog deleted" in said
    assert live.committed("detect") == committed
    live.append("events", recorded[half:])
    live.finish({"detect": live.start("detect", start_without_state="true")}, within_s=WITHIN_S)
    assert min(live.committed("detect")[at] - offset for at, offset in committed.items()) > 0
    known = {entity for image in keys(live, "detect-state").values() for entity in image.kept} - {CLOCK}
    assert known <= {(r.key or b"").decode() for r in recorded[half:]}, "every account began anew"
    live.finish({"detect": live.start("detect")}, within_s=WITHIN_S)  # the setting was needed once


@pytest.mark.parametrize("version", range(1, STATE_VERSION))
def test_state_of_a_previous_version_is_read_and_of_a_newer_one_refused(deploy: Callable[..., Deployment], version: int) -> None:
    """Restored from a changelog, folded on and written anew; the events and the clock were recorded beside version 1."""
    _, clock, events = recorded_states()
    states = recorded_states_of(version)
    assert {read_head(raw).version for raw in states.values()} == {version}
    live = deploy(partitions=1)
    live.append("events", [Outgoing(b"k", encode_event(event)) for _, event in events])
    offset = msgspec.msgpack.decode(clock)[0]
    old = [Outgoing(encode_key(a, 1), encode_value(offset, raw)) for a, raw in states.items()]
    live.append("detect-state", [*old, Outgoing(encode_key(CLOCK, 1), encode_value(offset, clock))], to=0)
    live.finish({"detect": live.start("detect")}, within_s=WITHIN_S)
    kept = keys(live, "detect-state")[0].kept
    assert kept.keys() == {*states, CLOCK}
    assert kept[CLOCK].offset == events[-1][0]
    touched = {event.account_id for at, event in events if at > offset and hasattr(event, "account_id")}
    assert len(touched) > 2
    for account in touched:
        assert read_head(kept[account].state).version == STATE_VERSION
    assert len(live.read("alerts")) > 3

    newer = msgspec.msgpack.encode([STATE_VERSION + 1, offset, None, "a layout of tomorrow"])
    live.append("detect-state", [Outgoing(encode_key("acc-of-tomorrow", 99), encode_value(offset, newer))], to=0)
    last = live.read("detect-state")[-1].offset
    code, said = ends_by_itself(live)
    assert code == STATE.code, said
    assert f"version {STATE_VERSION + 1}; this code reads up to {STATE_VERSION}: upgrade the worker" in said
    assert live.read("detect-state")[-1].offset == last, "it has claimed nothing"


def test_tombstones_lose_nothing(deploy: Callable[..., Deployment], recorded: list[Outgoing]) -> None:
    """In an input they are dead letters; in the changelog the state of one account is forgotten, as whoever wrote it wants."""
    live = deploy(partitions=2)
    half = len(recorded) // 2
    live.append("events", with_tombstones(recorded[:half]))
    live.finish({"detect": live.start("detect")}, within_s=WITHIN_S)
    verify(live, stages=("detect",))
    letters = [parse(kept.headers, kept.key, kept.value) for kept in live.read("dead-letters")]
    assert sum(letter.reason == "no_value" for letter in letters) == len(with_tombstones(recorded[:half])) - half > 5
    image = keys(live, "detect-state")[0]
    gone = next(entity for entity in image.kept if entity != CLOCK)
    live.append("detect-state", [Outgoing(encode_key(gone, image.kept[gone].epoch), None)], to=0)
    live.append("events", recorded[half:])
    live.finish({"detect": live.start("detect")}, within_s=WITHIN_S)
    later = {(r.key or b"").decode() for r in recorded[half:]}
    after = keys(live, "detect-state")[0].kept
    assert (gone in after) == (gone in later)
    assert {entity for entity in image.kept if entity != gone} <= after.keys()


def with_tombstones(records: Iterable[Outgoing]) -> list[Outgoing]:
    found = []
    for number, record in enumerate(records):
        found.append(record)
        if record.key is not None and not number % 50:
            found.append(Outgoing(record.key, None))
    return found


@pytest.mark.soak
def test_damaged_state_ends_the_worker_before_it_says_anything(deploy: Callable[..., Deployment], recorded: list[Outgoing]) -> None:
    live = deploy(partitions=1)
    third = len(recorded) // 3
    live.append("events", recorded[:third])
    live.finish({"detect": live.start("detect")}, within_s=WITHIN_S)
    kept = keys(live, "detect-state")[0].kept
    later = {(r.key or b"").decode() for r in recorded[third:]}
    account = next(entity for entity in kept if entity in later and entity != CLOCK)
    state = bytearray(kept[account].state)
    state[len(state) // 2] ^= 0xFF
    live.append(
        "detect-state", [Outgoing(encode_key(account, kept[account].epoch), encode_value(kept[account].offset, bytes(state)))], to=0
    )
    decisions = live.read("decisions")
    live.append("events", [r for r in recorded[third:] if (r.key or b"").decode() == account])
    code, said = ends_by_itself(live)
    assert code == STATE.code, said
    assert "is damaged" in said
    assert account not in said
    assert live.read("decisions") == decisions
