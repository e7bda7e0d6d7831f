"""Is it one fold? Every story, and a simulated hour, says the same however it is carried: restarted, crashed, shuffled, recorded, replayed.

The rungs of the ladder below the live one, which needs a broker (tests/broker). The plain fold is the reference.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

import msgspec
import pytest

from pipeline.core.baselines import Baselines, Codes
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import AnyEvent, Beat, Keyless, Ms
from pipeline.core.outcome import Decision, Finding, Late, Outcome
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.replay.run import Replay
from pipeline.simulate.run import simulate
from pipeline.wire.codec import OutcomeEncoder, decode_event, encode_event
from pipeline.wire.ingest import Addressed, Ingest
from pipeline.wire.log import LogRecord, encode_line, merge_logs
from tests.stories import DAY_S, Run, Story, played, pseudonyms, stories
from tests.stories import run as stories_run

T = TypeVar("T")
STORIES = [pytest.param(s, id=s.name) for s in stories()]
SHUFFLES = 2  # arrival orders tried per story
WRITTEN = ("alerts", "decisions", "holds")
EVENING = datetime(2026, 3, 2, 18, tzinfo=UTC)
RESTART_EVERY = 300  # events
BEATS_TOGETHER = 10  # a restart after so many beats, and after every event that changes an account
OF_AN_HOUR = Policy(baselines=Baselines(codes=Codes(0.8, 0.1, ((0.5,) * 24,) * 7)))  # so that a few codes at once are a surge
LONG_AFTER_MS = 30 * DAY_S * 1000  # when every event of a story has been sealed


def bytes_of(said: list[Outcome]) -> list[object]:
    """What is written for each outcome; a late event, which the driver writes, as it is."""
    encode = OutcomeEncoder("replay").encode
    return [o if isinstance(o, Late) else encode(o) for o in said]


def outcomes(run: Run) -> list[Outcome]:
    return [outcome for _, outcome in run.said]


def refolded(events: list[AnyEvent], policy: Policy) -> tuple[list[Outcome], Partition]:
    partition = Partition(policy)
    return [o for offset, event in enumerate(events) for o in partition.fold(offset, event)], partition


# --- restart: the state goes through bytes between every two events


@pytest.mark.parametrize("story", STORIES)
def test_a_restart_between_every_two_events_changes_nothing(story: Story) -> None:
    run = played(story.name)
    said, kept, partition = [], {}, Partition(story.rules)
    for offset, event in enumerate(run.events):
        said += partition.fold(offset, event)
        changed = partition.changes()
        if changed or offset % BEATS_TOGETHER == 0:  # most beats say nothing to any account
            kept |= changed
            partition = restored(story.rules, kept, partition.clock())
    assert bytes_of(said) == bytes_of(outcomes(run))
    assert kept == state_of(run.partition)


@pytest.mark.parametrize("story", STORIES)
def test_a_crash_before_the_clock_is_durable_repeats_nothing_and_loses_nothing(story: Story) -> None:
    """A batch's accounts are durable, its clock is not (it goes with the next batch): the whole batch is delivered again."""
    run, random = played(story.name), Random(story.name)
    said, kept, clock, at = [], {}, b"", 0
    while at < len(run.events):
        batch = list(enumerate(run.events))[at : at + random.randint(1, 7)]
        at += len(batch)
        partition = restored(story.rules, kept, clock)
        said += [o for offset, event in batch for o in partition.fold(offset, event)]
        kept |= partition.changes()
        again = restored(story.rules, kept, clock)
        assert [o for offset, event in batch for o in again.fold(offset, event)] == []
        kept |= again.changes()
        clock = again.clock()
    assert bytes_of(said) == bytes_of(outcomes(run))
    assert kept == state_of(run.partition)


def restored(policy: Policy, kept: dict[str, bytes], clock: bytes) -> Partition:
    partition = Partition(policy)
    for account, state in kept.items():
        partition.restore(account, state)
    if clock:
        partition.restore_clock(clock)
    return partition


def state_of(partition: Partition) -> dict[str, bytes]:
    """The encoded state of every account."""
    return {account: state for account in partition.accounts() if (state := partition.encoded(account)) is not None}


# --- order and repetition


@pytest.mark.parametrize("story", STORIES)
def test_any_order_within_the_bound_with_everything_twice_ends_the_same(story: Story) -> None:
    run = played(story.name)
    expected = ends(outcomes(run), run.partition)
    for seed in range(SHUFFLES):
        events = shuffled(run.events, Random(f"{story.name} {seed}"), 1000 * story.rules.bounds.slack_s)
        assert_ends(ends(*refolded(events, story.rules)), expected)


@pytest.mark.parametrize("story", STORIES)
def test_any_order_before_the_lines_are_routed_ends_the_same(story: Story) -> None:
    run = played(story.name)
    events = rerouted(story.log, story.ingest_at, run, story.rules, Random(story.name))
    assert_ends(ends(*refolded(events, story.rules)), ends(outcomes(run), run.partition))


@pytest.mark.parametrize("story", STORIES)
def test_time_that_passes_in_one_leap_ends_the_same(story: Story) -> None:
    """Beats are lost but for the last: every deadline is found when it has long passed, and keeps its own time."""
    run = played(story.name)
    events = [e for e in run.events[:-1] if not isinstance(e, Beat)] + run.events[-1:]
    assert_ends(ends(*refolded(events, story.rules)), ends(outcomes(run), run.partition))


def shuffled(events: Iterable[AnyEvent], random: Random, slack: Ms) -> list[AnyEvent]:
    """Deliver every event twice, each time up to the slack later than the log has it; beats keep their time."""
    now = 0
    delivered: list[tuple[Ms, AnyEvent]] = []
    for event in events:
        now = max(now, event.arrived_at)  # what waited for a link arrived long before it stands in the log
        delivered += [(now, event)] if isinstance(event, Beat) else late_and_twice(now, event, random, slack)
    return in_order(delivered)


def late_and_twice(at: Ms, value: T, random: Random, slack: Ms) -> list[tuple[Ms, T]]:
    return [(at + random.randint(0, slack), value) for _ in range(2)]


def in_order(delivered: list[tuple[Ms, T]]) -> list[T]:
    return [value for _, value in sorted(delivered, key=lambda d: d[0])]


def rerouted(log: Iterable[LogRecord], ingest_at: Callable[[Ms], Ingest], run: Run, policy: Policy, random: Random) -> list[AnyEvent]:
    """Disorder both stages before detect, by half of the slack each: records before route and events after it; beats as they were."""
    half = 500 * policy.bounds.slack_s
    read: list[tuple[Ms, Addressed]] = []
    now = 0
    for record in log:
        now = max(now, record.ts)
        with contextlib.suppress(InvalidEvent):
            for addressed in ingest_at(record.ts).read(record.topic, record.value, record.ts):
                read += late_and_twice(now, addressed, random, half)
    router = Router(policy)
    delivered: list[tuple[Ms, AnyEvent]] = [(e.arrived_at, e) for e in run.events if isinstance(e, Keyless)]
    for offset, (at, addressed) in enumerate(sorted(read, key=lambda r: r[0])):
        events = router.fold(offset, addressed.event) if addressed.topic == "lines" else [addressed.event]  # type: ignore[arg-type]
        delivered += [(at + random.randint(0, half), event) for event in events]
    return in_order(delivered)


class Ends(NamedTuple):
    """The final assessment of each challenge, the profiles, and the ids of decisions."""

    final: dict[str, Decision]
    profiles: dict[str, object]
    ids: dict[str, str]


def assert_ends(got: Ends, expected: Ends) -> None:
    """Everything comes to the same. A decision that is no alert has another id where a finding was told on the way, and only there."""
    assert got[:2] == expected[:2]
    assert {key: got.ids[key] for key in got.ids.keys() & expected.ids} == {key: expected.ids[key] for key in got.ids.keys() & expected.ids}


def ends(said: list[Outcome], partition: Partition) -> Ends:
    """What everything comes to: the final assessment of each challenge, and each profile once all is sealed.

    A challenge without a decision is one that ended clear and unused. Whether a finding was ever told, and which dispatch
    taught a link, are of the order.
    """
    final = {f"{d.account_id}|{d.otp_id}": d for d in said if isinstance(d, Decision)}
    profiles: dict[str, object] = {}
    for account in partition.accounts():
        timeline = partition.timeline(account)
        assert timeline is not None
        timeline, _ = partition.detector.fire(timeline, timeline.now + LONG_AFTER_MS)
        assert not timeline.recent
        assert not timeline.tracks
        links = {line: (link.status, link.status == "linked" and link.occurred_at) for line, link in timeline.profile.links.items()}
        profiles[account] = (msgspec.structs.replace(timeline.profile, revision=0, links={}), links)  # revision counts the steps
    kept = {key: d for key, d in final.items() if not (d.level == "clear" and d.stage in ("before_entry", "near_miss"))}
    return Ends(
        {key: msgspec.structs.replace(d, finding_uid=None, decision_id="") for key, d in kept.items()},
        profiles,
        {key: d.decision_id for key, d in kept.items() if d.level == "alert" or d.finding_uid is None},
    )


# --- recorded and replayed


@pytest.mark.parametrize("story", STORIES)
def test_recorded_events_say_the_same_bytes(story: Story) -> None:
    run = played(story.name)
    recorded = [decode_event(encode_event(event)) for event in run.events]
    assert recorded == run.events
    said, partition = refolded(recorded, story.rules)
    assert bytes_of(said) == bytes_of(outcomes(run))
    assert state_of(partition) == state_of(run.partition)


@pytest.mark.parametrize("story", STORIES)
def test_the_replay_driver_writes_the_same_bytes(story: Story, tmp_path: Path) -> None:
    run = played(story.name)
    replayed(run_log(run), story.rules, tmp_path / "recorded")
    assert written(tmp_path / "recorded") == lines_of(run)
    if not story.keys:  # one run of the driver has one set of keys
        replayed(story.log, story.rules, tmp_path / "raw")
        assert written(tmp_path / "raw") == lines_of(run)


def run_log(run: Run) -> Iterator[LogRecord]:
    """The ``events`` topic that a run would have written."""
    for offset, event in enumerate(run.events):
        yield LogRecord("events", 0, offset, event.arrived_at, None, encode_event(event))


def replayed(log: Iterable[LogRecord], policy: Policy, folder: Path) -> None:
    """Run the embedded driver over a log file made of the records."""
    folder.mkdir()
    file = folder / "log.jsonl"
    file.write_bytes(b"".join(map(encode_line, log)))
    Replay(policy, pseudonyms(), folder).run(merge_logs([file]))


def written(folder: Path) -> dict[str, bytes]:
    return {topic: (folder / f"{topic}.jsonl").read_bytes() for topic in WRITTEN}


def lines_of(run: Run) -> dict[str, bytes]:
    """What a driver writes for the outcomes of a run: one line a record, in order."""
    encode = OutcomeEncoder("replay").encode
    lines: dict[str, list[bytes]] = {topic: [] for topic in WRITTEN}
    for offset, outcome in run.said:
        record = encode(outcome)
        if record is not None and record.topic in WRITTEN:
            ts = outcome.time if isinstance(outcome, Decision | Finding) else run.events[offset].arrived_at
            topic = lines[record.topic]
            topic.append(encode_line(LogRecord(record.topic, 0, len(topic), ts, record.key, record.value, record.headers)))
    return {topic: b"".join(of) for topic, of in lines.items()}


# --- an hour of a bank under attack, through the same ladder


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """An evening hour of 250 customers, with many attacks and look-alikes, and the plain fold of it."""
    folder = tmp_path_factory.mktemp("hour")
    about = simulate(5, 250, 1.0, folder, history_days=3, prior=2.0, lookalikes=0.5, start=EVENING)
    log = folder / about.log
    ingest = Ingest(OF_AN_HOUR, pseudonyms())
    run = stories_run(merge_logs([log]), lambda _: ingest, OF_AN_HOUR)
    said = outcomes(run)
    assert sum(isinstance(o, Finding) and o.activity == "create" for o in said) >= about.labels["takeover"] // 2
    assert any(o.features.get("code_surge_z") for o in said if isinstance(o, Decision)), "no surge of codes"
    return log, run


def test_an_hour_restarted_now_and_then_and_kept_as_bytes_says_the_same(hour: tuple[Path, Run]) -> None:
    """One decoded account at a time, so that nearly every event finds bytes; a new partition every few hundred events."""
    _, run = hour
    said, kept, clock, partition = [], {}, b"", Partition(OF_AN_HOUR, cached=1)
    for offset, event in enumerate(run.events):
        if offset % RESTART_EVERY == RESTART_EVERY - 1:
            kept |= partition.changes()
            partition, clock = Partition(OF_AN_HOUR, cached=1), partition.clock()
            for account, state in kept.items():
                partition.restore(account, state)
            partition.restore_clock(clock)
        said += partition.fold(offset, event)
    assert bytes_of(said) == bytes_of(outcomes(run))
    assert state_of(partition) == state_of(run.partition)


def test_an_hour_in_any_order_with_everything_twice_ends_the_same(hour: tuple[Path, Run]) -> None:
    log, run = hour
    events = shuffled(run.events, Random(1), 1000 * OF_AN_HOUR.bounds.slack_s)
    expected = ends(outcomes(run), run.partition)
    assert_ends(ends(*refolded(events, OF_AN_HOUR)), expected)
    events = [e for e in run.events[:-1] if not isinstance(e, Beat)] + run.events[-1:]
    assert_ends(ends(*refolded(events, OF_AN_HOUR)), expected)
    ingest = Ingest(OF_AN_HOUR, pseudonyms())
    events = rerouted(merge_logs([log]), lambda _: ingest, run, OF_AN_HOUR, Random(2))
    assert_ends(ends(*refolded(events, OF_AN_HOUR)), expected)


def test_an_hour_replayed_raw_and_recorded_writes_the_same_bytes(hour: tuple[Path, Run], tmp_path: Path) -> None:
    log, run = hour
    Replay(OF_AN_HOUR, pseudonyms(), tmp_path / "raw").run(merge_logs([log]))
    replayed(run_log(run), OF_AN_HOUR, tmp_path / "recorded")
    assert written(tmp_path / "raw") == written(tmp_path / "recorded") == lines_of(run)
