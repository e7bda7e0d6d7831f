"""How fast is live, with everything awaited? Three workers on a real broker, a preloaded log, and a plain Faust agent beside them.

The log's times are compressed into twenty minutes before now, so that nothing in it is late when the broker stamps its arrival.
"""

import asyncio
import contextlib
import os
import re
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local_kafka import LocalKafka
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.wire.log import LogRecord, merge_logs
from tests.broker.harness import Deployment

SPAN_MS = 20 * 60_000
PARTITIONS = 4
WITHIN_S = 300.0
BASELINE_EVENTS_AT_MOST = 60_000
STAGES = ("ingest", "route", "detect")
_INSTANT = re.compile(rb'("(?:occurred_at|expires_at|since)"\s*:\s*")([^"]+)(")')


def measure(log: Path) -> list[dict[str, object]]:
    """Measure the live figures: whole flow, each hop's share of the processor, detect alone, and the baseline."""
    with _broker() as (bootstrap, broker_cpu):
        live = Deployment(bootstrap, f"bench-{uuid.uuid4().hex[:6]}.", PARTITIONS, trust_create_time="false")
        try:
            live.create(log_append_time=True)
            records = live.load(compressed(log))
            return _measure(live, records, broker_cpu)
        finally:
            live.close()


def _measure(live: Deployment, records: int, broker_cpu: Callable[[], float]) -> list[dict[str, object]]:
    before = broker_cpu()
    workers = {stage: live.start(stage) for stage in STAGES}
    live.settled(STAGES, WITHIN_S)
    ended = time.time()
    events = live.read("events")
    first = min(kept.timestamp for topic in (events, live.read("lines")) for kept in topic) / 1000
    broker = broker_cpu() - before
    cpu = {stage: _ended_cpu(live, worker) for stage, worker in workers.items()}
    seconds = ended - first
    figures: list[dict[str, object]] = [
        {
            "name": "live: ingest, route, detect; three processes and the broker",
            "per_second": records / seconds,
            "micros": seconds / records * 1e6,
            "note": f"{records:,} raw records preloaded; from the first write of ingest until all is committed, all sends awaited",
        }
    ]
    figures += [{"name": f"  {stage}, processor time", "micros": used / records * 1e6} for stage, used in cpu.items()]
    if broker:  # not known of a broker that somebody else runs
        figures.append({"name": "  broker, processor time", "micros": broker / records * 1e6})
    ours = _events_per_second_of_detect(live, len(events))
    plain = _events_per_second_of_plain_faust(live, len(events))
    note = "events/s, one process"
    figures.append({"name": "detect alone, from recorded events", "per_second": ours, "ratio": ours / plain, "note": note})
    figures.append({"name": "plain Faust agent and table, same step", "per_second": plain, "ratio": 1.0, "note": note + "; the baseline"})
    return figures


def _events_per_second_of_detect(live: Deployment, events: int) -> float:
    """Fold the recorded events again under another prefix of outputs: the group and the state start anew."""
    again = Deployment(live.bootstrap, live.prefix + "again.", PARTITIONS, trust_create_time="false")
    try:
        again.create(log_append_time=True)
        asyncio.run(_copy(live, again))
        worker = again.start("detect")
        asyncio.run(_written(again.bootstrap, again.prefix + "detect-state", PARTITIONS))  # the claims: it begins to read
        begun = time.monotonic()
        again.settled(("detect",), WITHIN_S)
        seconds = time.monotonic() - begun
        again.stop(worker)
        return events / seconds
    finally:
        again.close()


async def _copy(source: Deployment, target: Deployment) -> None:
    async with Outbox({"bootstrap_servers": source.bootstrap}) as outbox:
        places: dict[tuple[str, int], list[Outgoing]] = {}
        for kept in await source._read("events"):
            places.setdefault((target.prefix + "events", kept.partition), []).append(Outgoing(kept.key, kept.value))
        await outbox.send(places)


def _events_per_second_of_plain_faust(live: Deployment, events: int) -> float:
    asyncio.run(_make_plain_topics(live))
    environment = os.environ | {"BENCH_BROKER": live.bootstrap, "BENCH_PREFIX": live.prefix, "BENCH_PARTITIONS": str(PARTITIONS)}
    command = [sys.executable, "-m", "tests.bench.plain_faust", "worker", "-l", "error", "--without-web"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as worker:
        try:
            return asyncio.run(_pace(live, events))
        finally:
            worker.kill()


async def _make_plain_topics(live: Deployment) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=live.bootstrap)
    await admin.start()
    try:
        names = [f"{live.prefix}plain-{name}" for name in ("alerts", "decisions", "holds")]
        names.append(f"{live.prefix}plain-faust-timelines-changelog")
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    finally:
        await admin.close()


async def _written(bootstrap: str, topic: str, records: float) -> tuple[float, int]:
    """Wait until a topic has had that many records; returns when (monotonic, s) and how many."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        places = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until:
            found = sum((await consumer.end_offsets(places)).values())
            if found >= records:
                return time.monotonic(), found
            await asyncio.sleep(0.05)
    finally:
        await consumer.stop()
    raise AssertionError(f"{topic} has not come to {records} records")


async def _pace(live: Deployment, events: int) -> float:
    """Events a second of the plain agent, told by its changelog: one record per event."""
    topic = f"{live.prefix}plain-faust-timelines-changelog"
    began, first = await _written(live.bootstrap, topic, 1)
    ended, last = await _written(live.bootstrap, topic, 0.9 * min(events, BASELINE_EVENTS_AT_MOST))
    return (last - first) / (ended - began)


def compressed(log: Path) -> Iterator[LogRecord]:
    """The log with all its times compressed into the twenty minutes before now, links from before its start included."""
    records = list(merge_logs([log]))
    first = next(record.ts for record in records if record.topic not in ("phone-links", "telephony"))  # those may be years old
    last = records[-1].ts
    now = int(time.time() * 1000) - 1000
    factor = max(1.0, (last - first) / SPAN_MS)

    def moved(match: "re.Match[bytes]") -> bytes:
        at = datetime.fromisoformat(match[2].decode()).timestamp() * 1000
        then = datetime.fromtimestamp((now - (last - at) / factor) / 1000, UTC)
        return match[1] + then.isoformat(timespec="milliseconds").encode() + match[3]

    for record in records:
        value = None if record.value is None else _INSTANT.sub(moved, record.value)
        yield msgspec.structs.replace(record, value=value)


@contextlib.contextmanager
def _broker() -> Iterator[tuple[str, Callable[[], float]]]:
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given, lambda: 0.0
        return
    with LocalKafka(heap="1g") as broker:
        yield broker.bootstrap, lambda: _cpu_of(broker.pid)


def _cpu_of(pid: int | None) -> float:
    stat = Path(f"/proc/{pid}/stat")
    if pid is None or not stat.exists():  # not on Linux: the figure is left at nought
        return 0.0
    fields = stat.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ended_cpu(live: Deployment, worker: "subprocess.Popen[bytes]") -> float:
    """End a worker; returns the processor time it has used (s), its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    live.stop(worker)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
