"""Does the verifier notice? A run that it accepts, and the same run with one thing wrong in what was written, which it must name."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pipeline.core.beats import ClockState
from pipeline.core.events import LINE_FEEDS, Beat, Mark
from pipeline.core.policy import Policy
from pipeline.live.outbox import Outgoing
from pipeline.wire.codec import encode_event
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord
from pipeline.wire.pseudonym import Pseudonyms
from tests.broker.harness import KEY, Deployment, Kept
from tests.broker.harness_feed import sightings_of
from tests.broker.verifier import Watch, verify
from tests.broker.verifier_state import CLOCK, entry_of
from tests.replay.raw import PHONE, START, Log

pytestmark = pytest.mark.broker
Change = Callable[[list[Kept]], list[Kept]]


class Tampered:
    """A finished run, read once, in which one topic, or what a stage has committed, says something else."""

    def __init__(self, live: Deployment) -> None:
        self._live = live
        self._logs: dict[str, list[Kept]] = {}
        self._committed: dict[str, dict[tuple[str, int], int]] = {}
        self._changes: dict[str, Change] = {}
        self.ahead = 0  # of what was committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._live, name)

    def change(self, **changes: Change) -> "Tampered":
        """Change topics; underscores stand for dashes."""
        self._changes = {topic.replace("_", "-"): change for topic, change in changes.items()}
        return self

    def read(self, topic: str) -> list[Kept]:
        """What a topic holds, or is said to hold."""
        if topic not in self._logs:
            self._logs[topic] = self._live.read(topic)
        return self._changes.get(topic, list)(list(self._logs[topic]))

    def committed(self, stage: str) -> dict[tuple[str, int], int]:
        """What a stage has committed, or is said to have."""
        if stage not in self._committed:
            self._committed[stage] = self._live.committed(stage)
        return {at: offset + self.ahead for at, offset in self._committed[stage].items()}


def index_of(log: list[Kept], *words: bytes) -> int:
    return next(i for i, kept in enumerate(log) if kept.value is not None and all(word in kept.value for word in words))


def without(*words: bytes) -> Change:
    """A topic without the first record that has these words."""

    def change(log: list[Kept]) -> list[Kept]:
        del log[index_of(log, *words)]
        return log

    return change


def again(log: list[Kept], kept: Kept, **other: Any) -> list[Kept]:
    """A topic with one more record at the end of its partition."""
    at = max(i for i, k in enumerate(log) if k.partition == kept.partition)
    log.insert(at + 1, kept._replace(offset=log[at].offset + 1, **other))
    return log


def another_word(log: list[Kept]) -> list[Kept]:
    return again(log, log[0], value=(log[0].value or b"") + b" ")


def older_word_last(log: list[Kept]) -> list[Kept]:
    """Repeat a decision on a challenge on which there was a later one that differs."""
    last: dict[str, Kept] = {}
    for kept in reversed(log):
        value = msgspec.json.decode(kept.value or b"")
        newer = last.setdefault(value["otp_id"], kept)
        if msgspec.json.decode(newer.value or b"")["probability"] != value["probability"]:
            return again(log, kept)
    raise AssertionError("no challenge was decided upon twice")


def without_an_account(log: list[Kept]) -> list[Kept]:
    """Take away all that was ever written of an account."""
    gone = next(kept.key for kept in log if kept.key is not None and kept.key[0])
    return [kept for kept in log if kept.key is None or kept.key[:-8] != gone[:-8]]


def with_an_old_clock(log: list[Kept]) -> list[Kept]:
    """Leave the first clock of each partition as its only one."""
    seen: set[int] = set()
    kept_clocks = []
    for kept in log:
        assert kept.key is not None
        if kept.value is not None and entry_of(kept.key, kept.value)[0] == CLOCK:
            if kept.partition in seen:
                continue
            seen.add(kept.partition)
        kept_clocks.append(kept)
    return kept_clocks


def beat_first(log: list[Kept]) -> list[Kept]:
    """Put the last beat of a partition in front of its first record."""
    i = next(i for i in range(len(log) - 1, -1, -1) if log[i].key is None)
    start = next(j for j, kept in enumerate(log) if kept.partition == log[i].partition)
    moved = [log[i], *log[start:i]]
    log[start : i + 1] = [kept._replace(offset=log[start].offset + n) for n, kept in enumerate(moved)]
    return log


def refused(live: Deployment, topic: str, record: Kept) -> Change:
    """Dead letters with one more: that of a record which was read."""
    out = DeadLetters("reference").record(
        live.prefix + topic, record.partition, record.offset, record.timestamp, "not_json", "said the test", record.key, record.value
    )

    def change(log: list[Kept]) -> list[Kept]:
        return [*log, Kept(0, len(log), 0, out.key, out.value, out.headers)]

    return change


def test_what_is_wrong_is_named(deploy: Callable[..., Deployment], log: list[LogRecord]) -> None:
    live = deploy()
    live.load(log)
    with Watch(live) as watch:
        live.finish({stage: live.start(stage) for stage in ("ingest", "route", "detect")})
    run: Any = Tampered(live)
    accounts = verify(run, watch=watch, redelivery=False)
    assert sum(accounts.where["events"].values()) == len(live.read("events")), "not every event has its place"
    assert len(run.read("alerts")) > 1, "there is nothing to take away"
    folded = next(kept for kept in run.read("events") if b'"logged_in"' in (kept.value or b""))
    invented = (folded.value or b"").replace(b'"event_id":"', b'"event_id":"x')
    ingest, route, detect = ("ingest",), ("route",), ("detect",)
    cases: list[tuple[str, tuple[str, ...], dict[str, Change]]] = [
        ("is lost", ingest, {"events": without(b'"logged_in"')}),
        ("is lost", ingest, {"lines": without(b'"link_changed"')}),
        ("comes from nothing", (*ingest, *route), {"events": lambda log: again(log, folded, value=invented)}),
        ("was written too", ingest, {"dead_letters": refused(live, "logins", run.read("logins")[0])}),
        ("is in a dead letter and in the state|counts other logins", detect, {"dead_letters": refused(live, "events", folded)}),
        ("a beat at events", (*ingest, *route), {"events": beat_first}),
        ("no state of its line", route, {"route_state": without_an_account}),
        ("no state of its account", detect, {"detect_state": without_an_account}),
        ("beyond the durable clock", detect, {"detect_state": with_an_old_clock}),
        ("beyond the durable clock", route, {"route_state": with_an_old_clock}),
        ("alerts that were not written", detect, {"alerts": lambda log: log[1:]}),
        ("decisions that were not written", detect, {"decisions": lambda log: log[1:]}),
        ("should not have been written", detect, {"alerts": another_word}),
        ("final assessments differ", detect, {"decisions": older_word_last}),
        ("written again", detect, {"alerts": lambda log: again(log, log[-1])}),
    ]
    for what, stages, changes in cases:
        with pytest.raises(AssertionError, match=what):
            verify(run.change(**changes), stages, redelivery=False)
    run.change().ahead = 1
    with pytest.raises(AssertionError, match="committed"):
        verify(run, detect)
    run.ahead = 0
    sample = watch.samples[-1]
    ahead = sample.committed | {"detect": {at: offset + 1 for at, offset in sample.committed["detect"].items()}}
    for what, said in (
        ("was durable", sample._replace(committed=ahead)),
        ("was missing", sample._replace(ends=dict.fromkeys(sample.ends, 0))),
    ):
        watch.samples[-1] = said
        with pytest.raises(AssertionError, match=what):
            verify(run, watch=watch)


def campaign_faults_are_named(live: Deployment, watch: Watch) -> None:
    """Of a run of all four stages that is as it must be: what is wrong with campaigns is named."""
    stages = ("ingest", "route", "campaign", "detect")
    run: Any = Tampered(live)
    verify(run, stages, watch, redelivery=False, beats=False)
    sighted = run.read("sightings")[0]
    news = next(kept for kept in run.read("events") if b'"campaign_seen"' in (kept.value or b""))
    campaign, detect = ("campaign",), ("campaign", "detect")
    cases: list[tuple[str, tuple[str, ...], dict[str, Change]]] = [
        ("not in the state of its slot", campaign, {"campaign_state": without_an_account}),
        ("beyond the durable clock", campaign, {"campaign_state": with_an_old_clock}),
        ("not in the state of its slot", campaign, {"sightings": lambda log: again(log[:1], sighted, value=of_another(sighted))}),
        ("was not told of", campaign, {"events": without(b'"campaign_seen"')}),
        ("nobody saw", campaign, {"events": lambda log: again(log, news, value=(news.value or b"").replace(b"caller:", b"caller:x"))}),
        ("written again", campaign, {"events": lambda log: again(log, news)}),
        ("sightings that were not written", detect, {"sightings": lambda log: log[1:]}),
        ("did not run", ("ingest",), {}),
    ]
    for what, of, changes in cases:
        with pytest.raises(AssertionError, match=what):
            verify(run.change(**changes), of, redelivery=False, beats=False)
    run.change()
    watch.samples[-1] = watch.samples[-1]._replace(ends=dict.fromkeys(watch.samples[-1].ends, 0))
    with pytest.raises(AssertionError, match="was missing"):
        verify(run, campaign, watch)


def test_a_partition_that_has_not_kept_what_it_was_told_of_campaigns_is_named(deploy: Callable[..., Deployment]) -> None:
    """No beat has come, so that none of them is over."""
    live = deploy(partitions=2)
    stages = ("campaign", "detect")
    live.append("sightings", sightings_of(entities=5, accounts=10, each=6))
    live.finish({stage: live.start(stage) for stage in stages})
    run: Any = Tampered(live)
    assert verify(run, ("campaign",), redelivery=False).where["sightings"] == {"marks": 30}
    with pytest.raises(AssertionError, match="sightings that should not have been written"):  # by the test; the tables are as they must be
        verify(run, stages)
    with pytest.raises(AssertionError, match=r"the campaign told at events .* is lost"):
        verify(run.change(detect_state=without_campaigns), stages)


def without_campaigns(log: list[Kept]) -> list[Kept]:
    """Clear the tables of campaigns of all clocks."""

    def cleared(kept: Kept) -> Kept:
        if kept.value is None or entry_of(kept.key or b"", kept.value)[0] != CLOCK:
            return kept
        clock = msgspec.msgpack.decode(kept.value[8:], type=ClockState)
        return kept._replace(value=kept.value[:8] + msgspec.msgpack.encode(msgspec.structs.replace(clock, campaigns={})))

    return [cleared(kept) for kept in log]


def of_another(kept: Kept) -> bytes:
    """A sighting of another account."""
    sighting = msgspec.json.decode(kept.value or b"")
    return msgspec.json.encode(sighting | {"account_id": "somebody-else"})


def test_a_call_that_is_read_again_behind_its_link_is_no_call_that_a_beat_has_overtaken(deploy: Callable[..., Deployment]) -> None:
    """The link leads to it first, after the beat; what comes again, as when ingest was killed, is older and was in front of the beat."""
    live = deploy(partitions=1)
    log = Log()
    log.call(PHONE, START, "a-call")
    log.linked("acc-1", PHONE, START + 120_000)
    ingest = Ingest(Policy(), Pseudonyms.from_text(KEY))
    said = [Outgoing(key.encode(), encode_event(e)) for r in log.records for _, key, e in ingest.read(r.topic, r.value, r.ts)]
    calls, link = said[:-1], said[-1]
    marks = {f"{feed}/0": Mark(START + 100_000, START) for feed in LINE_FEEDS}
    beat = Beat(arrived_at=START + 100_000, marks=marks, partitions=dict.fromkeys(LINE_FEEDS, 1))
    live.append("lines", [*calls, Outgoing(None, encode_event(beat)), link, *calls])
    live.finish({"route": live.start("route", batch_records=1)})
    beats = [kept for kept in live.read("events") if b'"beat"' in (kept.value or b"")]
    assert beats[0].offset == 0, "the beat leaves before the link brings the call"
    assert verify(live, ("route",)).where["lines"].total() == len(calls) * 2 + 2
