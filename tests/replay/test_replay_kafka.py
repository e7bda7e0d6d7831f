"""Does a replay straight from Kafka say what a replay of the dump says, and leave nothing behind?"""

from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaProducer

from pipeline.__main__ import main
from pipeline.core.events import FEEDS
from pipeline.wire.log import read_log
from tests.replay.raw import START, story

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]


@pytest.fixture
def filled(broker: str, topic_prefix: str) -> str:
    """Raw topics on the broker with the story in them, arrivals as in the log."""
    admin = KafkaAdminClient(bootstrap_servers=broker)
    try:
        unlimited = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        admin.create_topics({topic_prefix + feed: {"num_partitions": 2, "replication_factor": 1, "configs": unlimited} for feed in FEEDS})
    finally:
        admin.close()
    log = story()
    log.raw("logins", START + 1, b"{broken")
    producer = KafkaProducer(bootstrap_servers=broker)
    for record in log.by_arrival():
        producer.send(topic_prefix + record.topic, record.value, record.key, timestamp_ms=record.ts).get(30)
    producer.close()
    return broker


def replayed(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, ["replay", "--demo-key", "-q", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_kafka_and_dump_say_the_same(filled: str, topic_prefix: str, tmp_path: Path) -> None:
    log = story()
    log.raw("logins", START + 1, b"{broken")
    replayed(log.write(tmp_path / "log.jsonl"), "--out", tmp_path / "dump")
    replayed("--kafka", filled, "--prefix", topic_prefix, "--since", "2026-01-01T00:00:00Z", "--out", tmp_path / "kafka")
    for name in ("alerts.jsonl", "decisions.jsonl", "holds.jsonl"):
        assert (tmp_path / "kafka" / name).read_bytes() == (tmp_path / "dump" / name).read_bytes(), name
    assert (tmp_path / "dump" / "alerts.jsonl").stat().st_size > 1000
    assert len(list(read_log(tmp_path / "kafka" / "dead-letters.jsonl"))) == 1
    admin = KafkaAdminClient(bootstrap_servers=filled)
    try:
        groups = [group["group_id"] for group in admin.list_groups()]
    finally:
        admin.close()
    assert not [group for group in groups if topic_prefix in group]


def test_a_span_of_time(filled: str, topic_prefix: str, tmp_path: Path) -> None:
    span = ("--since", "2026-11-20T00:00:00Z", "--until", "2026-11-22T10:00:00+02:00")
    said = replayed("--kafka", filled, "--prefix", topic_prefix, *span, "--out", tmp_path)
    assert "read          12 records" in said
    assert "20 Nov 07:53:00 to 21 Nov 08:00:14" in said
