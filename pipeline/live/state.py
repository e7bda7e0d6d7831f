"""Whose is the state of a partition, and is it all here? Restores it, claims it for this worker, and writes down what changes.

Stands between a stage's fold and the changelog. A claim is a write that must land right behind what was read: so every owner has
read all that was written before its claim, whatever woke up late. The claim carries the clock, that is the input offset up to
which the state speaks, and the input is read on from there, whatever the consumer group remembers.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from pipeline.live.changelog import CLOCK, ChangelogReader, Image, Kept, encode_key, encode_value
from pipeline.live.outbox import Outbox, Outgoing

log = logging.getLogger(__name__)
GRAVES_AT_ONCE = 1_000  # tombstones written with one batch at most
RESTORED_AT_ONCE = 5_000  # entities handed to the fold before others get a turn
OpenChangelog = Callable[[str, int], ChangelogReader]  # of a topic and partition


class Fold(Protocol):
    """The driver protocol of core.partition.Partition and core.route.Router."""

    def changes(self) -> dict[str, bytes]:
        """Encoded state of every entity that changed since the last call."""

    def clock(self) -> bytes:
        """Encoded state of the partition itself."""

    def restore(self, entity: str, state: bytes, /) -> None:
        """Take an entity's state back."""

    def restore_clock(self, state: bytes, /) -> None:
        """Take the partition's state back."""

    def drop(self) -> None:
        """Forget everything."""

    @property
    def size(self) -> int:
        """Bytes of encoded state held."""


class StateAhead(Exception):
    """The changelog speaks of input that is not there: the input topic was made anew under the same name."""


class OwnedState:
    """The state of one input partition, in memory and in the changelog partition of the same number."""

    def __init__(self, fold: Fold, changelog: str, source: str, partition: int, open_changelog: OpenChangelog, outbox: Outbox) -> None:
        """``changelog`` and ``source``: full topic names."""
        self._fold = fold
        self._changelog, self._source, self._partition = changelog, source, partition
        self._open_changelog, self._outbox = open_changelog, outbox
        self._loaded = False
        self._position = 0  # next changelog offset to read: nobody but us has written below it
        self._epochs: dict[str, int] = {}  # entity -> epoch of its newest durable record
        self._graves: list[bytes] = []  # superseded keys whose successors are durable
        self.epoch = 0
        self.folded = -1  # the input offset that the durable clock speaks for
        self.foreign = 0  # writes of others seen while we owned the partition

    def __len__(self) -> int:
        """How many entities there are."""
        return max(0, len(self._epochs) - 1)  # the clock is one of them

    def __str__(self) -> str:
        return f"{self._source}-{self._partition}"

    async def claim(self, generation: int) -> None:
        """Restore or catch up, then claim the partition under a new epoch. Cancellable.

        Raises UnsupportedState for state of a newer version, StateAhead when the input topic is not the one the state speaks of.
        """
        async with self._open_changelog(self._changelog, self._partition) as reader:
            if not (self._loaded and await self._keep(reader, generation)):
                await self._restore(reader, generation)
            _, end = await reader.bounds(self._source, self._partition)
        if self.folded >= end:
            raise StateAhead(
                f"{self._changelog}-{self._partition} speaks of offset {self.folded} of {self._source}, which ends at {end}: was the"
                " topic made anew? Delete the changelog topic too, or restore the topic."
            )

    async def _keep(self, reader: ChangelogReader, generation: int) -> bool:
        """Catch up from the last contiguous position and claim what is still ours; False when a newer owner has written since."""
        image = Image()
        self._position = await reader.read(self._position, image.take)
        if image.top > self.epoch:
            return False
        return await self._try_claim(max(generation, self.epoch + 1), {})

    def _forget(self) -> None:
        self._fold.drop()
        self._loaded = False
        self._position, self.folded = 0, -1
        self._epochs.clear()
        self._graves.clear()

    async def _restore(self, reader: ChangelogReader, generation: int) -> None:
        self._forget()
        image = Image()
        self._position = await reader.read(0, image.take)
        await self._apply(image.kept)
        epoch = max(generation, image.top + 1)
        while not await self._try_claim(epoch, image.kept):
            log.info("%s-%d: others wrote during the claim of epoch %d, reading on", self._changelog, self._partition, epoch)
            before = dict(image.kept)
            self._position = await reader.read(self._position, image.take)
            await self._apply({e: k for e, k in image.kept.items() if before.get(e) is not k})
            epoch = max(image.top, epoch) + 1
        self._graves += image.superseded
        self._loaded = True

    async def _apply(self, found: dict[str, Kept]) -> None:
        clock = found.get(CLOCK)
        for count, (entity, kept) in enumerate(found.items(), 1):
            if entity != CLOCK:
                self._fold.restore(entity, kept.state)
            self._epochs[entity] = kept.epoch
            if not count % RESTORED_AT_ONCE:
                await asyncio.sleep(0)
        if clock is not None:
            self.folded = clock.offset
            self._fold.restore_clock(clock.state)

    async def _try_claim(self, epoch: int, found: dict[str, Kept]) -> bool:
        """Write the clock under a new epoch; True when it landed right behind what was read, so that nobody wrote in between.

        With it goes the state of entities that are ahead of the clock: a stale write under an epoch between theirs and ours must
        not win over them later.
        """
        ahead = {e: k for e, k in found.items() if e != CLOCK and k.offset > self.folded}
        records = [Outgoing(encode_key(e, epoch), encode_value(k.offset, k.state)) for e, k in ahead.items()]
        records.append(Outgoing(encode_key(CLOCK, epoch), encode_value(self.folded, self._fold.clock())))
        if not await self._append(records):
            return False
        for entity in (*ahead, CLOCK):
            self._supersede(entity, epoch)
        self.epoch = epoch
        return True

    def _supersede(self, entity: str, epoch: int) -> None:
        former = self._epochs.get(entity)
        if former is not None and former != epoch:
            self._graves.append(encode_key(entity, former))
        self._epochs[entity] = epoch

    async def persist(self, offset: int) -> int:
        """Write what the fold has changed and the clock as of input ``offset``, and wait for the broker; returns the bytes written.

        The clock is the last record: it is in the log only if all it speaks for is. Call it after the outputs are durable.
        """
        changes = self._fold.changes()
        epoch = self.epoch
        graves, self._graves = self._graves[:GRAVES_AT_ONCE], self._graves[GRAVES_AT_ONCE:]
        records = [Outgoing(key, None) for key in graves]
        suffix = b"\0" + epoch.to_bytes(8, "big")
        prefix = encode_value(offset, b"")
        records += [Outgoing(entity.encode() + suffix, prefix + state) for entity, state in changes.items()]
        records.append(Outgoing(suffix, prefix + self._fold.clock()))
        if not await self._append(records):
            self.foreign += 1
        self.folded = offset
        epochs = self._epochs
        for entity in changes:
            if epochs.get(entity) != epoch:
                self._supersede(entity, epoch)
        return sum(len(r.value or b"") for r in records)

    async def _append(self, records: list[Outgoing]) -> bool:
        """Write to the changelog; did all of it land right behind what we have read? Only then does the position advance."""
        contiguous = True
        for offset, count in await self._outbox.append(self._changelog, self._partition, records):
            if offset == self._position:
                self._position += count
            else:
                contiguous = False
        return contiguous
