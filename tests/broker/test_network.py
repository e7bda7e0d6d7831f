"""What if the way to the broker is bad? Cut, slow, silent and closed connections: nothing is lost, nothing is doubled, nothing hangs."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from deploy.local_kafka import LocalKafka
from pipeline.exits import BROKERS
from pipeline.live.outbox import Outgoing
from pipeline.live.supervise import GRACE_S
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment
from tests.broker.keeper import Keeper, launch, wait_until
from tests.broker.proxy import FETCH, HEARTBEAT, JOIN, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, PRODUCE, Proxy
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")


class Way(NamedTuple):
    """A broker, and the proxy that its advertised listener leads through."""

    proxy: Proxy
    kafka: LocalKafka

    def deployment(self, prefix: str, **settings: object) -> Deployment:
        """Topics made and read on the direct way, workers on the other."""
        live = Deployment(self.kafka.bootstrap, prefix, **({"brokers": self.proxy.address} | settings))
        live.create()
        return live


@pytest.fixture(scope="module")
def built(module_kafka: Callable[..., LocalKafka]) -> Iterator[Way]:
    with Proxy() as proxy:
        kafka = module_kafka(listeners={"PROXIED": "PLAINTEXT"}, advertised={"PROXIED": proxy.address})
        proxy.point(kafka.listener("PROXIED"))
        yield Way(proxy, kafka)


@pytest.fixture
def way(built: Way) -> Iterator[Way]:
    yield built
    built.proxy.heal()


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


def test_a_worker_that_finds_no_broker_says_so_and_ends(way: Way, topic_prefix: str) -> None:
    """Refused, and worse: taken and left without an answer. What an operator reads is one sentence, not a traceback."""
    live = way.deployment(topic_prefix)
    way.proxy.silence()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    workers = {address: launch(live, "detect", brokers=address) for address in (nobody, way.proxy.address)}
    for address, worker in workers.items():
        said = worker.communicate(timeout=120)[1]
        assert worker.returncode == BROKERS.code, said
        assert f"OFFHOOK_BROKERS={address}" in said.splitlines()[-2], said
        assert "Traceback" not in said
        assert len(said.splitlines()) < 60, "no wall of lines"


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
    print(f"ended with {code} after {time.monotonic() - begun:.1f} s")
    live.workers.remove(worker)
    way.proxy.heal()
    live.finish({"detect": live.start("detect")})
    verify(live, ("detect",))
