"""Is kept state read by later code? State of version 1 as it was recorded once, and what must be refused."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.core import timeline as timelines
from pipeline.core.errors import UnsupportedState
from pipeline.core.outcome import Finding, Outcome
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import LineState, Router
from pipeline.core.state_words import WORDS
from pipeline.core.timeline import STATE_VERSION, Timeline
from pipeline.wire.codec import decode_event, decode_line_event

# Written by the code of version 1: the state of seven simulated accounts, some under attack, in the middle of what they live through;
# the clock beside it; and all their events and beats, before and after.
TRACKS, PROFILE = map(Timeline.__struct_fields__.index, ("tracks", "profile"))
RECORDED = Path(__file__).parent / "states" / "version_1.jsonl"


def states_of(version: int) -> dict[str, bytes]:
    """What the code of a version wrote of the recorded accounts."""
    lines = map(json.loads, (RECORDED.parent / f"version_{version}.jsonl").read_text().splitlines())
    return {line["account"]: base64.b64decode(line["state"]) for line in lines if "state" in line}


def recorded() -> tuple[dict[str, bytes], bytes, list[tuple[int, Any]]]:
    clock, events = b"", []
    for line in map(json.loads, RECORDED.read_text().splitlines()):
        if "clock" in line:
            clock = base64.b64decode(line["clock"])
        elif "event" in line:
            events.append((line["offset"], decode_event(json.dumps(line["event"]).encode())))
    return states_of(1), clock, events


def test_state_of_version_1_is_read_as_it_was_written() -> None:
    states, _, _ = recorded()
    assert len(states) == 7
    for account, raw in states.items():
        assert timelines.read_head(raw).version == 1
        found, written = msgspec.to_builtins(timelines.decode(raw)), msgspec.msgpack.decode(raw)
        assert found[3] == written[3] == account
        assert found[len(written) :] == msgspec.to_builtins(Timeline())[len(written) :], "what has been appended since is not there yet"
        assert all(len(track.pop()) == 0 for track in found[TRACKS]), "nobody said then whom a challenge met"
        assert len(found[PROFILE].pop()) == 0, "and verdicts were not remembered"
        for finding in _findings(found):
            assert (finding.pop("suppressed"), finding.pop("benign_if")) == (None, ())
        assert msgspec.msgpack.encode(found[1 : len(written)]) == msgspec.msgpack.encode(written[1:])


def _findings(node: Any) -> list[dict[str, Any]]:
    """Every finding in a decoded timeline."""
    if isinstance(node, dict):
        return [node] if "part_of" in node else [f for part in node.values() for f in _findings(part)]
    return [f for part in node for f in _findings(part)] if isinstance(node, list | tuple) else []


def test_state_of_version_1_goes_on() -> None:
    """Restored from version 1, from the same in this version, and never stopped: one partition goes on like the other."""
    states, clock, events = recorded()
    first, second, whole = Partition(Policy()), Partition(Policy()), Partition(Policy())
    for account, raw in states.items():
        first.restore(account, raw)
        second.restore(account, timelines.encode(timelines.decode(raw)))
    first.restore_clock(clock)
    second.restore_clock(clock)
    said: list[Outcome] = []
    for offset, event in events:
        whole.fold(offset, event)
        outcomes = first.fold(offset, event)
        assert outcomes == second.fold(offset, event)
        said += outcomes
    assert sum(isinstance(outcome, Finding) for outcome in said) > 3
    assert first.now == second.now == whole.now
    for account, raw in states.items():
        kept, other, expected = first.timeline(account), second.timeline(account), whole.timeline(account)
        assert kept is not None
        assert expected is not None
        assert kept == other
        assert kept.offset == expected.offset >= timelines.read_head(raw).offset
        assert [event.event_id for event in kept.recent] == [event.event_id for event in expected.recent]
        assert kept.profile.links == expected.profile.links
    assert first.changes() == second.changes()
    assert {timelines.read_head(raw).version for raw in first.changes().values()} <= {STATE_VERSION}


def test_state_of_version_2_is_read_as_that_of_version_1_which_its_code_had_read() -> None:
    """Written by the code of version 2 from the same accounts: packed, and nothing kept beside it."""
    states, packed = states_of(1), states_of(2)
    assert packed.keys() == states.keys()
    for account, raw in packed.items():
        assert timelines.read_head(raw).version == 2
        assert timelines.read_marks(raw) == timelines.Marks()
        assert timelines.decode(raw) == timelines.decode(states[account])


def test_what_was_touched_is_written_in_this_version_and_packed() -> None:
    states, _, events = recorded()
    for account, raw in states.items():
        old = timelines.decode(raw)
        assert old.account_id == account
        new = timelines.encode(old)
        assert timelines.read_head(new) == timelines.Head(STATE_VERSION, old.offset, old.deadline)
        assert timelines.decode(new) == old
        assert len(new) < 0.6 * len(raw)
    assert len(events) > 500


def test_state_of_a_newer_version_is_refused_with_a_clear_word() -> None:
    newer = msgspec.msgpack.encode([STATE_VERSION + 1, 5, None, "another layout"])
    for read in (timelines.decode, timelines.read_head, lambda raw: Partition(Policy()).restore("a", raw)):
        with pytest.raises(
            UnsupportedState, match=f"version {STATE_VERSION + 1}; this code reads up to {STATE_VERSION}: upgrade the worker"
        ):
            read(newer)
    with pytest.raises(UnsupportedState, match="route state version 99"):
        Router(Policy()).restore("line", msgspec.msgpack.encode([99]))


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_damaged_state_is_refused_and_never_read_as_another(at: float) -> None:
    states, _, _ = recorded()
    for raw in states.values():
        whole = timelines.encode(timelines.decode(raw))
        place = int(len(whole) * at)
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            found = timelines.decode(damaged)
        except UnsupportedState as e:
            assert "damaged" in str(e) or "not its state" in str(e) or "version" in str(e)  # noqa: PT017 (either way is right)
        else:
            assert found == timelines.decode(whole)


def test_a_clock_that_is_damaged_is_refused() -> None:
    _, clock, _ = recorded()
    place = clock.index(b"account-changes")
    for damaged in (b"", b"\xc1", clock[:place] + b"\x91" + clock[place + 1 :], clock[:-1]):
        for fold in (Partition(Policy()), Router(Policy())):
            with pytest.raises(UnsupportedState, match="the clock of a partition is damaged"):
                fold.restore_clock(damaged)


def test_a_line_that_is_damaged_is_refused() -> None:
    router = Router(Policy())
    with pytest.raises(UnsupportedState, match="not its state"):
        router.restore("line", b"\xc1")


def test_route_state_of_version_1_goes_on() -> None:
    """Written by the code of version 1, which kept the last change of each kind: a line with two accounts, a call and three changes."""
    written = list(map(json.loads, (RECORDED.parent / "route_version_1.jsonl").read_text().splitlines()))
    (line,) = (entry["line"] for entry in written if "line" in entry)
    (state,) = (base64.b64decode(entry["state"]) for entry in written if "line" in entry)
    events = [decode_line_event(json.dumps(entry["event"]).encode()) for entry in written if "event" in entry]
    router = Router(Policy())
    router.restore(line, state)
    assert [e for e in events if router.fold(100, e)] == [], "all of it has been told"
    third = msgspec.structs.replace(events[0], event_id="e9", account_id="acc-3", arrived_at=events[-1].arrived_at + 1)  # type: ignore[call-arg]
    told = [type(e).__name__ for e in router.fold(101, third) if e.account_id == "acc-3"]
    assert told == ["LineLinked", "LineChanged", "LineChanged", "CallChanged"]
    assert msgspec.msgpack.decode(router.changes()[line], type=LineState).version == 2


def test_the_words_that_state_is_packed_with_are_frozen() -> None:
    """Other words, and all state of this version is unreadable: then it is another version."""
    assert STATE_VERSION == 3
    assert hashlib.sha256(WORDS).hexdigest() == "efc323a8cedc4dd6f1fa0bd2beb022ba9860c5472aec3cff2c1dac849895e4ac"


def test_a_timeline_knows_its_version_when_it_was_read() -> None:
    states, _, _ = recorded()
    assert {timelines.decode(raw).version for raw in states.values()} == {STATE_VERSION} == {Timeline().version}
