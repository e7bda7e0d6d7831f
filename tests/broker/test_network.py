"""What if the way to the broker is bad? Cut, slow, silent and closed connections: nothing is lost, nothing is doubled, nothing hangs."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from deploy.local_kafka import LocalKafka
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment
from tests.broker.keeper import Keeper, wait_until
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
