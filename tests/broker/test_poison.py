"""What does poison do? A little costs little; a feed of nothing else is set aside, hurts no other, and comes back by itself."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

import msgspec
import pytest
from faust.types.tuples import TP

from deploy.local_kafka import free_port
from pipeline.core.events import Beat
from pipeline.live.app import make_stage
from pipeline.live.batch import Batch
from pipeline.live.flood import PROBED_PER_S
from pipeline.live.health import Health
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.wire.codec import decode_event
from pipeline.wire.dead_letter import parse
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment, Nowhere, ask
from tests.broker.verifier import verify

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]  # on a busy machine its workers take their time
STAGES = ("ingest", "route", "detect")
WITHIN_S = 180.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN_S:.0f} s"
        time.sleep(0.3)


def last_beat(live: Deployment) -> Beat | None:
    beats = [event for event in (decode_event(k.value or b"") for k in live.read("events") if k.partition == 0) if isinstance(event, Beat)]
    return beats[-1] if beats else None


def suspended(live: Deployment) -> tuple[str, ...]:
    beat = last_beat(live)
    return () if beat is None else beat.suspended


def reasons(live: Deployment) -> list[str]:
    return [parse(kept.headers, kept.key, kept.value).reason for kept in live.read("dead-letters")]


def change(number: int) -> Outgoing:
    fields = {"event_id": f"c{number}", "occurred_at": datetime.now(UTC).isoformat(), "account_id": f"acc-{number}", "change": "transfer"}
    return Outgoing(b"a%d" % number, json.dumps(fields).encode())


def login(number: int) -> Outgoing:
    fields = {"event_id": f"l{number}", "occurred_at": datetime.now(UTC).isoformat(), "account_id": f"acc-{number}", "session_id": "s"}
    return Outgoing(b"a%d" % number, json.dumps(fields | {"outcome": "passed", "flow": "login"}).encode())


def test_a_feed_of_poison_alone_is_suspended_alerts_still_leave_and_it_comes_back_by_itself(
    deploy: Callable[..., Deployment], log: list[LogRecord]
) -> None:
    """The calls of the bank's customers become nonsense at once; logins are judged on, and nothing of what was there is lost."""
    port = free_port()
    live = deploy(partitions=2)
    start = log[0].ts
    poison = [
        LogRecord(topic="account-changes", partition=n, offset=0, ts=start, key=b"k%d" % n, value=b"nonsense %d" % n) for n in range(700)
    ]
    live.load(sorted([*poison, *(r for r in log if r.topic != "account-changes")], key=lambda r: r.ts))
    workers = {stage: live.start(stage, http_port=port if stage == "ingest" else 0) for stage in STAGES}
    until(lambda: suspended(live) == ("account-changes",), "the feed is marked absent in the beats")
    until(lambda: len(live.read("alerts")) > 5, "alerts leave")
    assert ask(port, "/healthz")[0] == 200, "a restart would not help"
    assert ask(port, "/readyz")[0] == 200, "detection does without this feed"
    assert 'offhook_feed_suspended{feed="account-changes"} 1.0' in ask(port, "/metrics")[1]
    mended = count()

    def goes_on() -> bool:
        live.append("account-changes", [change(next(mended)) for _ in range(10)])
        return 'offhook_feed_suspended{feed="account-changes"} 0.0' in ask(port, "/metrics")[1] and not suspended(live)

    until(goes_on, "the feed is read again without a restart")
    live.finish(workers, within_s=WITHIN_S)
    accounts = verify(live, beats=False)
    assert accounts.where["account-changes"] == {"dead letters": 700, "written": next(mended)}


@pytest.mark.soak
def test_an_essential_feed_that_is_bad_waits_and_is_read_slowly_and_the_worker_is_not_ready(deploy: Callable[..., Deployment]) -> None:
    port = free_port()
    live = deploy(partitions=1, log_append_time=True, trust_create_time="false", http_port=port)
    most = 5 * PROBED_PER_S  # what the first probe may read
    live.append("otp-entries", [Outgoing(b"a", b"nonsense")] * (most + 150))
    worker = live.start("ingest")
    until(lambda: suspended(live) == ("otp-entries",), "the feed is marked absent in the beats")
    assert len(live.read("dead-letters")) in (0, most), "its records wait, until a probe"
    status, said = ask(port, "/readyz")
    assert (status, "otp-entries" in said) == (503, True)
    assert ask(port, "/healthz")[0] == 200
    live.append("logins", [login(n) for n in range(10)])
    until(lambda: sum(not isinstance(decode_event(k.value or b""), Beat) for k in live.read("events")) == 10, "logins go on")
    until(lambda: len(live.read("dead-letters")) == most, "the first probe has read what it may, and no more")
    assert suspended(live) == ("otp-entries",)
    until(lambda: len(live.read("dead-letters")) == most + 150, "the second probe, after a longer pause")
    assert live.stop(worker) == 0
    assert set(reasons(live)) == {"not_json"}
    assert verify(live, stages=("ingest",), suspended=("otp-entries",)).where["otp-entries"] == {"dead letters": most + 150}


def test_one_in_a_hundred_that_cannot_be_read_changes_nothing_for_the_others(
    deploy: Callable[..., Deployment], log: list[LogRecord]
) -> None:
    live = deploy(partitions=2)
    poisoned: list[LogRecord] = []
    poison = 0
    for number, record in enumerate(log):
        poisoned.append(record)
        if not number % 100:
            value = (record.value or b"")[:-7] if number % 200 else None
            poisoned.append(msgspec.structs.replace(record, value=value))
            poison += value is not None or record.topic != "phone-links"  # that topic is compacted: a tombstone in it changes nothing
    live.load(poisoned)
    live.finish({stage: live.start(stage) for stage in STAGES}, within_s=WITHIN_S)
    accounts = verify(live, beats=False)
    assert sum(where["dead letters"] for feed, where in accounts.where.items() if feed in live.feeds) == poison > 20
    assert set(reasons(live)) >= {"not_json", "no_value"}
    assert len(live.read("alerts")) > 5


class _Fetched(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@pytest.mark.soak
def test_poison_of_one_in_a_hundred_costs_at_most_a_tenth_of_the_throughput(deploy: Callable[..., Deployment]) -> None:
    """Batches with and without poison in turn, through ingest to the broker and back, in one process: only the ratio counts."""
    live = deploy(partitions=1, log_append_time=True, trust_create_time="false")
    now = int(time.time() * 1000)
    tp = TP(live.prefix + "logins", 0)

    def batch(number: int, poisoned: bool) -> Batch:
        records = []
        for n in range(5_000):
            key, value, _ = login(number * 5_000 + n)
            records.append(_Fetched(number * 5_000 + n, now, key, b"nonsense" if poisoned and not n % 100 else value))
        return Batch(tp, 1, records)

    async def run() -> dict[bool, list[float]]:
        seconds: dict[bool, list[float]] = {False: [], True: []}
        async with Outbox(live.settings.connection()) as outbox:
            stage = make_stage(live.settings, "ingest", {"logins": 1}, Health())
            await outbox.know(stage.targets)
            await stage.start(outbox, Nowhere())
            stage.assigned({tp}, 1)
            for number in range(60):
                poisoned = bool(number % 2)
                made = batch(number, poisoned)
                begun = time.perf_counter()
                await stage.handle(made)
                if number >= 10:  # the first ones warm up
                    seconds[poisoned].append(time.perf_counter() - begun)
        return seconds

    seconds = asyncio.run(run())
    nominal, poisoned = statistics.median(seconds[False]), statistics.median(seconds[True])
    print(f"nominal {5_000 / nominal:,.0f} records/s, with 1 % poison {5_000 / poisoned:,.0f}: {nominal / poisoned:.1%}")
    assert nominal / poisoned > 0.9
