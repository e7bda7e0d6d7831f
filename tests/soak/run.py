"""Does it hold for hours? A real broker, every stage twice, simulated traffic, workers that are killed, frozen and ended at random.

    python -m tests.soak.run --minutes 20 --rate 500

One worker of each stage is left alone, so that its memory can be followed; the other is the one that things happen to. A supervisor
starts again what has ended. When the traffic is over the oracle of tests/broker reads every topic and accounts for every record.
Prints a table; the same as out/soak.json. Exit code 0 when the oracle finds nothing and nobody ended who was not told to.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

from deploy.local_kafka import LocalKafka, free_port
from pipeline.simulate.run import simulate
from pipeline.wire.log import LogRecord, merge_logs
from tests.broker.harness import INPUT, Deployment, _Reader, ask
from tests.broker.verifier import verify

STAGES = ("ingest", "route", "detect", "campaign")
OUT = Path("out/soak.json")
INSTANTS = ("occurred_at", "expires_at", "since")
PIECE_S = 0.1  # of traffic that is sent at once
LOOK_S = 5.0  # between two looks at memory and lag
ACCOUNTS_PER_RECORD = 0.1  # each account comes back a few times; there are new ones all the time
FIRST_HOURS = 6.0  # simulated, to see how many records an hour gives
WARM_UP = 0.25  # of the run, left out of the slope
SETTLE_S = 600.0
CACHED_ACCOUNTS = 2_000  # few, so that what is decoded is as much after a minute as after a day, and memory grows with state alone
MIB = 1 << 20


class Fault(NamedTuple):
    """Something that was done to a worker."""

    at: float  # s from the start
    stage: str
    what: str


class Slope(NamedTuple):
    """How memory grows: MB per hour, half of its 95 % interval, and how many means of half a minute it rests on."""

    per_hour: float
    plus_minus: float
    points: int


def slope(samples: list[tuple[float, float]]) -> Slope | None:
    """Least squares over half-minute means of (s, MB); None for fewer than four."""
    means: dict[int, list[float]] = {}
    for at, value in samples:
        means.setdefault(int(at // 30), []).append(value)
    points = [(30 * number / 3600, sum(found) / len(found)) for number, found in sorted(means.items())]
    n = len(points)
    if n < 4:
        return None
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    b = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - b * (x - mean_x)) ** 2 for x, y in points)
    return Slope(b, 1.96 * sqrt(rest / (n - 2) / spread), n)


def rss_mb(pid: int) -> float | None:
    """Resident memory of a process in MB; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    except (OSError, IndexError):
        return None


def shifted(record: LogRecord, now_ms: int) -> bytes:
    """The record's value as if it arrived now: every instant in it moves along."""
    value = record.value or b""
    try:
        told = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value  # what nobody can read stays as it is
    if isinstance(told, dict):
        by = timedelta(milliseconds=now_ms - record.ts)
        for name in INSTANTS:
            if isinstance(told.get(name), str):
                try:
                    told[name] = (datetime.fromisoformat(told[name]) + by).isoformat()
                except ValueError:
                    continue
    return orjson.dumps(told)


class Traffic:
    """Sends a simulated log at a steady rate, from a process of its own."""

    def __init__(self, live: Deployment, log: Path, rate: float, seconds: float) -> None:
        command = [sys.executable, "-m", "tests.soak.run", "--send", live.bootstrap, live.prefix, str(live.partitions), str(log)]
        self.process = subprocess.Popen([*command, str(rate), str(seconds)], stdout=subprocess.PIPE)

    def over(self) -> bool:
        return self.process.poll() is not None

    def sent(self) -> int:
        """How many records were sent, once it is over. Raises RuntimeError when it failed."""
        out, _ = self.process.communicate()
        if self.process.returncode:
            raise RuntimeError(f"the traffic ended with {self.process.returncode}")
        return int(out)


async def send(bootstrap: str, prefix: str, partitions: int, log: Path, rate: float, seconds: float) -> int:
    """Send records of a log at a rate (per second) for a time; returns how many."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=1 << 19)
    await producer.start()
    count = 0
    try:
        records: Iterator[LogRecord] = iter(merge_logs([log]))
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            due = int(elapsed * rate) - count
            piece = list(islice(records, max(0, due)))
            if due > 0 and not piece:
                raise RuntimeError(f"the log ends after {count} records and {elapsed:.0f} s")
            now = int(time.time() * 1000)
            builders: dict[tuple[str, int], Any] = {}
            for record in piece:
                place = (prefix + record.topic, record.partition % partitions)
                builder = builders.get(place)
                if builder is None:
                    builder = builders[place] = producer.create_batch()
                assert builder.append(timestamp=None, key=record.key, value=shifted(record, now), headers=list(record.headers)) is not None
            await asyncio.gather(*[await producer.send_batch(b, t, partition=p) for (t, p), b in builders.items()])
            count += len(piece)
            await asyncio.sleep(PIECE_S)
    finally:
        await producer.stop()
    return count


def state_mb(port: int) -> float:
    """How much encoded state a worker says it keeps, in MB; 0 for a stage without state."""
    _, text = ask(port, "/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("offhook_state_bytes{")) / MIB


class Worker:
    """A place for one worker process, started again whenever it ends."""

    def __init__(self, live: Deployment, stage: str, number: int) -> None:
        self._live, self.stage, self.number = live, stage, number
        self.port = free_port()
        self.process = self._start()
        self.told = False  # was it told to end, or killed?
        self.thaw_at: float | None = None
        self.samples: list[tuple[float, float]] = []  # s, MB
        self.state: list[tuple[float, float]] = []  # s, MB of encoded state; of workers that are left alone

    def _start(self) -> "subprocess.Popen[bytes]":
        return self._live.start(self.stage, http_port=self.port, cached_accounts=CACHED_ACCOUNTS)

    def __str__(self) -> str:
        return f"{self.stage} {self.number}"

    def again(self) -> str | None:
        """Start it again if it has ended; returns what is wrong with how it ended."""
        code = self.process.poll()
        if code is None:
            return None
        wrong = None if self.told and code in (0, -signal.SIGKILL) else f"{self} ended with {code}{'' if self.told else ' by itself'}"
        self._live.workers.remove(self.process)
        self.process = self._start()
        self.told, self.thaw_at = False, None
        return wrong


class Soak:
    """One run."""

    def __init__(self, live: Deployment, seed: int, every_s: float) -> None:
        self.live, self._every_s = live, every_s
        self._random = random.Random(seed)
        self._started = time.monotonic()
        self._next_fault = every_s
        self.workers = [Worker(live, stage, number) for stage in STAGES for number in (0, 1)]
        self.faults: list[Fault] = []
        self.wrong: list[str] = []
        self.lags: list[tuple[float, dict[str, int]]] = []

    @property
    def now(self) -> float:
        """Seconds from the start."""
        return time.monotonic() - self._started

    def go_on(self, faults: bool = True) -> None:
        """Do what is due: thaw, restart, and harm somebody."""
        for worker in self.workers:
            if worker.thaw_at is not None and self.now >= worker.thaw_at:
                worker.process.send_signal(signal.SIGCONT)
                worker.thaw_at = None
            wrong = worker.again()
            if wrong:
                self.wrong.append(f"{wrong} after {self.now:.0f} s")
        if faults and self._every_s and self.now >= self._next_fault:
            self._harm()
            self._next_fault = self.now + self._random.uniform(0.5, 1.5) * self._every_s

    def _harm(self) -> None:
        worker = self._random.choice([w for w in self.workers if w.number == 1 and w.thaw_at is None and not w.told])
        what = self._random.choice(["kill", "term", "stop"])
        self.faults.append(Fault(self.now, worker.stage, what))
        match what:
            case "kill":
                worker.told = True
                worker.process.kill()
            case "term":
                worker.told = True
                worker.process.terminate()
            case _:
                worker.process.send_signal(signal.SIGSTOP)
                worker.thaw_at = self.now + self._random.uniform(1.0, 14.0)  # the session is over after 6 s

    def thaw_all(self) -> None:
        """Nobody stays frozen."""
        for worker in self.workers:
            if worker.thaw_at is not None:
                worker.thaw_at = self.now
        self.go_on(faults=False)

    def look(self) -> dict[str, int]:
        """Note the memory of every worker and the lag of every stage."""
        at = self.now
        for worker in self.workers:
            mb = rss_mb(worker.process.pid)
            if mb is not None:
                worker.samples.append((at, mb))
            if worker.number == 0:
                worker.state.append((at, state_mb(worker.port)))
        lag = asyncio.run(self._lag())
        self.lags.append((at, lag))
        return lag

    async def _lag(self) -> dict[str, int]:
        found: dict[str, int] = {}
        async with _Reader(self.live.bootstrap) as reader:
            for stage in STAGES:
                committed = await asyncio.to_thread(self.live.committed, stage)
                topics = [t for t in INPUT[stage] if stage != "ingest" or t in self.live.feeds]
                places = [TopicPartition(self.live.prefix + t, p) for t in topics for p in range(self.live.partitions)]
                ends = await reader.end_offsets(places)
                read = {TopicPartition(self.live.prefix + t, p): offset for (t, p), offset in committed.items()}
                found[stage] = sum(end - read.get(tp, 0) for tp, end in ends.items())
        return found

    def finish(self) -> None:
        """Wait until all is read, then end everybody gracefully, upstream first."""
        for stage in self.live.drained(STAGES, within_s=SETTLE_S):
            for worker in self.workers:
                if worker.stage == stage:
                    code = self.live.stop(worker.process, within_s=60)
                    if code:
                        self.wrong.append(f"{worker} ended with {code} when all was done")


def simulated(records: int, accounts: int, seed: int, place: Path, console: Console) -> Path:
    """Simulate a bank for as long as it takes to write so many records, and some more; returns the log."""
    log, hours = place / "log.jsonl", FIRST_HOURS
    while True:
        console.print(f"simulating {accounts} accounts for {hours:.1f} h")
        simulate(seed, accounts, hours, place, history_days=0)
        with log.open("rb") as file:
            count = sum(1 for _ in file)
        if count >= 1.05 * records:
            return log
        hours *= max(1.2, 1.2 * records / count)


def report(soak: Soak, asked: argparse.Namespace, sent: int, oracle: str, copies: dict[str, int], took_s: float) -> dict[str, Any]:
    """What there is to say, as one value."""
    end = max((at for at, _ in soak.lags), default=0.0)
    memory = {}
    for worker in soak.workers:
        if worker.number == 0 and worker.samples:
            found, kept = (slope([s for s in samples if s[0] >= WARM_UP * end]) for samples in (worker.samples, worker.state))
            memory[worker.stage] = {
                "first_mb": round(worker.samples[0][1], 1),
                "last_mb": round(worker.samples[-1][1], 1),
                "most_mb": round(max(mb for _, mb in worker.samples), 1),
                "slope_mb_per_h": None if found is None else round(found.per_hour, 1),
                "slope_plus_minus": None if found is None else round(found.plus_minus, 1),
                "state_last_mb": round(worker.state[-1][1], 1),
                "state_slope_mb_per_h": None if kept is None else round(kept.per_hour, 1),
            }
    return {
        "minutes": asked.minutes,
        "rate": asked.rate,
        "seed": asked.seed,
        "raw_records": sent,
        "faults": dict(Counter(f"{f.stage} {f.what}" for f in soak.faults)),
        "wrong": soak.wrong,
        "memory": memory,
        "most_lag": {stage: max((lag[stage] for _, lag in soak.lags), default=0) for stage in STAGES},
        "written_again": copies,
        "oracle": oracle,
        "oracle_s": round(took_s, 1),
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """Print the report."""
    table = Table("stage", "RSS first", "last", "most (MB)", "slope MB/h", "state (MB)", "slope MB/h", "most lag", "kill", "term", "stop")
    for stage in STAGES:
        m = found["memory"].get(stage, {})
        growth = f"{m.get('slope_mb_per_h')} ± {m.get('slope_plus_minus')}"
        faults = [str(found["faults"].get(f"{stage} {what}", 0)) for what in ("kill", "term", "stop")]
        row = [
            m.get("first_mb"),
            m.get("last_mb"),
            m.get("most_mb"),
            growth,
            m.get("state_last_mb"),
            m.get("state_slope_mb_per_h"),
            found["most_lag"][stage],
        ]
        table.add_row(stage, *map(str, row), *faults)
    console.print(table)
    console.print(f"{found['raw_records']} raw records in {found['minutes']} min; written again: {found['written_again']}")
    for line in found["wrong"]:
        console.print(f"wrong: {line}")
    console.print(f"the oracle, after {found['oracle_s']} s: {found['oracle']}")


def run(asked: argparse.Namespace, console: Console) -> int:
    """Run it all; returns the exit code."""
    seconds = 60 * asked.minutes
    wanted = int(asked.rate * seconds)
    with tempfile.TemporaryDirectory(prefix="soak-") as place, LocalKafka() as kafka:
        log = simulated(wanted, asked.accounts or max(500, int(wanted * ACCOUNTS_PER_RECORD)), asked.seed, Path(place), console)
        live = Deployment(kafka.bootstrap, f"soak{uuid.uuid4().hex[:6]}.", log_level="error")
        live.create(log_append_time=True)
        soak = Soak(live, asked.seed, asked.every)
        try:
            live.until(lambda: all(live.owners(stage) for stage in STAGES), "the workers share the partitions", within_s=120)
            traffic = Traffic(live, log, asked.rate, seconds)
            looked = 0.0
            while not traffic.over():
                soak.go_on()
                if soak.now - looked >= LOOK_S:
                    looked = soak.now
                    lag = soak.look()
                    rss = " ".join(f"{w.stage} {w.samples[-1][1]:.0f}" for w in soak.workers if w.number == 0 and w.samples)
                    console.print(f"{soak.now:6.0f} s  lag {lag}  MB {rss}  faults {len(soak.faults)}  wrong {len(soak.wrong)}")
                time.sleep(0.2)
            sent = traffic.sent()
            soak.thaw_all()
            soak.finish()
            console.print(f"all {sent} records are read; the oracle reads the topics")
            began, copies = time.monotonic(), {}
            try:
                copies = dict(verify(live, STAGES, zombies=True).copies)
                oracle = "every record is accounted for exactly once"
            except AssertionError as e:
                oracle = f"FAILED: {str(e)[:2000]}"
            found = report(soak, asked, sent, oracle, copies, time.monotonic() - began)
        finally:
            live.close()
    show(console, found)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    return int(bool(found["wrong"]) or oracle.startswith("FAILED"))


def main() -> int:
    """Read the command line and run."""
    if sys.argv[1:2] == ["--send"]:
        bootstrap, prefix, partitions, log, rate, seconds = sys.argv[2:]
        sys.stdout.write(str(asyncio.run(send(bootstrap, prefix, int(partitions), Path(log), float(rate), float(seconds)))))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=500.0, help="raw records per second; about half of what the machine takes")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two faults, on average; 0: none")
    parser.add_argument("--accounts", type=int, help=f"of the bank; by default one for {1 / ACCOUNTS_PER_RECORD:.0f} records")
    parser.add_argument("--seed", type=int, default=7)
    return run(parser.parse_args(), Console(width=140))


if __name__ == "__main__":
    sys.exit(main())
