"""Parity: what live wrote is compared with a second fold. Every way of being wrong is found, and what a crash repeats is not wrong."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path

import msgspec
import pytest

from pipeline.core.beats import BeatMaker
from pipeline.core.errors import InvalidEvent, UnsupportedState
from pipeline.core.events import FEEDS, AnyEvent, Keyless
from pipeline.core.gatherer import Gatherer
from pipeline.core.outcome import Sighting
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy, policy_from
from pipeline.core.route import Router
from pipeline.core.timeline import STATE_VERSION, decode, encode
from pipeline.live.changelog import CLOCK, Image, decode_key, encode_key, encode_value
from pipeline.live.mismatch import Mismatch, Share, What, build_in, build_of
from pipeline.live.parity import Parity
from pipeline.simulate.run import simulate
from pipeline.wire.codec import OutcomeEncoder, OutRecord, decode_event, encode_event
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import read_log
from pipeline.wire.pseudonym import Pseudonyms

POLICY = Policy()
ALL = Share(1.0)


class Event(msgspec.Struct, frozen=True):
    """A record of ``events``."""

    at: int
    key: bytes | None
    value: bytes


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """One partition of ``events`` with beats, two hours of a small bank, with many attacks."""
    out = tmp_path_factory.mktemp("simulated")
    simulate(5, 500, 2.0, out, history_days=0, prior=0.5)
    ingest, router, beats = Ingest(POLICY, Pseudonyms.for_demo()), Router(POLICY), BeatMaker(dict.fromkeys(FEEDS, 1))
    found: list[Event] = []
    lines, now = 0, 0

    detect, gatherer, sightings = Partition(POLICY), Gatherer(POLICY), count()

    def add(event: AnyEvent) -> None:
        keyless = isinstance(event, Keyless)
        found.append(Event(now, None if keyless else event.account_id.encode(), encode_event(event)))
        for outcome in detect.fold(len(found), event):
            if isinstance(outcome, Sighting) and (said := gatherer.fold(next(sightings), outcome)) is not None:
                add(said)

    for record in read_log(out / "log.jsonl"):
        now = max(now, record.ts)
        try:
            addressed = ingest.read(record.topic, record.value, record.ts)
        except InvalidEvent:
            continue
        for topic, _, event in addressed:
            if topic == "events":
                add(event)  # type: ignore[arg-type]  # the topic says which union it is
            else:
                lines += 1
                for routed in router.fold(lines, event):  # type: ignore[arg-type]  # as above
                    add(routed)
        for feed in FEEDS:
            beats.arrived(feed, 0, record.ts)
        beat = beats.due(record.ts)
        if beat is not None:
            add(beat)
    for at in range(now + 1000, now + 4_000_000, 20_000):
        for feed in FEEDS:
            beats.arrived(feed, 0, at)
        now = at
        beat = beats.due(at)
        assert beat is not None
        add(beat)
    assert any(b"campaign_seen" in event.value for event in found)
    return found


class Written(msgspec.Struct):
    """What a worker has written, in order."""

    state: list[tuple[bytes, bytes | None]] = []
    outputs: list[OutRecord] = []


class Worker:
    """Folds batches as detect does, and writes down what that leads to."""

    def __init__(self, events: Sequence[Event], written: Written, epoch: int = 1, policy: Policy = POLICY) -> None:
        self.events, self.written, self.epoch = events, written, epoch
        self.fold = Partition(policy)
        self.encode = OutcomeEncoder("live").encode
        self.durable = -1

    def restored(self) -> "Worker":
        """The next owner: from what is written."""
        image = Image()
        for key, value in self.written.state:
            image.take(key, value)
        after = Worker(self.events, self.written, image.top + 1)
        for entity, kept in image.kept.items():
            if entity != CLOCK:
                after.fold.restore(entity, kept.state)
        clock = image.kept.get(CLOCK)
        if clock is not None:
            after.fold.restore_clock(clock.state)
            after.durable = clock.offset
        return after

    def run(self, until: int, batch: int = 7, state: bool = True, clock: bool = True) -> None:
        """Fold up to (not including) ``until``; the last batch may be left without its state, or without its clock."""
        first = self.durable + 1
        while first < until:
            end = min(first + batch, until)
            for offset in range(first, end):
                for outcome in self.fold.fold(offset, decode_event(self.events[offset].value)):
                    out = self.encode(outcome)
                    if out is not None and out.topic in ("alerts", "decisions"):
                        self.written.outputs.append(out)
            last = end >= until
            if state or not last:
                for entity, kept in self.fold.changes().items():
                    self.written.state.append((encode_key(entity, self.epoch), encode_value(end - 1, kept)))
            if (state and clock) or not last:
                self.written.state.append((encode_key(CLOCK, self.epoch), encode_value(end - 1, self.fold.clock())))
                self.durable = end - 1
            first = end


@pytest.fixture(scope="module")
def healthy(events: list[Event]) -> Written:
    """What a worker writes that nothing happens to."""
    written = Written([], [])
    Worker(events, written).run(len(events))
    assert len({out.value for out in written.outputs if out.topic == "alerts"}) > 10
    return written


def compare(
    events: Sequence[Event], written: Written, first: int = 0, cut: bool = False, parity: Parity | None = None, build_since: int = 0
) -> tuple[Parity, list[Mismatch]]:
    """Hand everything over in one round, as the command does."""
    parity = parity or Parity(POLICY, 3, ALL, cut)
    for key, value in written.state:
        parity.changelog(key, value)
    take(parity, written.outputs)
    parity.begin_at(first, events[first].at, build_since, 0)
    fold(parity, events, first)
    return parity, parity.judge()


def take(parity: Parity, outputs: Iterable[OutRecord], first: int = 0) -> None:
    for number, out in enumerate(outputs, first):
        assert out.key is not None
        topic: What = "alerts" if out.topic == "alerts" else "decisions"
        parity.output(topic, out.key, out.value, out.headers, f"{out.topic}-0@{number}")


def fold(parity: Parity, events: Sequence[Event], first: int, until: int | None = None) -> None:
    for offset in range(first, min(len(events), until or len(events))):
        parity.event(offset, events[offset].at, events[offset].key, events[offset].value)


def accounts(events: Iterable[Event]) -> set[str]:
    return {event.key.decode() for event in events if event.key is not None}


def test_a_healthy_worker_has_no_mismatch(events: list[Event], healthy: Written) -> None:
    parity, mismatches = compare(events, healthy)
    assert mismatches == []
    assert parity.accounts == parity.judged == parity.checked["state"] == len(accounts(events))
    assert parity.checked["decisions"] == len({out.value for out in healthy.outputs if out.topic == "decisions"}) > 50
    assert parity.checked["alerts"] == len({out.value for out in healthy.outputs if out.topic == "alerts"})


def test_crashes_repeat_and_are_not_wrong(events: list[Event]) -> None:
    written = Written([], [])
    worker = Worker(events, written)
    stops = range(50, len(events), len(events) // 12)
    for number, stop in enumerate(stops):
        worker.run(stop, state=number % 3 > 0, clock=number % 3 > 1)
        worker = worker.restored()
    worker.run(len(events))
    stale = [(key, value) for key, value in written.state if key.endswith(encode_key("", 1)[1:])][-40:]
    written.state += stale  # a zombie wakes up and writes what it had in hand
    written.outputs += written.outputs[:40]
    assert len(written.outputs) > len({out.value for out in written.outputs})
    assert compare(events, written)[1] == []


def altered(out: OutRecord) -> OutRecord:
    assert out.value is not None
    return out._replace(value=out.value.replace(b'"probability":0.', b'"probability":0.9', 1))


FAULTS: dict[str, tuple[Callable[[Written], None], str, str]] = {}


def fault(what: str, problem: str) -> Callable[[Callable[[Written], None]], Callable[[Written], None]]:
    def register(do: Callable[[Written], None]) -> Callable[[Written], None]:
        FAULTS[do.__name__] = (do, what, problem)
        return do

    return register


def last(written: Written) -> int:
    """The place of the last state of an account that has several."""
    keys = [key for key, _ in written.state]
    return max(i for i, key in enumerate(keys) if key != encode_key(CLOCK, 1) and keys.count(key) > 2)


@fault("decisions", "missing")
def a_decision_is_lost(written: Written) -> None:
    written.outputs.remove(next(out for out in reversed(written.outputs) if out.topic == "decisions"))


@fault("alerts", "missing")
def an_alert_is_lost(written: Written) -> None:
    written.outputs.remove(next(out for out in reversed(written.outputs) if out.topic == "alerts"))


@fault("decisions", "missing")
def a_decision_says_something_else(written: Written) -> None:
    place = next(i for i, out in enumerate(written.outputs) if out.topic == "decisions" and altered(out) != out)
    written.outputs[place] = altered(written.outputs[place])


@fault("alerts", "unexpected")
def an_alert_is_said_twice_with_another_content(written: Written) -> None:
    written.outputs.append(altered(next(out for out in written.outputs if out.topic == "alerts" and altered(out) != out)))


@fault("alerts", "unexpected")
def an_alert_has_other_headers(written: Written) -> None:
    first = next(out for out in written.outputs if out.topic == "alerts")
    written.outputs.append(first._replace(headers=(*first.headers, ("ce_extra", b"1"))))


@fault("state", "different")
def a_state_is_not_written(written: Written) -> None:
    del written.state[last(written)]


@fault("state", "different")
def a_state_says_something_else(written: Written) -> None:
    key, value = written.state[last(written)]
    assert value is not None
    timeline = decode(value[8:])
    timeline.late += 1
    written.state.append((key, value[:8] + encode(timeline)))


@fault("state", "different")
def a_state_is_damaged(written: Written) -> None:
    key, value = written.state[last(written)]
    assert value is not None
    written.state.append((key, value[:8] + value[8:-4] + b"\x00\x01\x02\x03"))


@fault("state", "different")
def a_state_is_no_state(written: Written) -> None:
    key, value = written.state[last(written)]
    assert value is not None
    written.state.append((key, value[:8] + b"\xc1 nonsense"))


@fault("state", "missing")
def an_account_is_gone(written: Written) -> None:
    key, _ = written.state[last(written)]
    written.state.append((key, None))


@fault("state", "unexpected")
def an_account_comes_from_nowhere(written: Written) -> None:
    _, value = written.state[last(written)]
    written.state.append((encode_key("acc-of-nobody", 1), value))


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found_and_told_once(events: list[Event], healthy: Written, name: str) -> None:
    do, what, problem = FAULTS[name]
    written = Written(list(healthy.state), list(healthy.outputs))
    do(written)
    parity, mismatches = compare(events, written)
    assert [(one.what, one.problem) for one in mismatches] == [(what, problem)]
    assert mismatches[0].place.startswith(("events-3@", "alerts-0@", "decisions-0@"))
    assert parity.judge() == []


def test_a_worker_with_another_fold_is_found(events: list[Event]) -> None:
    written = Written([], [])
    weaker = policy_from({"thresholds": {"watch": 0.3, "alert": 0.9}})
    Worker(events, written, policy=weaker).run(len(events))
    disguised = [out._replace(value=(out.value or b"").replace(weaker.id.encode(), POLICY.id.encode())) for out in written.outputs]
    _, mismatches = compare(events, Written(written.state, disguised))
    assert len(mismatches) > 10


@pytest.mark.parametrize("begin", [0.1, 0.5, 0.9])
def test_it_may_begin_with_what_live_has_and_go_on_in_rounds(events: list[Event], begin: float) -> None:
    written = Written([], [])
    worker = Worker(events, written)
    start = int(begin * len(events))
    worker.run(start)
    image = Image()
    for key, value in written.state:
        image.take(key, value)
    parity = Parity(POLICY, 3, ALL)
    parity.begin_with(image)
    known = parity.accounts
    seen_state, seen_outputs, folded = len(written.state), len(written.outputs), start
    for stop in range(start, len(events), 60):
        worker.run(stop, batch=13, clock=stop % 120 > 0)
        if not stop % 7:
            worker = worker.restored()
        for key, value in written.state[seen_state:]:
            parity.changelog(key, value)
        take(parity, written.outputs[seen_outputs:], seen_outputs)
        seen_state, seen_outputs = len(written.state), len(written.outputs)
        fold(parity, events, folded, stop + 25)  # the log is ahead of live
        folded = min(stop + 25, len(events))
        assert parity.judge() == []
    assert parity.checked["state"] > 0
    assert parity.accounts >= known
    key, value = written.state[last_of(written, worker.epoch)]
    assert value is not None
    timeline = decode(value[8:])
    timeline.conflicts += 1
    parity.changelog(key, value[:8] + encode(timeline))
    assert [(one.what, one.problem) for one in parity.judge()] == [("state", "different")]


def last_of(written: Written, epoch: int) -> int:
    """The place of the newest state of the account that was written last and durably."""
    clock = max(i for i, (key, _) in enumerate(written.state) if key.startswith(b"\0"))
    return max(i for i, (key, _) in enumerate(written.state[:clock]) if not key.startswith(b"\0"))


def test_of_a_log_that_is_cut_the_younger_accounts_are_compared(events: list[Event]) -> None:
    half, young = len(events) // 2, Share(0.5)
    later = [e for i, e in enumerate(events) if i >= half or e.key is None or not young(e.key)]
    written = Written([], [])
    Worker(later, written).run(len(later))
    first = half // 4
    parity, mismatches = compare(later, written, first, cut=True)
    assert mismatches == []
    assert set(parity.skipped.values()) == {"cut"}
    assert parity.skipped.keys() <= accounts(later[:first])
    assert parity.judged > 50

    for kind in (True, False):
        wrong = Written(list(written.state), list(written.outputs))
        keys = [key for key, _ in written.state]
        place = max(i for i, k in enumerate(keys) if not k.startswith(b"\0") and young(k[:-9]) == kind and keys.count(k) > 2)
        del wrong.state[place]
        found = compare(later, wrong, first, cut=True)[1]
        assert [one.problem for one in found] == ["different"] * kind, "an account from before the log may differ for that"


def test_what_another_build_has_folded_is_left_out(events: list[Event], healthy: Written) -> None:
    since = events[len(events) // 2].at
    parity, mismatches = compare(events, healthy, build_since=since)
    assert mismatches == []
    assert set(parity.skipped.values()) == {"other_build"}
    assert {account for account, why in parity.skipped.items()} == accounts(e for e in events if e.at < since)
    decision = next(out.value for out in healthy.outputs if out.topic == "decisions")
    assert decision is not None
    assert build_in(decision) == build_of(POLICY)
    assert build_in(decision.replace(POLICY.id.encode(), b"p_other")) != build_of(POLICY)
    assert build_in(b"not JSON") is None


def test_what_live_has_set_aside_is_left_out(events: list[Event], healthy: Written) -> None:
    written = Written(list(healthy.state), list(healthy.outputs))
    a_state_is_not_written(written)
    account, _, _ = healthy.state[last(healthy)][0].decode(errors="replace").partition("\0")
    marked = Written([*written.state, (encode_key("!" + account, 1), encode_value(1, b"a reason"))], written.outputs)
    parity, mismatches = compare(events, marked)
    assert mismatches == []
    assert parity.skipped == {account: "bug"}

    offset = next(i for i, e in enumerate(events) if e.key == account.encode())
    parity = Parity(POLICY, 3, ALL)
    parity.dead_letter(offset, "bug")
    assert compare(events, written, parity=parity)[1] == []
    assert parity.skipped == {account: "bug"}


def test_an_output_that_was_too_large_is_not_missed(events: list[Event], healthy: Written) -> None:
    written = Written(list(healthy.state), list(healthy.outputs))
    an_alert_is_lost(written)
    (lost,) = compare(events, written)[1]
    parity = Parity(POLICY, 3, ALL)
    parity.dead_letter(int(lost.place.partition("@")[2]), "too_large")
    assert compare(events, written, parity=parity)[1] == []


def test_state_of_a_newer_version_is_refused(healthy: Written) -> None:
    key, value = healthy.state[0]
    assert value is not None
    newer = msgspec.msgpack.encode([STATE_VERSION + 1, 5, None, "whatever comes then"])
    with pytest.raises(UnsupportedState, match="upgrade the audit"):
        Parity(POLICY, 0, ALL).changelog(key, value[:8] + newer)


def test_the_sample_is_the_share_asked_for_and_always_the_same() -> None:
    names = [f"acc-{n:06}".encode() for n in range(20_000)]
    one = [name for name in names if Share(0.01)(name)]
    assert 140 <= len(one) <= 260
    assert one == [name for name in names if Share(0.01)(name)]
    assert set(one) <= {name for name in names if Share(0.05)(name)}
    assert all(Share(1.0)(name) for name in names)


def test_a_share_looks_at_no_others(events: list[Event], healthy: Written) -> None:
    some = Share(0.3)
    parity, mismatches = compare(events, healthy, parity=Parity(POLICY, 3, some))
    assert mismatches == []
    assert parity.accounts == len([a for a in accounts(events) if some(a.encode())]) > 5


def test_no_module_of_it_writes_anything() -> None:
    folder = Path(__file__).parents[2] / "pipeline" / "live"
    for name in ("parity", "mismatch", "audit", "audit_topics", "audit_worker"):
        text = (folder / f"{name}.py").read_text()
        assert not {"AIOKafkaProducer", "Outbox(", ".commit("} & {
            word for word in ("AIOKafkaProducer", "Outbox(", ".commit(") if word in text
        }


def test_accounts_silenced_in_a_flood_are_left_out_since_a_sample_cannot_know_of_it(events: list[Event]) -> None:
    """Live has seen the findings of all accounts, the audit those of some: what it cannot know it does not call wrong."""
    policy = policy_from({"flood": {"findings": 2, "window_s": 14_400}, "thresholds": {"watch": 0.001, "alert": 0.002}})
    written = Written([], [])
    Worker(events, written, policy=policy).run(len(events))
    silenced = {out.key for out in written.outputs if out.topic == "alerts" and b'"cause":"flood"' in (out.value or b"")}
    assert len(silenced) > 3
    half = Share(0.5)
    parity, mismatches = compare(events, written, parity=Parity(policy, 3, half))
    assert mismatches == []
    assert parity.judged > 50
    assert parity.checked["alerts"] > 0
    assert {account for account, why in parity.skipped.items() if why == "flood"} == {k.decode() for k in silenced if k and half(k)}

    written = Written([], [])  # and where the audit begins in the middle of the flood
    worker = Worker(events, written, policy=policy)
    worker.run(len(events) // 2)
    image = Image()
    for key, value in written.state:
        entity, _ = decode_key(key)
        if entity == CLOCK or half(entity.encode()):
            image.take(key, value)
    parity = Parity(policy, 3, half)
    parity.begin_with(image)
    begun, outputs = parity.folded + 1, len(written.outputs)
    state = len(written.state)
    worker.run(len(events))
    for key, value in written.state[state:]:
        parity.changelog(key, value)
    take(parity, written.outputs[outputs:], outputs)
    fold(parity, events, begun)
    assert parity.judge() == []
    assert "flood" in parity.skipped.values()
