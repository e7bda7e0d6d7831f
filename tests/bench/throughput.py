"""How many records a second, with all work awaited before the ack? Each stage alone on a preloaded backlog, and a plain Faust agent beside.

A stage's time runs from when it is woken before its backlog to its last record in the changelog, stamped by the broker: the changelog is
the last thing awaited before the ack. Ingest has none; its time is that of what it writes.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, median_low
from tempfile import TemporaryDirectory

import msgspec

from pipeline.wire.log import LogRecord
from tests.bench import models, traffic
from tests.bench.deployed import PARTITIONS, WITHIN_S, Broker, cpu_of, running
from tests.bench.figure import Figure, held
from tests.broker.harness import KEY, Deployment

BASELINE_EVENTS_AT_MOST = 50_000
ROUNDS = 3
TIMES = 4  # the log is laid before ingest, which does not mind: once would be over in a second or two
POISON = 100  # one record in so many cannot be read
SLEEP_S = 25  # below the session of Broker.deployment
STAGES = ("ingest", "route", "detect")
PLAIN_OUTPUTS = ("alerts", "decisions", "holds", "examples", "sightings")


def measure(log: Path) -> list[Figure]:
    """Each stage alone, detect beside the baseline and with a learned model in force, two detect processes, and the whole flow."""
    raw = list(traffic.backlog(log))
    hops = traffic.hops(raw, KEY)
    with running() as broker:
        nominal, poisoned = _rounds(
            lambda: _ingest(broker, raw * TIMES), lambda: _ingest(broker, _poisoned(raw * TIMES), letters=True), rounds=4
        )
        share = median(with_[0].value / without[0].value for without, with_ in zip(nominal, poisoned, strict=True))
        ingest, poison = _middle(nominal), _middle(poisoned)
        (route,) = map(_middle, _rounds(lambda: _folding(broker, "route", "lines", hops.lines)))
        plain = _plain_faust(broker, hops)
        detect, learned = map(
            _middle,
            _rounds(
                lambda: _folding(broker, "detect", "events", hops.events, ratio_to=plain),
                lambda: _learned(broker, hops.events, plain),
            ),
        )
        two = _folding(broker, "detect", "events", hops.events, processes=2)
        flow = _flow(broker, raw)
    return [
        held(detect[0], "at least", 20_000, ratio=4),
        *detect[1:],
        held(learned[0], "at least", 20_000, ratio=4),
        *learned[1:],
        Figure("plain Faust agent and table, same step", plain, "events/s", 1.0, note="the baseline: not safe, see its module"),
        held(ingest[0], "at least", 30_000),
        *ingest[1:],
        held(msgspec.structs.replace(poison[0], ratio=share), "at least", 27_000, ratio=0.9),
        *poison[1:],
        held(route[0], "at least", 30_000),
        *route[1:],
        Figure(
            "two detect processes",
            two[0].value,
            "events/s",
            two[0].value / plain,
            note=f"{two[0].value / detect[0].value:.2f} of one; what limits: {os.cpu_count()} cores for both and the broker",
        ),
        *flow,
    ]


def _rounds(*runs: Callable[[], list[Figure]], rounds: int = ROUNDS) -> list[list[list[Figure]]]:
    """Run each of them several times, in turn and back again, since a machine drifts; of each what every round said."""
    found: list[list[list[Figure]]] = [[] for _ in runs]
    for number in range(rounds):
        order = range(len(runs)) if number % 2 == 0 else reversed(range(len(runs)))
        for which in order:
            found[which].append(runs[which]())
    return found


def _middle(every: list[list[Figure]]) -> list[Figure]:
    """The round with the median rate, which names the others."""
    rates = [run[0].value for run in every]
    middle = next(run for run in every if run[0].value == median_low(rates))
    note = f"{middle[0].note}{'; ' if middle[0].note else ''}the median of {', '.join(f'{rate:,.0f}' for rate in rates)}"
    return [msgspec.structs.replace(middle[0], note=note), *middle[1:]]


def _new(broker: Broker, **settings: object) -> Deployment:
    return broker.deployment(f"bench-{uuid.uuid4().hex[:6]}.", **settings)


def _used(name: str, worker: float, broker: float, records: int) -> list[Figure]:
    figures = [Figure(f"  {name}, processor time", worker / records * 1e6, "µs/record")]
    return figures + ([Figure("  broker meanwhile", broker / records * 1e6, "µs/record")] if broker else [])


def _poisoned(raw: list[LogRecord]) -> list[LogRecord]:
    """The records, of which one in a hundred is cut off and cannot be read."""
    return [msgspec.structs.replace(r, value=(r.value or b"")[:-7]) if n % POISON == 0 else r for n, r in enumerate(raw)]


def _ingest(broker: Broker, raw: list[LogRecord], letters: bool = False) -> list[Figure]:
    """``letters``: is one in ``POISON`` to become a dead letter?"""
    live = _new(broker)
    try:
        live.load(raw)
        worker = live.start("ingest")
        broker.wait(live.prefix + "events", 1)
        cpu, broker_cpu = cpu_of(worker.pid), broker.cpu()
        live.settled(("ingest",), WITHIN_S)
        used, broker_used = cpu_of(worker.pid) - cpu, broker.cpu() - broker_cpu
        live.stop(worker)
        written = sorted(kept.timestamp for topic in ("events", "lines") for kept in live.read(topic) if kept.key is not None)
        refused = len(live.read("dead-letters"))
        assert refused == (len(raw) + POISON - 1) // POISON * letters, f"{refused} dead letters"
        first = sum(at <= written[0] + 5 for at in written)  # of the first batches: what they took is not known
        share = 1 - first / len(written)
        rate = share * len(raw) / (written[-1] - written[first - 1]) * 1000
        name = f"ingest, one in {POISON} unreadable" if letters else "ingest alone"
        note = f"{refused:,} dead letters; beside as many without, in turn" if letters else ""
        return [Figure(name, rate, "records/s", note=note), *_used("ingest", used, broker_used, int(share * len(raw)))]
    finally:
        live.close()


def _folding(
    broker: Broker,
    stage: str,
    topic: str,
    records: list[traffic.Outgoing],
    processes: int = 1,
    ratio_to: float | None = None,
    prepare: Callable[[Deployment], None] | None = None,
    **settings: object,
) -> list[Figure]:
    """Workers that have joined sleep (SIGSTOP) while the backlog is laid before them; the time runs from when they are woken.

    ``prepare``: what the deployment is given first; all that follows from it is done before the time runs.
    """
    live = _new(broker, **settings)
    try:
        if prepare is not None:
            prepare(live)
        workers = [live.start(stage) for _ in range(processes)]
        broker.wait(f"{live.prefix}{stage}-state", PARTITIONS)
        while live.owners(stage) < processes:
            time.sleep(0.5)
        live.settled((stage,), WITHIN_S)
        time.sleep(2)
        asleep = time.monotonic()
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        broker.append(live.prefix, topic, records)
        assert time.monotonic() - asleep < SLEEP_S, "the brokers may have taken the workers' partitions meanwhile"
        cpu, broker_cpu = sum(cpu_of(w.pid) for w in workers), broker.cpu()
        since = int(time.time() * 1000)
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
        live.settled((stage,), WITHIN_S)
        assert all(worker.poll() is None for worker in workers), "a worker ended on the way"
        used, broker_used = sum(cpu_of(w.pid) for w in workers) - cpu, broker.cpu() - broker_cpu
        for worker in workers:
            live.stop(worker)
        ends = broker.ends(f"{live.prefix}{stage}-state")
        count = sum(record.key is not None for record in records)
        rate = count / (max(last for _, last in ends) - since) * 1000
        unit = "events/s" if stage == "detect" else "records/s"
        could = f"; {count / used:,.0f} for each second of processor time" if used else ""
        note = f"{count:,} {topic}, one process{could}"
        figure = Figure(f"{stage} alone", rate, unit, None if ratio_to is None else rate / ratio_to, note=note)
        return [figure, *_used(stage, used, broker_used, count)]
    finally:
        live.close()


def _learned(broker: Broker, events: list[traffic.Outgoing], plain: float) -> list[Figure]:
    """One detect process in which a blend that has grown scores; it was loaded before the time runs, as it is once for each restart."""
    with models.keys() as files:
        public = files["model_public_key_file"]
        found = _folding(broker, "detect", "events", events, ratio_to=plain, prepare=models.promote, model_public_key_file=public)
    return [msgspec.structs.replace(f, name=f.name.replace("detect", "detect with a learned model")) for f in found]


def _plain_faust(broker: Broker, hops: traffic.Hops) -> float:
    """Events a second of the plain agent, told by its changelog: one record per event."""
    live = _new(broker)
    try:
        broker.append(live.prefix, "events", hops.events)
        changelog = f"{live.prefix}plain-faust-timelines-changelog"
        broker.create(dict.fromkeys([*(f"{live.prefix}plain-{name}" for name in PLAIN_OUTPUTS), changelog], "delete"))
        with plain_worker(live.bootstrap, live.prefix):
            broker.wait(changelog, 1)
            began, first = time.monotonic(), broker.count(changelog)
            broker.wait(changelog, 0.9 * min(hops.folded, BASELINE_EVENTS_AT_MOST))
            return (broker.count(changelog) - first) / (time.monotonic() - began)
    finally:
        live.close()


@contextmanager
def plain_worker(bootstrap: str, prefix: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run the plain agent; killed at the end, and the directory that Faust makes for tables is gone with it."""
    with TemporaryDirectory(prefix="offhook-bench-") as folder:
        environment = os.environ | {"BENCH_BROKER": bootstrap, "BENCH_PREFIX": prefix, "BENCH_PARTITIONS": str(PARTITIONS)}
        command = [sys.executable, "-m", "tests.bench.plain_faust", "worker", "-l", "error", "--without-web"]
        with subprocess.Popen(command, env=environment | {"FAUST_DATADIR": folder}, stdout=subprocess.DEVNULL) as worker:
            try:
                yield worker
            finally:
                worker.kill()


def _flow(broker: Broker, raw: list[LogRecord]) -> list[Figure]:
    """The three stages at once."""
    live = _new(broker)
    try:
        live.load(raw)
        workers = {stage: live.start(stage) for stage in STAGES}
        live.settled(STAGES, WITHIN_S)
        cpu = {stage: cpu_of(worker.pid) for stage, worker in workers.items()}
        for worker in workers.values():
            live.stop(worker)
        first = min(at for at, _ in broker.ends(live.prefix + "events"))
        last = max(at for _, at in broker.ends(live.prefix + "decisions"))
        shares = ", ".join(f"{stage} {used:.1f} s" for stage, used in cpu.items())
        note = (
            f"until the last decision; processor time, start included: {shares}; what limits: {os.cpu_count()} cores for all and the broker"
        )
        return [Figure("ingest, route and detect at once", len(raw) / (last - first) * 1000, "records/s", note=note)]
    finally:
        live.close()
