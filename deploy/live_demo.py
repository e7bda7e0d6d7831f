"""See OffHook run: a Kafka, the topics, the workers, a simulated bank at real pace, and the alerts as they arrive. Ctrl-C ends it all.

    python deploy/live_demo.py [--accounts 4000] [--minutes 60] [--attacks 2] [--seed 7]

The broker is the one that KAFKA_BOOTSTRAP names, else a container where a Docker daemon answers, else a local one on Java 17.
So that the accounts have habits, days of history are written first, at full speed, to where days of running would have left them:
into ``events``, and the links of phones into ``lines``. What follows goes through the raw topics at the pace of the clock.
"""

# ruff: noqa: S603, S607 - every command line here is made of our own constants and paths

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from rich.console import Console

from deploy.local_kafka import HOST, READY_S, KafkaUnavailable, LocalKafka, answers, container_properties, docker_answers, free_port
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import AccountEvent, LinkChanged
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.replay.cases import Case, cases
from pipeline.replay.report import clock, count, reasons, seconds
from pipeline.replay.score import Truth, read_truth
from pipeline.simulate.run import START, simulate
from pipeline.wire.codec import encode_event
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord, read_log
from pipeline.wire.pseudonym import Pseudonyms
from pipeline.wire.topics import TOPICS

KAFKA_IMAGE = "apache/kafka:4.3.1"
TIMES = ("occurred_at", "expires_at", "since")  # the fields of records that are instants (contract.md)
HISTORY_DAYS = 7
ATTACKS = 2.0  # attacks per challenge of an honest customer: a few each minute, for something to see
LOOKALIKES = 0.3
SETTLE_S = 20.0  # to write the history in, before the first record at real pace
LAST_S = 3.0  # from the last record to the end: its alert is printed too
STOP_S = 60.0


class Stopped(Exception):
    """A worker ended by itself."""


@contextlib.contextmanager
def broker(console: Console) -> Iterator[str]:
    """Yield ``host:port`` of a broker, and end it if it was started here."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        console.print(f"Kafka: {given}, as KAFKA_BOOTSTRAP says")
        yield given
    elif docker_answers():
        with _container() as address:
            console.print(f"Kafka: {address}, in a container")
            yield address
    else:
        with LocalKafka() as kafka:
            console.print(f"Kafka: {kafka.bootstrap}, a local broker (log in {kafka.log})")
            yield kafka.bootstrap


@contextlib.contextmanager
def _container() -> Iterator[str]:
    """Run the broker that LocalKafka runs, with the same properties, in a container."""
    port = free_port()
    properties = container_properties(port)
    settings = [f"--env=KAFKA_{name.upper().replace('.', '_')}={value}" for name, value in properties.items()]
    command = ["docker", "run", "--rm", "--detach", f"--publish={HOST}:{port}:{port}", *settings, KAFKA_IMAGE]
    container = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        deadline = time.monotonic() + READY_S
        while not answers(HOST, port):
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"the container of {KAFKA_IMAGE} does not answer on {HOST}:{port}")
            time.sleep(0.2)
        yield f"{HOST}:{port}"
    finally:
        subprocess.run(["docker", "stop", container], check=False, capture_output=True)


def make_topics(environment: dict[str, str]) -> None:
    """Make the topics as an operator would."""
    command = [sys.executable, "-m", "pipeline", "topics", "create"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise KafkaUnavailable(f"the topics could not be made:\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def workers(environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run all stages, and end them gracefully."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "worker"], env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def moved(record: LogRecord, by: timedelta) -> LogRecord:
    """The same record at another time. What cannot be read stays as it is."""
    ts = record.ts + int(by.total_seconds() * 1000)
    try:
        value = orjson.loads(record.value or b"")
        for field in TIMES:
            if isinstance(value.get(field), str):
                value[field] = (datetime.fromisoformat(value[field]) + by).isoformat()
    except (ValueError, AttributeError):
        return msgspec.structs.replace(record, ts=ts)
    return msgspec.structs.replace(record, ts=ts, value=orjson.dumps(value))


class Bank:
    """The simulated bank: its log, moved to now."""

    def __init__(self, log: Path, truth: Path, live_from: datetime, pseudonyms: Pseudonyms) -> None:
        self.log = log
        self.start_ms = int((time.time() + SETTLE_S) * 1000)
        self._by = timedelta(milliseconds=self.start_ms) - (live_from - datetime.fromtimestamp(0, UTC))
        self._pseudonyms = pseudonyms
        self.truth = {(t.account_id, t.otp_id): t for t in read_truth(truth)}

    def entered_at(self, truth: Truth) -> float | None:
        """When the code is entered, now (s)."""
        return None if truth.entered_at is None else (truth.entered_at + self._by).timestamp()

    async def write(self, producer: AIOKafkaProducer, prefix: str, console: Console) -> None:
        """Send every record; ends with the log."""
        records = (moved(record, self._by) for record in read_log(self.log))
        written = 0
        links: dict[tuple[str, str], LinkChanged] = {}
        first = None
        for event in self._history(records, links):
            if isinstance(event, LogRecord):
                first = event
                break
            await producer.send(f"{prefix}events", encode_event(event), event.account_id.encode())
            written += 1
        for link in links.values():
            await producer.send(f"{prefix}lines", encode_event(link), link.line.encode())
        await producer.flush()
        console.print(f"History: {count(written, 'event')} written. From {clock(self.start_ms)} UTC on it is now. Ctrl-C ends.")
        for record in chain([first] if first else [], records):
            await asyncio.sleep(max(0.0, record.ts / 1000 - time.time()))
            await producer.send(prefix + record.topic, record.value, record.key)
        await producer.flush()
        await asyncio.sleep(LAST_S)

    def _history(self, records: Iterator[LogRecord], links: dict[tuple[str, str], LinkChanged]) -> Iterator[AccountEvent | LogRecord]:
        """What ingest and route make of the records before the start; ends with the first record after it. Collects the links."""
        ingest, router, offset = Ingest(Policy(), self._pseudonyms), Router(Policy()), 0
        for record in records:
            if record.ts >= self.start_ms:
                yield record
                return
            with contextlib.suppress(InvalidEvent):  # the simulated noise: ingest would set it aside
                for topic, _, event in ingest.read(record.topic, record.value, record.ts):
                    if topic == "events":
                        yield event  # type: ignore[misc]  # the topic says which union it is
                        continue
                    offset += 1
                    if isinstance(event, LinkChanged):
                        links[event.line, event.account_id] = event
                    yield from router.fold(offset, event)  # type: ignore[arg-type]  # as above


async def print_alerts(bootstrap: str, prefix: str, bank: Bank, console: Console) -> None:
    """Print each new finding of the present as it arrives, with how long the alert took and what is true."""
    consumer = AIOKafkaConsumer(prefix + "alerts", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    known: set[str] = set()
    try:
        async for message in consumer:
            (case,) = cases([message.value])
            uid = case.first.finding_info.uid
            if uid not in known and case.first.time >= bank.start_ms:
                console.print(_line(case, message.timestamp, bank))
            known.add(uid)
    finally:
        await consumer.stop()


def _line(case: Case, appended: int, bank: Bank) -> str:
    truth = bank.truth.get((case.account_id, case.otp_id))
    entered = None if truth is None else bank.entered_at(truth)
    entry = "" if entered is None else f", {seconds(appended / 1000 - entered)} to the entry"
    label = "" if truth is None else f" [{'green' if truth.label != 'benign' else 'yellow'}]({truth.label}, {truth.story})[/]"
    head = f"{clock(appended)}  [bold]{case.account_id}[/]  {case.first.finding_info.title}  {case.first.unmapped.probability:.2f}{label}"
    late = appended - case.first.time
    return f"{head}\n          {reasons(case)}; {late:,} ms after the last fact it rests on arrived{entry}"


async def run(bootstrap: str, prefix: str, bank: Bank, process: "subprocess.Popen[bytes]", console: Console) -> None:
    """Write, read and watch until the log ends, a worker ends, or somebody says stop."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    await producer.start()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    writing = asyncio.create_task(bank.write(producer, prefix, console))
    printing = asyncio.create_task(print_alerts(bootstrap, prefix, bank, console))
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set() and not writing.done():
            await asyncio.wait({writing, printing, stopping}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            if printing.done():
                printing.result()
            if process.poll() is not None:
                raise Stopped(f"a worker ended by itself with exit code {process.returncode}")
        if writing.done():
            writing.result()
    finally:
        for task in (writing, printing, stopping):
            task.cancel()
        await asyncio.gather(writing, printing, stopping, return_exceptions=True)
        await producer.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description="A Kafka, the workers, a simulated bank at real pace, and the alerts as they arrive.")
    parser.add_argument("--accounts", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the stream lasts (Ctrl-C ends it sooner)")
    parser.add_argument("--attacks", type=float, default=ATTACKS, help="attacks per challenge of an honest customer")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    prefix = f"live-{secrets.token_hex(3)}."
    with tempfile.TemporaryDirectory(prefix="offhook-live-") as name:
        folder = Path(name)
        key = folder / "pseudonyms.key"
        key.write_text(f"k1 = {secrets.token_hex(32)}\n")
        worker_log = folder / "workers.log"
        try:
            with contextlib.ExitStack() as stack:
                bootstrap = stack.enter_context(broker(console))
                environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | {
                    "OFFHOOK_BROKERS": bootstrap,
                    "OFFHOOK_PREFIX": prefix,
                    "OFFHOOK_PSEUDONYM_KEY_FILE": str(key),
                    "OFFHOOK_DATA_DIR": str(folder),
                    "OFFHOOK_HTTP_PORT": "0",
                    "OFFHOOK_JSON_LOGS": "false",
                }
                make_topics(environment)
                console.print(f"Topics: made, all with the prefix {prefix}")
                process = stack.enter_context(workers(environment, worker_log))
                console.print("Workers: ingest, route, detect, campaign (one process each)")
                console.print(
                    f"Bank: simulating {count(chosen.accounts, 'account')} and {HISTORY_DAYS} days of history (seed {chosen.seed})"
                )
                made = simulate(chosen.seed, chosen.accounts, chosen.minutes / 60, folder, history_days=HISTORY_DAYS, prior=chosen.attacks,
                         lookalikes=LOOKALIKES, partitions=TOPICS["logins"].partitions)  # fmt: skip
                environment["OFFHOOK_POLICY_FILE"] = str(folder / made.policy)  # names the bank's own test accounts
                process = stack.enter_context(workers(environment, worker_log))
                console.print("Workers: ingest, route, detect, campaign (one process each)")
                bank = Bank(folder / made.log, folder / made.truth, START, Pseudonyms.from_text(key.read_text()))
                asyncio.run(run(bootstrap, prefix, bank, process, console))
                console.print("Stopping the workers and the broker")
        except (KafkaUnavailable, Stopped) as e:
            console.print(f"[red]{e}[/]")
            if worker_log.exists():
                console.print(worker_log.read_text(errors="replace")[-3000:], markup=False)
            return 1
        except KeyboardInterrupt:
            console.print("Stopped")
        return 0


if __name__ == "__main__":
    sys.exit(main())
