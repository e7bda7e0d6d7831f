"""Has an owner read all that was written before its claim, whoever wrote at the last moment? The one interleaving, step by step."""

from collections.abc import Callable

import pytest
from faust.types.tuples import TP

from tests.live.simulated import CHANGELOG, SOURCE, Broker, Request, SteppedLoop, Worker
from tests.live.test_machine import POLICY, Truth, script

STATE = TP(CHANGELOG, 0)


def writes_state(request: Request) -> bool:
    return request.kind == "produce" and request.place == STATE


def drive(broker: Broker, worker: Worker, until: Callable[[], bool], but: Callable[[Request], bool] = lambda _: False) -> None:
    """Answer a worker's requests, all ``but`` some, until something is true."""
    for _ in range(200):
        if until():
            return
        request = next((r for r in broker.of(worker) if not but(r)), None)
        if request is not None:
            broker.finish(request)
        worker.pass_time(0.1)
    raise AssertionError("it does not come to that")


def claimed(worker: Worker) -> bool:
    held = worker.stage._held.get(0)
    return held is not None and held.claim is not None and held.claim.done()


@pytest.fixture
def broker() -> Broker:
    """A broker with a dozen events in one partition."""
    broker = Broker(1)
    for value in script(0)[:12]:
        broker.log(SOURCE, 0).append(b"key", value)
    return broker


@pytest.mark.parametrize("written", ["before the claim lands", "after the claim has landed"])
def test_what_a_stale_owner_writes_at_the_last_moment_is_read_before_a_claim_stands(broker: Broker, written: str) -> None:
    loops = SteppedLoop(), SteppedLoop()
    old = Worker(broker, loops[0], 4, POLICY)
    broker.generation, broker.owners = 1, {0: old}
    old.assign({0}, 1)
    drive(broker, old, lambda: claimed(old) and old.stage._held[0].state.folded == 3)
    drive(broker, old, lambda: any(map(writes_state, broker.of(old))), but=writes_state)  # it has folded; its state is on the way
    new = Worker(broker, loops[1], 8, POLICY)
    broker.generation, broker.owners = 2, {0: new}
    new.assign({0}, 2)
    drive(broker, new, lambda: any(map(writes_state, broker.of(new))), but=writes_state)  # it has read; its claim is on the way
    first, second = (old, new) if written.startswith("before") else (new, old)
    drive(broker, first, lambda: not any(map(writes_state, broker.requests)) or not any(map(writes_state, broker.of(first))))
    drive(broker, second, lambda: not any(map(writes_state, broker.of(second))))
    drive(broker, new, lambda: claimed(new))
    state = new.stage._held[0].state
    if written.startswith("before"):
        truth = Truth(0)
        for record in broker.log(SOURCE, 0).records:
            truth.append(record.offset, record.value or b"")
        assert truth.entities(7) != truth.entities(3)
        fold = new.stage._held[0].fold
        assert {e: fold.encoded(e) for e in truth.entities(7)} == truth.entities(7), "it has not read what was written before its claim"
        assert state.epoch > 2, "the claim that was overtaken is spent"
    else:
        assert state.epoch == 2
        assert old.consumer._position == {TP(SOURCE, 0): 4}, "who was overtaken has nothing more to commit"
    for worker in (old, new):
        worker.die()
    for loop in loops:
        loop.close()


def test_what_another_has_owned_in_between_is_not_kept_but_read(broker: Broker) -> None:
    loops = SteppedLoop(), SteppedLoop()
    first, second = (Worker(broker, loop, 4, POLICY) for loop in loops)
    for generation, owner in enumerate((first, second, first), 1):
        broker.generation, broker.owners = generation, {0: owner}
        owner.assign({0}, generation)
        drive(broker, owner, lambda owner=owner: claimed(owner))
        state = owner.stage._held[0].state
        if generation == 1:
            drive(broker, owner, lambda state=state: state.folded == 3)
        elif generation == 2:
            drive(broker, owner, lambda state=state: state.folded == 11)
        else:
            assert state.folded == 11, "it has kept what it knew when it was frozen"
    for worker in (first, second):
        worker.die()
    for loop in loops:
        loop.close()


def test_what_is_durable_already_is_not_written_down_again(broker: Broker) -> None:
    loop = SteppedLoop()
    worker = Worker(broker, loop, 4, POLICY)
    for generation in (1, 2):
        broker.generation, broker.owners = generation, {0: worker}
        broker.committed[0] = 0  # the second time an operator's doing
        worker.assign({0}, generation)
        drive(broker, worker, lambda: claimed(worker))
        end = broker.log(*STATE).end
        drive(broker, worker, lambda: worker.consumer._position.get(TP(SOURCE, 0)) == 12)
        written = broker.log(*STATE).end - end
        assert (written > 0) is (generation == 1)
    worker.die()
    loop.close()


def test_a_send_that_fails_ends_the_worker_before_any_state_speaks_for_it(broker: Broker) -> None:
    for value in script(0)[12:]:
        broker.log(SOURCE, 0).append(b"key", value)
    loop = SteppedLoop()
    worker = Worker(broker, loop, 100, POLICY)
    broker.generation, broker.owners = 1, {0: worker}
    worker.assign({0}, 1)

    def outputs() -> list[Request]:
        return [r for r in broker.of(worker) if r.kind == "produce" and r.place != STATE]

    drive(broker, worker, lambda: bool(outputs()))
    durable = broker.log(*STATE).end
    worker.fail(outputs()[0])
    for request in outputs():  # the other partitions have taken theirs
        broker.finish(request)
        loop.settle()
    assert worker.error is not None
    assert not any(map(writes_state, broker.requests))
    assert broker.log(*STATE).end == durable
    worker.die()
    loop.close()


def test_what_was_committed_ahead_of_the_state_is_read_although_nothing_new_comes(broker: Broker) -> None:
    loops = SteppedLoop(), SteppedLoop()
    for generation, loop in enumerate(loops, 1):
        worker = Worker(broker, loop, 4, POLICY)
        broker.generation, broker.owners = generation, {0: worker}
        worker.assign({0}, generation)
        wanted = 3 if generation == 1 else 11
        drive(broker, worker, lambda: claimed(worker) and worker.stage._held[0].state.folded == wanted)  # noqa: B023 (called here only)
        broker.committed[0] = 12  # an operator's doing
        worker.die()
        broker.requests.clear()
    for loop in loops:
        loop.close()
