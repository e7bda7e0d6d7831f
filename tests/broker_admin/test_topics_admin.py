"""Topics on a real broker: made once, never changed, and what is wrong with them is said."""

import pytest
from kafka import KafkaAdminClient

from pipeline.live.topics_admin import TopicReport, check, create
from pipeline.settings import Settings
from pipeline.wire.topics import TOPICS

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]


@pytest.fixture
def settings(broker: str, topic_prefix: str) -> Settings:
    return Settings(brokers=broker, prefix=topic_prefix)


def by_name(settings: Settings, reports: list[TopicReport]) -> dict[str, TopicReport]:
    return {report.topic.removeprefix(settings.prefix): report for report in reports}


def make(settings: Settings, name: str, partitions: int, **configs: str) -> None:
    values = {key.replace("_", "."): value for key, value in configs.items()}
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap)
    try:
        topic = {"num_partitions": partitions, "replication_factor": 1, "configs": values}
        admin.create_topics({settings.topic(name): topic}, wait_for_metadata=True)
    finally:
        admin.close()


def test_made_once(settings: Settings) -> None:
    before = by_name(settings, check(settings))
    assert {r.state for r in before.values()} == {"missing"}
    assert all(r.ok == (TOPICS[name].direction == "in") for name, r in before.items()), "a feed may be absent, the rest may not"

    first = by_name(settings, create(settings, partitions=2))
    assert set(first) == set(TOPICS)
    assert {r.state for r in first.values()} == {"created"}
    made = {name: 1 if TOPICS[name].partitions == 1 else 2 for name in TOPICS}  # what has one order has one partition
    assert {name: r.partitions for name, r in first.items()} == made
    assert all(r.ok for r in first.values()), [str(r) for r in first.values() if not r.ok]

    second = by_name(settings, create(settings, partitions=3))
    assert {r.state for r in second.values()} == {"there"}
    assert {name: r.partitions for name, r in second.items()} == made
    assert all(any("not the 3 asked for" in a for a in r.advice) for r in second.values() if r.partitions == 2)
    assert all(r.ok for r in check(settings))


def test_as_many_partitions_as_the_table_says(settings: Settings) -> None:
    assert {n: r.partitions for n, r in by_name(settings, create(settings)).items()} == {n: t.partitions for n, t in TOPICS.items()}


def test_wrong_topics_are_named_and_left_alone(settings: Settings) -> None:
    make(settings, "logins", 3, cleanup_policy="delete", message_timestamp_type="CreateTime")
    make(settings, "detect-state", 5, cleanup_policy="delete")
    make(settings, "route-state", 4, cleanup_policy="compact,delete", retention_ms="1000")
    make(settings, "lines", 6, message_timestamp_type="LogAppendTime")
    make(settings, "decisions", 1, retention_ms="60000", message_timestamp_type="LogAppendTime")

    for reports in (create(settings, partitions=2), check(settings)):
        found = by_name(settings, reports)
        assert found["logins"].wrong == (
            "message.timestamp.type is CreateTime, should be LogAppendTime: a producer's clock may lie;"
            " or set OFFHOOK_TRUST_CREATE_TIME=true if yours cannot",
        )
        assert found["detect-state"].wrong[0] == "cleanup.policy is delete, should be compact"
        assert found["events"].partitions == 5, "made with as many partitions as the state that was there"
        assert "retention.ms is 1000, should be -1" in found["route-state"].wrong
        assert any("6" in w and "must have the same number" in w for w in found["route-state"].wrong)
        assert any("4" in w and "must have the same number" in w for w in found["lines"].wrong)
        assert found["decisions"].ok
        assert any(a.startswith("retention.ms is 60000, should be at least") for a in found["decisions"].advice)
        assert "wrong: cleanup.policy is delete" in str(found["detect-state"])

    trusting = Settings(brokers=settings.brokers, prefix=settings.prefix, trust_create_time=True)
    assert by_name(trusting, check(trusting))["logins"].ok


def test_the_clock_of_our_own_logs_is_the_brokers(settings: Settings) -> None:
    make(settings, "events", 2, message_timestamp_type="CreateTime")
    trusting = Settings(brokers=settings.brokers, prefix=settings.prefix, trust_create_time=True)
    assert not by_name(trusting, check(trusting))["events"].ok, "the setting is about raw topics only"
