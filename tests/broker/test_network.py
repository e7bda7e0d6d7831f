"""What if the way to the broker is bad? Cut, slow, silent and closed connections: nothing is lost, nothing is doubled, nothing hangs."""

import asyncio
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from faust.types.tuples import TP

from deploy.local_kafka import LocalKafka
from pipeline.core.beats import ClockState
from pipeline.exits import BROKERS
from pipeline.live.batch import Batch
from pipeline.live.changelog import CLOCK, ChangelogReader, decode_key, decode_value
from pipeline.live.detect import DetectStage
from pipeline.live.health import Health
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.live.supervise import GRACE_S
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment, Nowhere
from tests.broker.keeper import Keeper, last_words, launch, wait_until
from tests.broker.proxy import FETCH, HEARTBEAT, JOIN, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, PRODUCE, Proxy
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")


class Way(NamedTuple):
    """A broker, and the proxy that its advertised listener leads through."""

    proxy: Proxy
    kafka: LocalKafka
    made: list[Deployment]

    def deployment(self, prefix: str, **settings: object) -> Deployment:
        """Topics made and read on the direct way, workers on the other."""
        live = Deployment(self.kafka.bootstrap, prefix, **({"brokers": self.proxy.address} | settings))
        self.made.append(live)
        live.create()
        return live


@pytest.fixture(scope="module")
def built(module_kafka: Callable[..., LocalKafka]) -> Iterator[Way]:
    with Proxy() as proxy:
        kafka = module_kafka(listeners={"PROXIED": "PLAINTEXT"}, advertised={"PROXIED": proxy.address})
        proxy.point(kafka.listener("PROXIED"))
        yield Way(proxy, kafka, [])


@pytest.fixture
def way(built: Way) -> Iterator[Way]:
    yield built
    built.proxy.heal()
    while built.made:
        built.made.pop().close()


def test_connections_cut_in_the_middle_of_an_answer_lose_and_double_nothing(way: Way, topic_prefix: str, log: list[LogRecord]) -> None:
    """The broker has done what was asked and the answer is lost: a send is repeated, a commit too, a group is joined again."""
    live = way.deployment(topic_prefix)
    live.load(log[:2000])
    kinds = (PRODUCE, FETCH, OFFSET_COMMIT)
    with Watch(live) as watch, Keeper(live, STAGES) as kept:
        for kind in kinds:
            wait_until(lambda kind=kind: way.proxy.passed[kind] > 3, "answers")
        for kind in (JOIN, HEARTBEAT, METADATA, LIST_OFFSETS, OFFSET_FETCH):
            way.proxy.cut_answers(kind, 1)
        for round_ in range(1, 5):
            for kind in kinds:
                way.proxy.cut_answers(kind, 1)
            wait_until(lambda round_=round_: all(way.proxy.cut[kind] >= round_ for kind in kinds), "cuts")
        kept.finish()
    assert kept.ended == [], "a worker that runs outlives it"
    verify(live, watch=watch, beats=False)


@pytest.mark.soak
def test_a_worker_that_finds_no_broker_says_so_and_ends(way: Way, topic_prefix: str) -> None:
    """Refused, and worse: taken and left without an answer. What an operator reads is one sentence, not a traceback."""
    live = way.deployment(topic_prefix)
    way.proxy.silence()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    workers = {address: launch(live, "detect", brokers=address) for address in (nobody, way.proxy.address)}
    for address, worker in workers.items():
        said = last_words(live, worker, BROKERS.code)
        assert f"OFFHOOK_BROKERS={address}" in said.splitlines()[-2], said
        assert "Traceback" not in said
        assert len(said.splitlines()) < 60, "no wall of lines"


@pytest.mark.soak
def test_a_worker_told_to_end_while_the_broker_is_silent_ends(way: Way, topic_prefix: str, recorded: list[Outgoing]) -> None:
    """Nobody answers its sends, its commit and its goodbye; it ends within the time that a platform grants, and nothing is lost."""
    live = way.deployment(topic_prefix, batch_records=20)
    live.append("events", recorded[:1000])
    worker = live.start("detect")
    wait_until(lambda: live.read("detect-state"), "the first state")
    live.append("events", recorded[1000:])
    way.proxy.silence()
    wait_until(lambda: way.proxy.held > 0, "something under way")
    begun = time.monotonic()
    worker.terminate()
    code = worker.wait(GRACE_S)
    print(f"ended with exit code {code} after {time.monotonic() - begun:.1f} s")
    assert code in (0, BROKERS.code)
    live.workers.remove(worker)
    way.proxy.heal()
    live.finish({"detect": live.start("detect")})
    verify(live, ("detect",))


def test_who_stops_waiting_for_an_answer_harms_no_send_after_it(way: Way, topic_prefix: str) -> None:
    """A claim is cancelled by a rebalance while its write is under way, and that write must be sent again: aiokafka's sender lives."""
    live = way.deployment(topic_prefix, partitions=1)
    topic = live.prefix + "holds"

    async def run() -> None:
        async with Outbox({"bootstrap_servers": way.proxy.address}) as out:
            await out.know([topic])
            await out.append(topic, 0, [Outgoing(b"a", b"1")])
            way.proxy.silence()
            waiting = asyncio.create_task(out.append(topic, 0, [Outgoing(b"a", b"2")]))
            while not way.proxy.held:
                await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await asyncio.to_thread(way.proxy.refuse)
            way.proxy.heal()
            async with asyncio.timeout(60):
                await out.append(topic, 0, [Outgoing(b"a", b"3")])

    asyncio.run(run())
    assert [kept.value for kept in live.read("holds")] == [b"1", b"2", b"3"]


def test_a_claim_waits_for_the_batch_that_is_under_way(way: Way, topic_prefix: str, recorded: list[Outgoing]) -> None:
    """Answers are late, the session is lost, and the partition comes back while a batch is in hand: no clock may speak of that batch."""
    live = way.deployment(topic_prefix, partitions=1)
    live.append("events", recorded[:200], to=0)
    fetched = live.read("events")
    direct, through = {"bootstrap_servers": live.bootstrap}, {"bootstrap_servers": way.proxy.address}

    async def run() -> None:
        async with Outbox(through) as out:
            open_changelog = partial(ChangelogReader, direct)
            stage = DetectStage(live.settings.policy(), 100, live.prefix, open_changelog, DeadLetters("reference"), Health())
            await out.know(stage.targets)
            await stage.start(out, Nowhere())
            tp = TP(live.prefix + "events", 0)
            stage.assigned({tp}, 1)
            batch = Batch(tp, 1, fetched)
            await stage.prepare(batch)
            way.proxy.slow(1.0)
            before = way.proxy.asked[PRODUCE]
            handling = asyncio.create_task(stage.handle(batch))
            while way.proxy.asked[PRODUCE] == before:  # it is folded, and what it leads to is on its way
                await asyncio.sleep(0.01)
            stage.assigned({tp}, 2)
            await handling
            await stage.prepare(batch)
            await stage.stop()

    asyncio.run(run())
    written = [(kept.key or b"", kept.value or b"") for kept in live.read("detect-state")]
    clocks = [(decode_key(key)[1], *decode_value(value)) for key, value in written if decode_key(key)[0] == CLOCK]
    assert [epoch for epoch, _, _ in clocks][-1] == 2
    for epoch, offset, state in clocks:
        assert msgspec.msgpack.decode(state, type=ClockState).offset == offset, f"the clock of epoch {epoch} speaks of what is not durable"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_slow_closed_and_silent_ways_in_turn(way: Way, topic_prefix: str, log: list[LogRecord]) -> None:
    """Half a second in either direction, nobody listening, nobody answering; and a goodbye while all takes half a second longer."""
    live = way.deployment(topic_prefix)
    live.load(log)
    with Watch(live) as watch, Keeper(live, STAGES) as kept:
        wait_until(lambda: live.read("decisions"), "decisions")
        for _ in range(2):
            way.proxy.slow(0.5)
            time.sleep(20)
            way.proxy.slow(0)
            way.proxy.refuse()
            time.sleep(10)
            way.proxy.accept()
            time.sleep(3)
            way.proxy.silence()
            time.sleep(10)
            way.proxy.flow()
            time.sleep(3)
        live.settled(STAGES, within_s=300)
        way.proxy.slow(0.5)
        kept.finish(within_s=300)
    print(f"workers that ended by themselves: {kept.ended}")
    assert kept.ended == []
    verify(live, watch=watch, beats=False)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_connections_that_die_without_a_word_are_given_up(way: Way, topic_prefix: str, log: list[LogRecord]) -> None:
    """A firewall that forgets: what is open stays silent for ever, what is new is answered. The clients find out after 40 s."""
    live = way.deployment(topic_prefix)
    live.load(log)
    with Watch(live) as watch, Keeper(live, STAGES) as kept:
        wait_until(lambda: live.read("decisions"), "decisions")
        way.proxy.forget()
        kept.finish(within_s=400)
    print(f"workers that ended by themselves: {kept.ended}")
    assert {code for _, code in kept.ended} <= {BROKERS.code}
    verify(live, watch=watch, beats=False)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_slow_way_out_costs_time_and_no_memory(way: Way, topic_prefix: str, recorded: list[Outgoing]) -> None:
    """What cannot be sent is not read either: at most one batch of each partition is in hand."""
    live = way.deployment(topic_prefix)
    live.append("events", recorded)
    live.finish({"detect": live.start("detect")})
    state = live.read("detect-state")
    nominal = (max(kept.timestamp for kept in state) - min(kept.timestamp for kept in state)) / 1000
    total = sum(len(kept.value or b"") for topic in ("alerts", "decisions", "holds") for kept in live.read(topic))
    total += sum(len(kept.value or b"") for kept in state)
    rate = total / (10 * nominal)
    slow = way.deployment(topic_prefix + "slow.")
    worker = slow.start("detect")
    wait_until(lambda: len(slow.read("detect-state")) >= slow.partitions, "claims")
    way.proxy.throttle(rate)
    slow.append("events", recorded)
    resident = []
    ends = {("events", p): sum(kept.partition == p for kept in slow.read("events")) for p in range(slow.partitions)}
    while any(slow.committed("detect").get(at, 0) < end for at, end in ends.items()):
        resident.append(rss(worker.pid))
        assert len(resident) < 400, "it stands still"
        time.sleep(1)
    way.proxy.throttle(0)
    slow.finish({"detect": worker})
    verify(slow, ("detect",))
    assert len(resident) > 5 * nominal, "it was not slow"
    third = len(resident) // 3
    first, last = statistics.median(resident[third : 2 * third]), statistics.median(resident[2 * third :])
    print(f"nominal {nominal:.1f} s, {total} bytes; throttled to {rate:.0f} bytes/s for {len(resident)} s: RSS {first} -> {last} MiB")
    assert last - first < 20, "MiB"


def rss(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
