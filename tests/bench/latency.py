"""How long from the last piece of evidence to the alert? An open-loop stream at a fixed rate, measured between two appends of the broker.

The record that completes the evidence is found by the alert's own related events: of the raw records with those ids, the one appended
last. The pacer sends on schedule whatever happens, so nothing is left out that waited; the latency from the schedule is given too.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson
from hdrh.histogram import HdrHistogram

from pipeline.live.outbox import Outgoing
from pipeline.wire.topics import TOPICS
from tests.bench import models, traffic
from tests.bench.deployed import WITHIN_S, Broker, Stolen, cpu_of, running
from tests.bench.figure import Figure, held
from tests.broker.harness import ROOT, Deployment

STAGES = ("ingest", "route", "detect")
RAW = [name for name, spec in TOPICS.items() if spec.direction == "in"]
PREPARE_S = 25
PROBES = 20
MOST_MS = 600_000  # the largest latency the histogram holds


class Rate(NamedTuple):
    """A stream to be measured: raw records a second, for how long (s), and what of its start is left out (s).

    The first one finds a broker that has just started and is still compiling its code, on the cores of all. ``attacks``: for each honest
    code; a bank has 0.001 or fewer, and a percentile wants alerts.
    """

    per_second: int
    seconds: float
    warm_s: float
    attacks: float = 1.0


RATES = (Rate(2_000, 150, 30), Rate(10_000, 12, 2))
LEARNED = Rate(2_000, 90, 30)  # with a learned blend in force, and while learn learns
EXAMPLES = 20  # a second, for learn: as many as a bank with some 3,000 codes a second would have (`learning.negatives`)


class Completed(NamedTuple):
    """An alert, and the append of the record that completed its evidence: raw, in ``events``, and when it was scheduled (ms)."""

    alerted_at: int
    raw_at: int
    event_at: int
    scheduled_at: float


Workers = dict[str, "subprocess.Popen[bytes]"]


def measure() -> list[Figure]:
    """Latencies at each rate."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, _all_stages(STAGES) as (broker, live, workers):
        for number, rate in enumerate(RATES):
            figures += _at_rate(broker, live, workers, rate, traffic.SEED + number, Path(folder))
    with (
        tempfile.TemporaryDirectory() as folder,
        models.keys() as files,
        _all_stages((*STAGES, "learn"), **files) as (broker, live, workers),
    ):
        models.promote(live, alert=0.01)  # it was made for few attacks, and a percentile wants alerts
        figures += _at_rate(broker, live, workers, LEARNED, traffic.SEED, Path(folder), ", a learned model in force and learn at work")
        assert len(live.read("models")) > 2, "learn has written no snapshot: it was not at work"
    return figures


def measure_idle(idle_s: float) -> list[Figure]:
    """Latency of the first event after ``idle_s`` without any."""
    with _all_stages(STAGES) as (broker, live, _):
        return _after_idle(broker, live, idle_s)


@contextlib.contextmanager
def _all_stages(stages: Sequence[str], **settings: str) -> Iterator[tuple[Broker, Deployment, Workers]]:
    with running() as broker:
        live = broker.deployment(f"bench-{uuid.uuid4().hex[:6]}.", **settings)
        try:
            workers = {stage: live.start(stage) for stage in stages}
            yield broker, live, workers
            for worker in workers.values():
                live.stop(worker)
        finally:
            live.close()


def _at_rate(
    broker: Broker, live: Deployment, workers: Workers, rate: Rate, seed: int, folder: Path, circumstances: str = ""
) -> list[Figure]:
    """Latencies at a rate; where a worker learns, it gets examples at the same time."""
    now = int(time.time() * 1000)
    stream = traffic.paced(seed, rate.per_second, rate.seconds, rate.attacks, folder, now + PREPARE_S * 1000)
    live.load(stream.ahead)
    live.settled(tuple(workers), WITHIN_S)
    starts_at = max(now + PREPARE_S * 1000, int(time.time() * 1000) + 1000)  # later than its records say: they are underway for longer
    file = folder / "rows.msgpack"
    rows = [(after, live.prefix + r.topic, r.partition % live.partitions, r.key, r.value) for after, r in stream.stream]
    if "learn" in workers:
        lessons = models.taught_live(round(EXAMPLES * rate.seconds))
        rows += [(1000 * n / EXAMPLES, live.prefix + "examples", 0, None, lesson) for n, lesson in enumerate(lessons)]
    file.write_bytes(msgspec.msgpack.encode((starts_at, sorted(rows, key=itemgetter(0)))))
    before = {name: broker.count(live.prefix + name) for name in ("alerts",)}
    cpu, broker_cpu = {s: cpu_of(w.pid) for s, w in workers.items()}, broker.cpu()
    command = [sys.executable, "-m", "tests.bench.pacer", live.bootstrap, str(file)]
    with Stolen() as stolen:
        own = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    took = time.time() - starts_at / 1000
    load = {s: (cpu_of(w.pid) - cpu[s]) / took for s, w in workers.items()} | {"broker": (broker.cpu() - broker_cpu) / took}
    live.settled(tuple(workers), WITHIN_S)
    found = list(_completed(live, {orjson.loads(r.value or b"{}")["event_id"]: starts_at + after for after, r in stream.stream}))
    found = [c for c in found if c.raw_at >= starts_at + 1000 * rate.warm_s]
    assert broker.count(live.prefix + "alerts") - before["alerts"] >= len(found) > 0, "no alerts: the stream is not what it should be"
    name = f"at {rate.per_second:,} raw records/s{circumstances}"
    whole = _histogram(c.alerted_at - c.raw_at for c in found)
    detect = _histogram(c.alerted_at - c.event_at for c in found)
    schedule = _histogram(c.alerted_at - c.scheduled_at for c in found)
    used = ", ".join(f"{stage} {share:.0%}" for stage, share in load.items())
    p99 = Figure(f"raw record to alert, p99, {name}", _at(whole, 99), "ms", note=f"{len(found):,} alerts; {stream.mix}")
    most = f"p50 {_at(whole, 50):.0f} ms, most {whole.max_value} ms; the host took {stolen.share:.1%} of the processor"
    p999 = Figure(f"raw record to alert, p99.9, {name}", _at(whole, 99.9), "ms", note=most)
    alone = Figure(f"append in events to alert, p99, {name}", _at(detect, 99), "ms", note=f"p50 {_at(detect, 50):.0f} ms")
    if rate == RATES[0]:
        p99, p999, alone = held(p99, "below", 100), held(p999, "below", 250), held(alone, "below", 50)
    return [
        p99,
        p999,
        alone,
        Figure(
            f"schedule to alert, p99.9, {name}",
            _at(schedule, 99.9),
            "ms",
            note=f"the sender's own delay in it: p50, p99, most: {own.stdout.strip()} ms",
        ),
        Figure(f"processor in use, {name}", 100 * sum(load.values()), "% of a core", note=f"{used}; the sender not counted"),
        Figure(f"processor time stolen by the host, {name}", 100 * stolen.share, "%", note=f"most of one second: {stolen.most:.0%}"),
    ]


def _completed(live: Deployment, scheduled: dict[str, float]) -> Iterator[Completed]:
    """Every alert on new evidence that the stream brought; near misses are left out, since time completes them."""
    raw_at: dict[str, int] = {}
    for topic in RAW:
        for kept in live.read(topic):
            if kept.value is not None:
                raw_at.setdefault(orjson.loads(kept.value)["event_id"], kept.timestamp)
    event_at: dict[tuple[str, str], int] = {}
    for kept in live.read("events"):
        if kept.key is not None and kept.value is not None:
            event_at.setdefault((kept.key.decode(), orjson.loads(kept.value)["event_id"]), kept.timestamp)
    told: dict[str, set[str]] = {}
    for kept in live.read("alerts"):
        value = orjson.loads(kept.value or b"{}")
        info = value["finding_info"]
        ids = {e["uid"] for e in info["related_events"]}
        new = ids - told.get(info["uid"], set())
        told[info["uid"]] = ids
        if not new or value["unmapped"]["stage"] == "near_miss":
            continue
        last = max(ids, key=lambda event_id: raw_at[event_id])
        if last in scheduled and kept.key is not None:
            yield Completed(kept.timestamp, raw_at[last], event_at[kept.key.decode(), last], scheduled[last])


def _histogram(latencies: Iterator[float]) -> HdrHistogram:
    histogram = HdrHistogram(1, MOST_MS, 3)
    for ms in latencies:
        histogram.record_value(max(1, round(ms)))
    return histogram


def _at(histogram: HdrHistogram, percentile: float) -> float:
    return float(histogram.get_value_at_percentile(percentile))


def _after_idle(broker: Broker, live: Deployment, idle_s: float) -> list[Figure]:
    """An entry of an unknown code leads to a decision at once: some of them, one by one, and one after nothing has happened for long."""
    _decided(live, [_probe(broker, live)])  # until the workers have joined
    usual = sorted(_decided(live, [_probe(broker, live) for _ in range(PROBES)]))
    time.sleep(idle_s)
    (first,) = _decided(live, [_probe(broker, live)])
    note = f"raw record to decision; {PROBES} probes before, one by one: p50 {usual[PROBES // 2]:.0f} ms, most {usual[-1]:.0f} ms"
    return [held(Figure(f"first event after {idle_s:.0f} s without any", first, "ms", note=note), "below", 100)]


def _probe(broker: Broker, live: Deployment) -> bytes:
    """Send one entry; returns its account."""
    name = uuid.uuid4().hex[:12]
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    value = {"event_id": f"e{name}", "occurred_at": at, "account_id": f"a{name}", "otp_id": f"o{name}", "outcome": "accepted"}
    broker.append(live.prefix, "otp-entries", [Outgoing(value["account_id"].encode(), orjson.dumps(value))])
    time.sleep(0.2)
    return value["account_id"].encode()


def _decided(live: Deployment, accounts: list[bytes]) -> list[float]:
    """From the append of each account's entry to that of its first decision (ms)."""
    until = time.monotonic() + WITHIN_S
    sent = {kept.key: kept.timestamp for kept in live.read("otp-entries")}
    while time.monotonic() < until:
        said: dict[bytes | None, int] = {}
        for kept in live.read("decisions"):
            said.setdefault(kept.key, kept.timestamp)
        if all(account in said for account in accounts):
            return [float(said[account] - sent[account]) for account in accounts]
        time.sleep(0.2)
    raise AssertionError("a probe led to no decision")
