"""A change of the world on a real broker: told when its day is over, with no label anywhere, and not again by the next worker."""

import asyncio
import signal
import time
from collections.abc import Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.core.learn.drift_days import DAY_MS
from pipeline.live.drift import DAYS_AGAIN
from pipeline.live.outbox import Outgoing
from pipeline.wire.dead_letter import parse
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment
from tests.broker.test_monitoring_live import free_ports, samples, total, wait_until_ready
from tests.live.test_drift_told import A_DAY, FIRST, judged

pytestmark = pytest.mark.broker
DRIFTS = "offhook_drifts_total"
TOLD_AT = "offhook_drift_told_timestamp_seconds"


def write(live: Deployment, days: range, slow: range) -> None:
    """The decisions of these days, to two of the three partitions: the third is idle."""
    for partition in (0, 1):
        decided = [judged(day, number, day in slow)[1] for day in days for number in range(partition, A_DAY, 2)]
        live.append("decisions", [Outgoing(b"account", value) for value in decided], to=partition)


def test_a_change_is_told_when_its_day_is_over_and_not_again_by_the_next_worker(
    deploy: Callable[..., Deployment], capfd: pytest.CaptureFixture[str]
) -> None:
    live = deploy(partitions=3)
    ports = free_ports(2)
    slow = {"what": "feature", "feature": "entry_latency_s"}
    live.append("decisions", [Outgoing(b"account", b"nonsense")], to=0)
    write(live, range(5), slow=range(4, 6))
    started = time.time()
    first = live.start("drift", http_port=ports[0])
    live.settled(("drift",))
    assert total(samples(ports[0]), DRIFTS, **slow) == 0, "the day that shows it is not over"
    write(live, range(5, 6), slow=range(4, 6))
    live.until(lambda: total(samples(ports[0]), DRIFTS) == 1, "the change is told")
    assert total(samples(ports[0]), DRIFTS, **slow) == 1
    live.until(lambda: total(samples(ports[0]), TOLD_AT, **slow) > started, "and when")
    live.settled(("drift",))

    first.send_signal(signal.SIGKILL)
    first.wait()
    second = live.start("drift", http_port=ports[1])
    wait_until_ready(ports[1])
    found = samples(ports[1])
    assert total(found, "offhook_restored_records_total", stage="drift") == 1 + 6 * A_DAY
    assert total(found, DRIFTS) == total(found, TOLD_AT) == 0, "it was told"
    write(live, range(6, 8), slow=range(4, 6))
    live.until(lambda: total(samples(ports[1]), DRIFTS) == 1, "the end of the change is told: its beginning is known")
    live.settled(("drift",))
    assert live.stop(second) == 0

    said = [line for line in capfd.readouterr().err.splitlines() if "entry_latency_s went" in line]
    assert ["up" if " went up " in line else "down" for line in said] == ["up", "down"]
    assert "on 2024-10-08" in said[0]
    assert "on 2024-10-10" in said[1]
    letters = [parse(kept.headers, kept.key, kept.value) for kept in live.read("dead-letters")]
    assert [(letter.topic, letter.offset, letter.reason) for letter in letters] == [(live.prefix + "decisions", 0, "not_json")]
    assert live.read("examples") == [], "nobody has labelled anything"


def stamped(live: Deployment, kind: str) -> None:
    """Let what is written to ``decisions`` from now on have the time of its producer (``CreateTime``), or of its arrival."""

    async def alter() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=live.bootstrap)
        await client.start()
        try:
            wanted = {"message.timestamp.type": kind, "retention.ms": "-1"}
            await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, live.prefix + "decisions", wanted)])
        finally:
            await client.close()

    asyncio.run(alter())


def test_a_first_start_on_an_old_topic_reads_its_last_days_and_commits_from_there_on(deploy: Callable[..., Deployment]) -> None:
    live = deploy(partitions=1)
    stamped(live, "CreateTime")
    today = int(time.time() * 1000) // DAY_MS - FIRST
    days, since = range(today - 10, today), today - DAYS_AGAIN
    decided = [judged(day, number, day == today - 2) for day in days for number in range(A_DAY)]
    live.load(LogRecord("decisions", 0, n, at, b"account", value, ()) for n, (at, value) in enumerate(decided))
    stamped(live, "LogAppendTime")  # a worker asks for it
    (port,) = free_ports(1)
    worker = live.start("drift", http_port=port)
    live.settled(("drift",))
    assert total(samples(port), DRIFTS) == 1
    assert total(samples(port), "offhook_records_read_total", stage="drift") == (today - since) * A_DAY
    assert live.stop(worker) == 0
