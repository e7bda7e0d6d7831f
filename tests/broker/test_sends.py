"""What if the broker does not take what a stage writes? The worker ends with a sentence, or goes on and says what it left out."""

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline.exits import BROKERS
from pipeline.live import outbox
from pipeline.live.limits import DEFAULT_BYTES, SendFailed, batch_bytes
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.wire.dead_letter import DeadLetter, parse
from tests.broker.expected import Written, assert_state, refold, written
from tests.broker.harness import Deployment
from tests.broker.keeper import Keeper, last_words, launch, wait_until
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker


def configure(live: Deployment, topic: str, largest: int) -> None:
    """Change how large a produce batch a topic takes while it is in use; the rest of its configuration stays."""
    admin = KafkaAdminClient(bootstrap_servers=live.bootstrap)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, live.prefix + topic, {"max.message.bytes": str(largest)})])
    finally:
        admin.close()


def letters(live: Deployment) -> list[DeadLetter]:
    return [parse(kept.headers, kept.key, kept.value) for kept in live.read("dead-letters")]


def sizes(records: Iterable[Written]) -> list[int]:
    """How large the produce batch of each record alone is, in order of size."""
    return sorted(batch_bytes(key, value, headers) for key, value, headers in records)


@pytest.mark.soak
def test_a_topic_that_takes_less_than_before_ends_the_worker_and_a_new_one_sends_less_at_once(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live = deploy()
    with Watch(live) as watch:
        worker = launch(live, "detect")
        wait_until(lambda: live.read("detect-state"), "a claim")
        configure(live, "decisions", 12_000)  # a decision has 2 to 5 kB
        live.append("events", recorded)
        said = last_words(live, worker, BROKERS.code)
        assert f"{live.prefix}decisions-" in said
        assert "MessageSizeTooLargeError: the topic takes smaller batches than when this worker started" in said
        live.finish({"detect": live.start("detect")})
    verify(live, ("detect",), watch=watch)
    assert letters(live) == []


def test_an_output_that_can_never_be_sent_is_left_out_and_said_and_the_rest_goes_on(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    """An alert larger than its topic takes: without this, the worker would meet it again at each start and never get behind it."""
    live = deploy()
    live.append("events", recorded)
    expected = refold(live.read("events"))
    alerts = expected.records["alerts"]
    most = sizes(alerts)[len(alerts) // 2]
    configure(live, "alerts", most)
    live.finish({"detect": live.start("detect")})
    fit = [alert for alert in alerts if batch_bytes(*alert) <= most]
    assert 0 < len(fit) < len(alerts)
    assert sorted(written(live.read("alerts"))) == sorted(dict.fromkeys(fit))
    assert sorted(written(live.read("decisions"))) == sorted(dict.fromkeys(expected.records["decisions"]))
    assert_state(live, expected)
    said = letters(live)
    assert {letter.reason for letter in said} == {"too_large"}
    assert {letter.topic for letter in said} == {f"{live.prefix}events"}
    assert all(f"and {live.prefix}alerts takes {most}" in letter.detail for letter in said)
    assert sum(letter.detail.count("an output of") for letter in said) == len(alerts) - len(fit)


def test_state_that_is_larger_than_its_topic_takes_ends_the_worker_and_nothing_is_lost(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    """State cannot be left out: the worker ends at once, at each start, until somebody does what it says."""
    live = deploy()
    live.append("events", recorded)
    configure(live, "detect-state", 1_500)
    said = last_words(live, launch(live, "detect"), BROKERS.code)
    assert f"RecordTooLarge: {live.prefix}detect-state: a record of" in said
    assert "raise its max.message.bytes to" in said
    configure(live, "detect-state", DEFAULT_BYTES)
    live.finish({"detect": live.start("detect")})
    verify(live, ("detect",))


@pytest.mark.soak
def test_records_near_the_limit(deploy: Callable[..., Deployment]) -> None:
    """A raw record as large as the broker takes is read, or its dead letter fits where its copy would not."""
    live = deploy(log_append_time=True, trust_create_time="false", dead_letters="plain", partitions=1)
    configure(live, "dead-letters", 20_000)
    at = datetime.now(UTC).isoformat()
    login = {"event_id": "l1", "occurred_at": at, "account_id": "a", "session_id": "s", "outcome": "passed", "flow": "login"}
    largest = DEFAULT_BYTES - batch_bytes(b"a", b"x" * (1 << 20), ()) + (1 << 20)
    near = json.dumps(login | {"note": ""}).encode()
    near = near.replace(b'"note": ""', b'"note": "' + b"x" * (largest - len(near)) + b'"')
    live.append(
        "logins", [Outgoing(b"a", near), Outgoing(b"a", b"x" * 50_000), Outgoing(b"a", b"x" * 5_000), Outgoing(b"a", b"x" * largest)]
    )
    live.finish({stage: live.start(stage) for stage in ("ingest", "route", "detect")})
    assert [(letter.offset, letter.form, letter.length) for letter in letters(live)] == [
        (1, "reference", 50_000),
        (2, "plain", 5_000),
        (3, "reference", largest),
    ]
    verify(live)


def test_a_send_that_nobody_takes_ends_with_the_reason(deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka would try for ever, since the error might pass."""
    monkeypatch.setattr(outbox, "ANSWER_S", 3.0)
    live = deploy(partitions=1)
    topic, record = live.prefix + "holds", [Outgoing(b"k", b"v")]

    async def send() -> None:
        async with Outbox({"bootstrap_servers": live.bootstrap}) as out:
            await out.know([topic])
            await out.append(topic, 0, record)
            await asyncio.to_thread(delete, live, "holds")
            async with asyncio.timeout(60):
                while True:  # a topic is gone some time after the answer that it is
                    await out.append(topic, 0, record)

    with pytest.raises(SendFailed, match=r"holds-0: 1 records not taken in time: the topic is gone; .*offhook topics create"):
        asyncio.run(send())


def delete(live: Deployment, topic: str) -> None:
    """Delete a topic, as somebody does who thinks it is another one."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=live.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics([live.prefix + topic])
        finally:
            await admin.close()

    asyncio.run(run())


def make_anew(live: Deployment, topic: str) -> None:
    kept = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=live.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(live.prefix + topic, live.partitions, 1, topic_configs=kept)])
        finally:
            await admin.close()

    asyncio.run(run())


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_worker_whose_topic_is_deleted_commits_nothing_and_goes_on_when_it_is_there_again(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live = deploy()
    worker = launch(live, "detect")
    wait_until(lambda: len({kept.partition for kept in live.read("detect-state")}) == live.partitions, "claims")
    delete(live, "decisions")
    live.append("events", recorded)
    said = last_words(live, worker, BROKERS.code, within_s=180)
    assert "the topic is gone" in said, said
    make_anew(live, "decisions")
    with Keeper(live, ["detect"]) as kept:
        kept.finish()
    verify(live, ("detect",))
