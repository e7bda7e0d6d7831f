"""What if the way to the broker is bad? Cut, slow, silent and closed connections: nothing is lost, nothing is doubled, nothing hangs."""

import asyncio
import socket
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
CLONES = 12  # of each account, where much is to be sent
SLOWER = 10  # times


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
    rare = (JOIN, HEARTBEAT, METADATA, LIST_OFFSETS, OFFSET_FETCH)
    with Watch(live) as watch, Keeper(live, STAGES) as kept:
        for kind in kinds:
            wait_until(lambda kind=kind: way.proxy.passed[kind] > 3, "answers")
        for kind in rare:
            way.proxy.cut_answers(kind, 1)
        for round_ in range(1, 5):
            for kind in kinds:
                way.proxy.cut_answers(kind, 1)
            wait_until(lambda round_=round_: all(way.proxy.cut[kind] >= round_ for kind in kinds), "cuts")
        # A coordinator whose connection broke is looked for anew, and metadata are asked for; a group is joined again, its offsets and
        # those of the changelogs are asked for, when a member comes: one that there are partitions for.
        guest = live.start("route")
        wait_until(lambda: all(way.proxy.cut[kind] for kind in rare), "cuts of what is seldom asked for")
        assert live.stop(guest) == 0
        kept.finish()
    assert all(way.proxy.cut[kind] for kind in (*kinds, *rare))
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
@pytest.mark.timeout(1500)
def test_a_slow_way_out_costs_time_and_no_memory(way: Way, topic_prefix: str, recorded: list[Outgoing]) -> None:
    """What cannot be sent is not read either: a batch of each partition is in hand, and all that is kept is kept on a quick way too."""
    crowd = [clone for record in recorded for clone in clones(record)]
    live = way.deployment(topic_prefix, batch_records=50)
    live.append("events", crowd)
    before = way.proxy.sent[PRODUCE]
    nominal, usual = folded(live)
    total = way.proxy.sent[PRODUCE] - before
    slow = way.deployment(topic_prefix + "slow.", batch_records=50)
    slow.append("events", crowd)
    way.proxy.throttle(total / (SLOWER * nominal), [PRODUCE])
    seconds, peak = folded(slow)
    print(f"{len(crowd)} events, {total} bytes out: {nominal:.1f} s and {usual:.1f} MiB; throttled {seconds:.1f} s and {peak:.1f} MiB")
    assert peak - usual < 20, "MiB piled up"
    assert seconds > 5 * nominal, "it was not slow"
    verify(slow, ("detect",))


def clones(record: Outgoing) -> list[Outgoing]:
    """A record of ``events`` for so many accounts that live through the same; a beat speaks to all of them."""
    if record.key is None:
        return [record]
    names = [record.key + b"-%d" % number for number in range(CLONES)]
    return [Outgoing(name, (record.value or b"").replace(b'"account_id":"' + record.key, b'"account_id":"' + name)) for name in names]


def folded(live: Deployment) -> tuple[float, float]:
    """Let a worker fold all there is, and end; how many seconds the folding took, and its peak of resident memory in MiB."""
    worker = live.start("detect")
    wait_until(lambda: live.committed("detect"), "the first commit")
    begun = time.monotonic()
    live.settled(("detect",), within_s=700)
    seconds, peak = time.monotonic() - begun, peak_rss(worker.pid)
    live.finish({"detect": worker})
    return seconds, peak


def peak_rss(pid: int) -> float:
    """The most memory that a process has had resident, in MiB."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
