"""What the broker tests share: a simulated log, and deployments that are taken down when a test ends."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.beats import BeatMaker
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import FEEDS, LinkChanged
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.live.outbox import Outgoing
from pipeline.simulate.run import simulate
from pipeline.wire.codec import encode_event
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord, merge_logs
from pipeline.wire.pseudonym import Pseudonyms
from tests.broker.harness import KEY, Deployment
from tests.broker.harness_feed import lines_of, sightings_of, with_late_logins


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[LogRecord]:
    """Half an hour of a bank, with more attacks than there are anywhere; a good 5,000 raw records in the order of their arrival."""
    out = tmp_path_factory.mktemp("simulated")
    simulate(5, 3000, 0.5, out, history_days=0, prior=0.05)
    return list(merge_logs([Path(out / "log.jsonl")]))


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> list[LogRecord]:
    """An hour of a small bank under attack by campaigns."""
    out = tmp_path_factory.mktemp("attacked")
    simulate(8, 800, 1.0, out, history_days=0, prior=0.7)
    return list(merge_logs([out / "log.jsonl"]))


@pytest.fixture(scope="session")
def recorded(log: list[LogRecord]) -> list[Outgoing]:
    """The same half hour as records of ``events``, with beats; a beat has no key, since it goes to every partition."""
    policy = Policy()
    ingest, router, beats = Ingest(policy, Pseudonyms.from_text(KEY)), Router(policy), BeatMaker(dict.fromkeys(FEEDS, 1))
    out: list[Outgoing] = []
    lines = 0
    for record in log:
        try:
            found = ingest.read(record.topic, record.value, record.ts)
        except InvalidEvent:
            continue
        for topic, key, event in found:
            if topic == "events":
                out.append(Outgoing(key.encode(), encode_event(event)))
            else:
                assert isinstance(event, LinkChanged) or not event.account_id
                out += [Outgoing(e.account_id.encode(), encode_event(e)) for e in router.fold(lines, event)]
                lines += 1
        for feed in FEEDS:
            beats.caught_up(feed, 0, record.ts)
        beat = beats.due(record.ts)
        if beat is not None:
            out.append(Outgoing(None, encode_event(beat)))
    return out


@pytest.fixture(scope="session")
def inputs(log: list[LogRecord], recorded: list[Outgoing]) -> dict[str, Sequence[Any]]:
    """What each stage reads, when it is tested alone."""
    return {
        "ingest": log,
        "route": lines_of(log),
        "detect": with_late_logins(recorded),
        "campaign": sightings_of(entities=100, accounts=300, each=60),
    }


@pytest.fixture
def deploy(broker: str, topic_prefix: str) -> Iterator[Callable[..., Deployment]]:
    """A function that makes a deployment on the broker, its topics included."""
    made: list[Deployment] = []

    def make(log_append_time: bool = False, **options: Any) -> Deployment:
        deployment = Deployment(broker, f"{topic_prefix}{len(made)}.", **options)
        made.append(deployment)
        deployment.create(log_append_time)
        return deployment

    yield make
    for deployment in made:
        deployment.close()
