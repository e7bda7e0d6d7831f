"""Is it one fold? Every story, and a simulated hour, says the same however it is carried: restarted, crashed, shuffled, recorded, replayed.

The rungs of the ladder below the live one, which needs a broker (tests/broker). The plain fold is the reference.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from pipeline.core.events import AnyEvent, Beat, Ms
from pipeline.core.outcome import Decision, Late, Outcome
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.profile import Profile
from pipeline.core.route import Router
from pipeline.replay.run import Replay
from pipeline.wire.codec import OutcomeEncoder, decode_event, encode_event
from pipeline.wire.log import LogRecord, encode_line, merge_logs
from tests.stories import DAY_S, Run, Story, played, pseudonyms, stories

STORIES = [pytest.param(s, id=s.name) for s in stories()]
SHUFFLES = 2  # arrival orders tried per story
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
    said, kept, clock = [], {}, b""
    for offset, event in enumerate(run.events):
        partition = restored(story.rules, kept, clock)
        said += partition.fold(offset, event)
        kept |= partition.changes()
        clock = partition.clock()
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
    encode = msgspec.msgpack.encode
    return {account: encode(partition.timeline(account)) for account in partition.accounts()}


# --- order and repetition


@pytest.mark.parametrize("story", STORIES)
def test_any_order_within_the_bound_with_everything_twice_ends_the_same(story: Story) -> None:
    run = played(story.name)
    expected = ends(outcomes(run), run.partition, story.rules)
    for seed in range(SHUFFLES):
        events = shuffled(run.events, Random(f"{story.name} {seed}"), 1000 * story.rules.bounds.slack_s)
        assert ends(*refolded(events, story.rules), story.rules) == expected


def shuffled(events: list[AnyEvent], random: Random, slack: Ms) -> list[AnyEvent]:
    """Deliver every event twice, each time up to the slack late; beats keep their time."""
    delivered: list[tuple[Ms, float, AnyEvent]] = []
    for event in events:
        if isinstance(event, Beat):
            delivered.append((event.arrived_at, 0.0, event))
        else:
            delivered += [(event.arrived_at + random.randint(0, slack), random.random(), event) for _ in range(2)]
    return [event for _, _, event in sorted(delivered, key=lambda d: d[:2])]


def ends(said: list[Outcome], partition: Partition, policy: Policy) -> tuple[dict[str, object], dict[str, Profile]]:
    """What everything comes to: the final assessment of each challenge, and each profile once all is sealed.

    A challenge without a decision is one that ended clear and unused.
    """
    final: dict[str, object] = {}
    for d in said:
        if isinstance(d, Decision):
            final[f"{d.account_id}|{d.otp_id}"] = d
    profiles = {}
    for account in partition.accounts():
        timeline = partition.timeline(account)
        assert timeline is not None
        timeline, _ = partition.detector.fire(timeline, timeline.now + LONG_AFTER_MS)
        assert not timeline.recent
        assert not timeline.tracks
        profiles[account] = msgspec.structs.replace(timeline.profile, revision=0)  # counts the steps that led here
    return {
        key: (d.stage, d.level, round(d.probability, 6), d.incident_id, d.finding_uid)
        for key, d in final.items()
        if isinstance(d, Decision) and not (d.level == "clear" and d.stage in ("before_entry", "near_miss"))
    }, profiles


# --- recorded and replayed


@pytest.mark.parametrize("story", STORIES)
def test_recorded_events_say_the_same_bytes(story: Story) -> None:
    run = played(story.name)
    recorded = [decode_event(encode_event(event)) for event in run.events]
    assert recorded == run.events
    said, partition = refolded(recorded, story.rules)
    assert bytes_of(said) == bytes_of(outcomes(run))
    assert state_of(partition) == state_of(run.partition)
