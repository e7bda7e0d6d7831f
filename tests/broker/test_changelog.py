"""Does the state of a partition have one owner? Claims, restores and stale writes against the changelog on a real broker."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest

from pipeline.live.changelog import CLOCK, ChangelogReader, Image, decode_key, encode_key, encode_value
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.live.state import Overtaken, OwnedState, StateAhead
from tests.broker.harness import Deployment

pytestmark = pytest.mark.broker


class Counts:
    """A fold that counts: per key how many records, and the offset of the last one. The same protocol as the product's folds."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, int]] = {}
        self._dirty: set[str] = set()
        self.offset = -1

    def fold(self, offset: int, key: str) -> None:
        self.offset = max(self.offset, offset)
        count, last = self.values.get(key, (0, -1))
        if offset > last:
            self.values[key] = (count + 1, offset)
            self._dirty.add(key)

    def changes(self) -> dict[str, bytes]:
        changed = {key: b"%d %d" % self.values[key] for key in sorted(self._dirty)}
        self._dirty.clear()
        return changed

    def clock(self) -> bytes:
        return b"%d" % self.offset

    def restore(self, entity: str, state: bytes, /) -> None:
        count, last = state.split()
        self.values[entity] = (int(count), int(last))

    def restore_clock(self, state: bytes, /) -> None:
        self.offset = int(state)

    def forget(self, entity: str, /) -> None:
        self.values.pop(entity, None)

    def encoded(self, entity: str, /) -> bytes | None:
        return b"%d %d" % self.values[entity] if entity in self.values else None

    def drop(self) -> None:
        self.__init__()  # type: ignore[misc]


class Bench:
    """One changelog partition, and as many would-be owners of it as a test wants."""

    def __init__(self, live: Deployment, outbox: Outbox) -> None:
        self.live, self.outbox = live, outbox
        self.topic = live.prefix + "detect-state"

    def owner(self) -> tuple[Counts, OwnedState]:
        fold = Counts()
        open_changelog = partial(ChangelogReader, {"bootstrap_servers": self.live.bootstrap})
        return fold, OwnedState(fold, self.topic, self.live.prefix + "events", 0, open_changelog, self.outbox)

    async def image(self) -> Image:
        image = Image()
        async with ChangelogReader({"bootstrap_servers": self.live.bootstrap}, self.topic, 0) as reader:
            await reader.read(0, image.take)
        return image


Body = Callable[[Bench], Awaitable[None]]


def run(live: Deployment, body: Body) -> None:
    live.append("events", [Outgoing(None, b"x")] * 1000)  # so that offsets up to 999 are there

    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        async with Outbox({"bootstrap_servers": live.bootstrap}) as outbox:
            yield Bench(live, outbox)

    async def main() -> None:
        async with bench() as made:
            await body(made)

    asyncio.run(main())


def feed(fold: Counts, offsets: range, keys: int = 7) -> None:
    for offset in offsets:
        fold.fold(offset, f"k{offset % keys}")


def test_what_is_persisted_is_restored(deploy: Callable[..., Deployment]) -> None:
    async def body(bench: Bench) -> None:
        fold, state = bench.owner()
        await state.claim(1)
        feed(fold, range(100))
        await state.persist(99)
        other, restored = bench.owner()
        await restored.claim(2)
        assert other.values == fold.values
        assert (restored.folded, other.offset, restored.epoch) == (99, 99, 2)
        assert len(restored) == 7

    run(deploy(partitions=1), body)


def test_a_stale_owner_that_writes_late_wins_nothing(deploy: Callable[..., Deployment]) -> None:
    async def body(bench: Bench) -> None:
        stale, old = bench.owner()
        await old.claim(1)
        feed(stale, range(50))
        await old.persist(49)
        fold, new = bench.owner()
        await new.claim(2)
        feed(fold, range(50, 200))
        await new.persist(199)
        feed(stale, range(50, 120))  # it was paused, wakes, and writes what it has folded
        with pytest.raises(Overtaken, match="claimed under epoch 2, ours is 1"):
            await old.persist(119)
        assert old.foreign == 1
        assert new.foreign == 0
        third, state = bench.owner()
        await state.claim(3)
        assert third.values == fold.values
        assert state.folded == 199
        await old.claim(4)  # the partition comes back to it: what it has in memory is of long ago
        assert stale.values == fold.values
        assert old.folded == 199

    run(deploy(partitions=1), body)


def test_a_stale_write_between_the_read_and_the_claim_is_read_before_the_claim_stands(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim must land right behind what was read; here somebody writes just before it, twice."""

    async def body(bench: Bench) -> None:
        stale, old = bench.owner()
        await old.claim(1)
        fold, new = bench.owner()
        read, times = ChangelogReader.read, []

        async def read_and_be_overtaken(self: ChangelogReader, position: int, take: Any) -> int:
            end = await read(self, position, take)
            if len(times) < 2:
                times.append(end)
                feed(stale, range(len(times) * 10))
                with suppress(Overtaken):  # the second time it learns of the claim
                    await old.persist(len(times) * 10 - 1)
            return end

        monkeypatch.setattr(ChangelogReader, "read", read_and_be_overtaken)
        await new.claim(2)
        assert len(times) == 2
        assert new.epoch > 2, "the claims that were overtaken are spent"
        feed(fold, range(new.folded + 1, 20))  # it reads on from its own clock
        assert fold.values == stale.values

    run(deploy(partitions=1), body)


def test_two_that_claim_at_once_end_up_with_epochs_of_their_own(deploy: Callable[..., Deployment]) -> None:
    async def body(bench: Bench) -> None:
        owners = [bench.owner() for _ in range(4)]
        await asyncio.gather(*(state.claim(5) for _, state in owners))
        assert len({state.epoch for _, state in owners}) == 4

    run(deploy(partitions=1), body)


def test_a_partition_kept_over_a_rebalance_is_not_read_again_unless_somebody_else_owned_it(deploy: Callable[..., Deployment]) -> None:
    async def body(bench: Bench) -> None:
        fold, state = bench.owner()
        await state.claim(1)
        feed(fold, range(100))
        await state.persist(99)
        fold.values["only in memory"] = (1, 1)
        await state.claim(2)
        assert "only in memory" in fold.values, "it was ours all the time: nothing to read"
        _, other = bench.owner()
        await other.claim(3)
        await state.claim(4)
        assert "only in memory" not in fold.values
        assert state.epoch == 4

    run(deploy(partitions=1), body)


def test_entities_ahead_of_the_clock_are_kept_under_the_new_epoch(deploy: Callable[..., Deployment]) -> None:
    """A stale owner got further with an entity than the clock says; a third, in between, must not undo it later."""

    async def body(bench: Bench) -> None:
        ahead = [
            Outgoing(encode_key(CLOCK, 2), encode_value(10, b"10")),
            Outgoing(encode_key("k", 1), encode_value(50, b"6 50")),
        ]
        await bench.outbox.append(bench.topic, 0, ahead)
        fold, state = bench.owner()
        await state.claim(3)
        fold.fold(20, "other")
        await state.persist(20)
        late = [Outgoing(encode_key("k", 2), encode_value(45, b"5 45"))]
        await bench.outbox.append(bench.topic, 0, late)
        last, restored = bench.owner()
        await restored.claim(4)
        assert fold.values == last.values == {"k": (6, 50), "other": (1, 20)}
        assert restored.folded == 20

    run(deploy(partitions=1), body)


def test_superseded_epochs_get_tombstones_once_the_new_record_is_durable(deploy: Callable[..., Deployment]) -> None:
    async def body(bench: Bench) -> None:
        fold, state = bench.owner()
        await state.claim(1)
        feed(fold, range(70))
        await state.persist(69)
        fold, state = bench.owner()
        await state.claim(2)
        feed(fold, range(70, 140))
        await state.persist(139)
        assert encode_key("k1", 1) in (await bench.image()).superseded
        await state.persist(140)  # tombstones go with the batch after
        image = await bench.image()
        assert not image.superseded
        assert {kept.epoch for kept in image.kept.values()} == {2}

    run(deploy(partitions=1), body)


@pytest.mark.slow
def test_a_compacted_changelog_restores_to_its_end(deploy: Callable[..., Deployment]) -> None:
    """Compaction removes the last records before the end too: a restore that counts records would wait for ever."""

    async def body(bench: Bench) -> None:
        fold, state = bench.owner()
        await state.claim(1)
        for start in range(0, 1000, 50):
            feed(fold, range(start, start + 50))
            await state.persist(start + 49)
            await asyncio.sleep(0.3)
        until = time.monotonic() + 120
        while True:
            left, end = await _log(bench)
            if left < end:
                break
            assert time.monotonic() < until, f"the broker has compacted nothing: all {end} records are there"
            await asyncio.sleep(1)
        other, restored = bench.owner()
        await asyncio.wait_for(restored.claim(2), 20)
        assert other.values == fold.values

    run(deploy(partitions=1), body)


async def _log(bench: Bench) -> tuple[int, int]:
    """How many records are left of how many offsets."""
    left: list[bytes] = []
    async with ChangelogReader({"bootstrap_servers": bench.live.bootstrap}, bench.topic, 0) as reader:
        end = await reader.read(0, lambda key, _: left.append(key))
    return len(left), end


def test_a_claim_can_be_cancelled_and_made_again(deploy: Callable[..., Deployment]) -> None:
    async def body(bench: Bench) -> None:
        fold, state = bench.owner()
        await state.claim(1)
        feed(fold, range(500), keys=100)
        await state.persist(499)
        for pause in (0.0, 0.01, 0.03, 0.06, 0.1):
            other, restored = bench.owner()
            task = asyncio.create_task(restored.claim(2))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
            await restored.claim(3)
            assert other.values == fold.values
            assert restored.folded == 499

    run(deploy(partitions=1), body)


def test_state_of_an_input_topic_that_was_made_anew_is_refused(deploy: Callable[..., Deployment]) -> None:
    async def body(bench: Bench) -> None:
        await bench.outbox.append(bench.topic, 0, [Outgoing(encode_key(CLOCK, 1), encode_value(5000, b"5000"))])
        _, state = bench.owner()
        with pytest.raises(StateAhead, match="speaks of offset 5000"):
            await state.claim(2)

    run(deploy(partitions=1), body)


def test_keys_and_values_are_read_back() -> None:
    assert decode_key(encode_key("a\0b", 7)) == ("a\0b", 7)
    for key in (b"", b"short", b"no zero where it should be!"):
        with pytest.raises(ValueError, match="not a changelog key"):
            decode_key(key)
