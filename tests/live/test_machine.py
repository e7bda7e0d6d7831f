"""Is every record folded exactly once in effect, whatever happens to workers, broker and log, and in whatever order? A machine that tries.

Hypothesis deals the cards: records arrive (doubled, disordered, broken), workers get partitions, are killed, frozen, woken, ended; their
requests land, fail, land unheard, or long after their sender has died; offsets are committed by workers and set by an operator;
changelogs are compacted. After every step what is durable must be what the plain fold of the log says, and in the end all of it.
"""

import gc
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache

import msgspec
import pytest
from faust.types.tuples import TP
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import AnyEvent, Beat
from pipeline.core.outcome import Late
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.live.changelog import CLOCK, Image
from pipeline.wire.codec import OutcomeEncoder, OutRecord, decode_event, decode_sighting, encode_event
from pipeline.wire.dead_letter import DeadLetters
from tests.examples import examples
from tests.live.simulated import CHANGELOG, SOURCE, Broker, Request, SteppedLoop, Worker, Written
from tests.stories import cast, played

PARTITIONS = 2
SLOTS = 3  # workers at a time
STORIES = ("fraud/v01_classic_robocall", "fraud/r11_hits_two_codes_left_unused", "fraud/closed_as_true_positive", "late/call_told_too_late")
BEFORE_MS, AFTER_MS = 60_000, 120_000  # around the base instant of the stories, where most of them happens
BEATS = 12  # among the events of a script, and again after them
POLICY = Policy()
Told = tuple[str, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]  # topic, key, value, headers


@cache
def script(number: int) -> tuple[bytes, ...]:
    """Encoded events of several stories at once, with beats, as one partition might get them."""
    base = int(cast()["base"].timestamp() * 1000)
    events: list[AnyEvent] = []
    beats: list[Beat] = []
    for name in STORIES[number % 2 :] + STORIES[: number % 2]:
        run = played(name)
        recent = [e for e in run.events if e.arrived_at > base - BEFORE_MS]
        events += [msgspec.structs.replace(e, account_id=f"{number}.{name[-6:]}.{e.account_id}") for e in recent if not isinstance(e, Beat)]
        beats = beats or [e for e in recent if isinstance(e, Beat)]
    during = [b for b in beats if b.arrived_at < base + AFTER_MS]
    after = beats[len(during) :]
    chosen = during[:: max(1, len(during) // BEATS)] + after[:: len(after) // BEATS]
    return tuple(encode_event(e) for e in sorted([*events, *chosen], key=lambda e: e.arrived_at))


class Truth:
    """What the plain fold of one partition's log says: the outputs of each record, and the state after it."""

    def __init__(self, partition: int) -> None:
        self._place = TP(SOURCE, partition)
        self._fold = Partition(POLICY)
        self._encode = OutcomeEncoder("live").encode
        self._letters = DeadLetters("reference")
        self.told: list[list[Told]] = []  # per offset
        self._clocks: list[bytes] = [self._fold.clock()]  # after offset -1, 0, 1, ...
        self._states: dict[str, tuple[list[int], list[bytes]]] = {}  # per entity: the offsets at which it changed, and to what

    def append(self, offset: int, value: bytes) -> None:
        out: list[OutRecord] = []
        try:
            event = decode_event(value)
        except InvalidEvent as e:
            out.append(self._letters.record(*self._place, offset, 0, e.reason, e.detail, b"key", value))
        else:
            for outcome in self._fold.fold(offset, event):
                said = self._encode(outcome)
                if said is not None:
                    out.append(said)
                elif isinstance(outcome, Late):
                    detail = f"event arrived {(outcome.arrived_at - outcome.occurred_at) // 1000} s after it occurred"
                    out.append(self._letters.record(*self._place, offset, 0, "late", detail, b"key", value))
        for entity, state in self._fold.changes().items():
            offsets, states = self._states.setdefault(entity, ([], []))
            offsets.append(offset)
            states.append(state)
        self.told.append([(r.topic, r.key, r.value, tuple(r.headers)) for r in out])
        self._clocks.append(self._fold.clock())

    def clock(self, offset: int) -> bytes:
        """The partition's own state after a record."""
        return self._clocks[offset + 1]

    def state(self, entity: str, offset: int) -> bytes | None:
        """The state of an entity after a record; None before its first."""
        offsets, states = self._states.get(entity, ([], []))
        at = bisect_right(offsets, offset)
        return states[at - 1] if at else None

    def entities(self, offset: int) -> dict[str, bytes]:
        """The state of every entity after a record."""
        return {e: state for e in self._states if (state := self.state(e, offset)) is not None}


LOOPS: list[SteppedLoop] = []  # one per slot, for all runs


class Machine(RuleBasedStateMachine):
    """Three workers of detect, two partitions, one broker."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(PARTITIONS)
        self.broker.appended.append(self.landed)
        self.broker.commits.append(self.committed)
        self.truth = [Truth(p) for p in range(PARTITIONS)]
        self.read = [0] * PARTITIONS  # of each script
        self.workers: list[Worker | None] = [None] * SLOTS
        self.frozen: set[int] = set()
        self.told: dict[Told, int] = {}  # every output that landed, in order
        self.durable = [-1] * PARTITIONS  # the furthest offset that a clock in force ever spoke for
        self.spoken = [0] * PARTITIONS  # offsets below have all their outputs in the log, as was checked
        for p in range(PARTITIONS):
            self.arrive(p, 1, "")
        self.complete(alone=True)  # so that there is state: offsets are believed where there is none

    # --- what must hold, looked at whenever something lands

    def landed(self, place: TP, written: list[Written]) -> None:
        """Outputs are those of the fold, byte for byte; state never speaks for records whose outputs are not durable."""
        if place.topic != CHANGELOG:
            for record in written:
                said = (place.topic, record.key, record.value, record.headers)
                assert any(said in told for truth in self.truth for told in truth.told), f"this was never to be said: {said}"
                self.told.setdefault(said, len(self.told))
            return
        for record in written:
            if record.value is not None:
                self.assert_spoken(place.partition, int.from_bytes(record.value[:8], "big", signed=True), "state is durable")
        self.durable[place.partition] = max(self.durable[place.partition], self.assert_durable(place.partition))

    def assert_spoken(self, partition: int, offset: int, why: str) -> None:
        """All that records up to an offset lead to is in the log."""
        for told in self.truth[partition].told[self.spoken[partition] : offset + 1]:
            assert all(said in self.told for said in told), f"{why} at offset {offset} of {partition}, its outputs are not"
        self.spoken[partition] = max(self.spoken[partition], offset + 1)

    def image(self, partition: int) -> Image:
        """What a restore would read now."""
        image = Image()
        for record in self.broker.log(CHANGELOG, partition).records:
            image.take(record.key or b"", record.value)
        return image

    def assert_durable(self, partition: int) -> int:
        """A restore would find what the fold says, and miss nothing that the clock speaks for; returns the clock's offset."""
        kept, truth = dict(self.image(partition).kept), self.truth[partition]
        clock = kept.pop(CLOCK, None)
        folded = -1 if clock is None else clock.offset
        if clock is not None:
            assert clock.state == truth.clock(folded), f"the clock of {partition} is not that of offset {folded}"
        for entity, one in kept.items():
            assert one.state == truth.state(entity, one.offset), f"{entity} is not as it was at offset {one.offset}"
        for entity, state in truth.entities(folded).items():
            assert entity in kept, f"{entity} is lost, and the clock speaks for offset {folded}"
            assert kept[entity].offset >= folded or kept[entity].state == state, f"{entity} is older than offset {folded}"
        return folded

    def committed(self, partition: int, offset: int) -> None:
        """A worker commits only what is durable, or was until somebody who had read less took over."""
        self.assert_durable(partition)
        folded = self.durable[partition]
        assert offset <= folded + 1, f"{offset} of {partition} is committed, what was ever durable ends at {folded}"
        self.assert_spoken(partition, offset - 1, "it was committed")

    # --- the log

    @rule(p=st.integers(0, PARTITIONS - 1), count=st.integers(1, 12), how=st.sampled_from(["", "", "again", "swapped", "broken"]))
    def arrive(self, p: int, count: int, how: str) -> None:
        """Records arrive: as told, the last one twice, two in disorder, or with one that nobody can read."""
        at = self.read[p]
        values = list(script(p)[at : at + count])
        self.read[p] += len(values)
        if how == "again" and self.truth[p].told:
            values.append(self.broker.log(SOURCE, p).records[-1].value or b"")
        elif how == "swapped":
            values[:2] = values[1::-1]
        elif how == "broken":
            values.insert(1, b"\xc1 is no event")
        for value in values:
            self.truth[p].append(self.broker.log(SOURCE, p).append(b"key", value), value)

    @rule(p=st.integers(0, PARTITIONS - 1), left=st.integers(0, 3), tombstones_too=st.booleans())
    def compact(self, p: int, left: int, tombstones_too: bool) -> None:
        """The changelog is compacted but for its last records: a restore finds the same."""
        before = self.image(p)
        log = self.broker.log(CHANGELOG, p)
        log.compact(log.end - left, tombstones_too)
        assert self.image(p).kept == before.kept
        self.assert_durable(p)

    @rule(p=st.integers(0, PARTITIONS - 1), share=st.floats(0, 1))
    def set_offset(self, p: int, share: float) -> None:
        """An operator sets the committed offset, forward or back: it is not believed."""
        self.broker.committed[p] = round(share * self.broker.log(SOURCE, p).end)

    # --- the group

    def awake(self) -> list[tuple[int, Worker]]:
        return [(slot, w) for slot, w in enumerate(self.workers) if w is not None and slot not in self.frozen]

    @rule(owners=st.tuples(*[st.integers(0, SLOTS - 1)] * PARTITIONS), batch=st.integers(1, 6), more=st.integers(0, SLOTS))
    def rebalance(self, owners: tuple[int, ...], batch: int, more: int) -> None:
        """Workers start where there are none, and those that are awake share the partitions: finish, commit, and a new generation."""
        for slot in range(SLOTS):
            if self.workers[slot] is None and more > 0:
                more -= 1
                self.workers[slot] = Worker(self.broker, LOOPS[slot], batch, POLICY)
        for slot, worker in self.awake():
            task = worker.revoke()
            self.drive(slot, worker, task)
        members = self.awake()
        self.broker.generation += 1
        self.broker.owners = {p: members[owner % len(members)][1] for p, owner in enumerate(owners)} if members else {}
        for slot, worker in members:
            worker.assign({p for p, owner in self.broker.owners.items() if owner is worker}, self.broker.generation)
            self.look(slot)

    def drive(self, slot: int, worker: Worker, task: object) -> None:
        """Answer a worker until something it does is done, or it has failed."""
        for _ in range(500):
            if task.done() or self.workers[slot] is not worker:  # type: ignore[attr-defined]
                return
            requests = self.broker.of(worker)
            if requests:
                self.answer(slot, requests[0])
            else:
                worker.pass_time(1.0)
        raise AssertionError("a worker does not let go of its partitions")

    def answer(self, slot: int, request: Request) -> None:
        self.broker.finish(request)
        request.sender.loop.settle()
        self.look(slot)

    def look(self, slot: int) -> None:
        """A worker that has failed ends."""
        worker = self.workers[slot]
        if worker is not None and worker.error is not None:
            self.bury(slot)

    def bury(self, slot: int) -> None:
        worker = self.workers[slot]
        assert worker is not None
        worker.die()
        self.workers[slot] = None
        self.frozen.discard(slot)
        self.broker.requests = [r for r in self.broker.requests if r.sender is not worker or r.kind in ("produce", "commit")]

    # --- the workers

    @rule(slot=st.integers(0, SLOTS - 1), picks=st.lists(st.integers(0, 5), min_size=1, max_size=12))
    def go_on(self, slot: int, picks: list[int]) -> None:
        """Some of a worker's requests are answered, in some order."""
        for pick in picks:
            worker = self.workers[slot]
            if worker is None or slot in self.frozen:
                return
            requests = self.broker.of(worker)
            if not requests:
                worker.pass_time(0.3)  # a tick
                self.look(slot)
                continue
            self.answer(slot, requests[pick % len(requests)])

    @rule(slot=st.integers(0, SLOTS - 1))
    def commit(self, slot: int) -> None:
        """It is time to commit."""
        worker = self.workers[slot]
        if worker is not None and slot not in self.frozen:
            worker.commit()
            self.look(slot)

    @rule(slot=st.integers(0, SLOTS - 1), seconds=st.sampled_from([0.3, 1.0]))
    def wait(self, slot: int, seconds: float) -> None:
        """Time goes on for a worker."""
        worker = self.workers[slot]
        if worker is not None and slot not in self.frozen:
            worker.pass_time(seconds)
            self.look(slot)

    @rule(slot=st.integers(0, SLOTS - 1))
    def kill(self, slot: int) -> None:
        """A worker is killed; what it has sent may still land."""
        if self.workers[slot] is not None:
            self.bury(slot)

    @rule(slot=st.integers(0, SLOTS - 1))
    def end(self, slot: int) -> None:
        """A worker is told to end: it finishes, commits, and goes."""
        worker = self.workers[slot]
        if worker is not None and slot not in self.frozen:
            self.drive(slot, worker, worker.stop())
            if self.workers[slot] is worker:
                assert worker.error is None
                self.bury(slot)

    @rule(slot=st.integers(0, SLOTS - 1))
    def freeze(self, slot: int) -> None:
        """A worker is frozen; the group goes on without it."""
        if self.workers[slot] is not None:
            self.frozen.add(slot)

    @rule(slot=st.integers(0, SLOTS - 1))
    def thaw(self, slot: int) -> None:
        """It wakes and knows of nothing."""
        self.frozen.discard(slot)

    @rule(slot=st.integers(0, SLOTS - 1), pick=st.integers(0, 5))
    def fail(self, slot: int, pick: int) -> None:
        """A request fails."""
        worker = self.workers[slot]
        if worker is not None and slot not in self.frozen:
            mine = self.broker.of(worker)
            outputs = [r for r in mine if r.kind == "produce" and r.place.topic != CHANGELOG]
            requests = outputs or [r for r in mine if r.kind != "fetch"]  # a consumer fetches again by itself
            if requests:
                worker.fail(requests[pick % len(requests)])
                self.look(slot)

    @precondition(lambda self: any(r.kind == "produce" for r in self.broker.requests))
    @rule(pick=st.integers(0, 5), most=st.integers(1, 4))
    def land(self, pick: int, most: int) -> None:
        """Something that was sent lands, and its sender has not heard of it yet, or is dead or frozen and never will."""
        for _ in range(most):
            senders = list(dict.fromkeys(r.sender for r in self.broker.requests))
            if senders:
                worker = senders[pick % len(senders)]
                for request in self.broker.of(worker):
                    request.land()
                    if worker.dead:
                        self.broker.requests.remove(request)

    # --- the end

    def teardown(self) -> None:
        """Whoever is left does all that is left; late writes land; then one more takes over, and everything is as the fold says."""
        try:
            self.frozen.clear()
            self.complete(alone=False)
            self.complete(alone=True)
            for p, truth in enumerate(self.truth):
                end = len(truth.told) - 1
                assert self.assert_durable(p) == end
                assert {e: k.state for e, k in self.image(p).kept.items() if e != CLOCK} == truth.entities(end)
                self.assert_spoken(p, end, "all is done")
                assert self.broker.committed.get(p, 0) == end + 1
            self.assert_order()
        finally:
            for slot, worker in enumerate(self.workers):
                if worker is not None:
                    self.bury(slot)

    def complete(self, alone: bool) -> None:
        """A new worker gets everything; alone it reads to the end, among others that were woken it may be overtaken."""
        for slot in range(SLOTS):
            if self.workers[slot] is not None and (slot == 0 or alone):
                self.bury(slot)
        for request in list(self.broker.requests):
            if request.sender.dead:
                request.land()
                self.broker.requests.remove(request)
        worker = self.workers[0] = Worker(self.broker, LOOPS[0], 8, POLICY)
        self.broker.generation += 1
        self.broker.owners = dict.fromkeys(range(PARTITIONS), worker)
        worker.assign(set(range(PARTITIONS)), self.broker.generation)
        for turn in range(1_000 if alone else 100):
            if all(self.broker.committed.get(p, 0) >= len(t.told) == self.assert_durable(p) + 1 for p, t in enumerate(self.truth)):
                return
            senders = [w for w in self.workers if w is not None and self.broker.of(w)]
            if senders:
                sender = senders[turn % len(senders)]
                self.answer(self.workers.index(sender), self.broker.of(sender)[0])
            if not turn % 10 and self.workers[0] is worker:
                worker.commit()
                worker.pass_time(0.3)
                self.look(0)
        assert not alone, f"it does not get to the end: {worker.error!r}"

    def assert_order(self) -> None:
        """What is said of an account is said in the order of the fold, copies left out."""
        wanted: dict[tuple[str, bytes | None], dict[Told, None]] = {}
        for truth in self.truth:
            for told in truth.told:
                for said in told:
                    wanted.setdefault(_whose(said), {})[said] = None
        found: dict[tuple[str, bytes | None], list[Told]] = {}
        for said in self.told:
            found.setdefault(_whose(said), []).append(said)
        for place, said in found.items():
            if place[0] != "dead-letters":
                assert said == list(wanted[place])


def _whose(said: Told) -> tuple[str, bytes | None]:
    """Topic and account: sightings lie by entity, which accounts of several partitions meet."""
    topic, key, value, _ = said
    return (topic, decode_sighting(value).account_id.encode()) if topic == "sightings" and value is not None else (topic, key)


@pytest.fixture
def loops() -> Iterator[None]:
    """An event loop per slot. What exists before is left out of the collections that Faust asks for whenever it waits."""
    LOOPS[:] = [SteppedLoop() for _ in range(SLOTS)]
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        for loop in LOOPS:
            loop.close()


COMMON = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.mark.usefixtures("loops")
def test_every_record_is_folded_once_whatever_happens() -> None:
    """The same runs every time; shrinking would take minutes."""
    fast = settings(COMMON, max_examples=examples(300), stateful_step_count=40, derandomize=True, phases=[Phase.generate])
    run_state_machine_as_test(Machine, settings=fast)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("thousand", range(1, 11))
def test_every_record_is_folded_once_whatever_happens_many_times(thousand: int) -> None:
    """Other runs every time, and longer ones; ten thousand in all, in parts that say how far it has come."""
    run_state_machine_as_test(Machine, settings=settings(COMMON, max_examples=1000, stateful_step_count=80))
