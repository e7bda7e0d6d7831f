"""Whose is the state of a partition, and is it all here? Restores it, claims it for this worker, and writes down what changes.

Stands between a stage's fold and the changelog. A claim is a write that must land right behind what was read: so every owner has
read all that was written before its claim, whatever woke up late. The claim carries the clock, that is the input offset up to
which the state speaks, and the input is read on from there, whatever the consumer group remembers.
"""

import logging
from collections.abc import Callable
from typing import Protocol

from pipeline.live.changelog import CLOCK, ChangelogReader, Image, encode_key, encode_value
from pipeline.live.outbox import Outbox, Outgoing

log = logging.getLogger(__name__)
GRAVES_AT_ONCE = 1_000  # tombstones written with one batch at most
RESTORED_AT_ONCE = 2_000  # entities handed to the fold at a time, so that their states are not held twice
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

    def forget(self, entity: str, /) -> None:
        """Forget an entity: its state was taken away."""

    def encoded(self, entity: str, /) -> bytes | None:
        """Encoded state of an entity; None of one that is not known."""

    def drop(self) -> None:
        """Forget everything."""

    @property
    def size(self) -> int:
        """Bytes of encoded state held."""


class StateAhead(Exception):
    """The changelog speaks of input that is not there: the input topic was made anew under the same name."""


class StateMissing(Exception):
    """Input has been read and committed, and nothing is kept of it: the changelog was deleted, or is another one."""


class Overtaken(Exception):
    """Somebody has claimed the partition since: what is written under an older epoch is not believed."""


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
        self._ahead: dict[str, int] = {}  # entity -> offset of its state, of those restored beyond the clock and not written since
        self.epoch = 0
        self.folded = -1  # the input offset that the durable clock speaks for
        self.foreign = 0  # writes of others seen while we owned the partition

    def __len__(self) -> int:
        """How many entities there are, those counted twice that are set aside."""
        return max(0, len(self._epochs) - 1)  # the clock is one of them

    def __str__(self) -> str:
        return f"{self._source}-{self._partition}"

    async def claim(self, generation: int, tell: Callable[[int], None] = lambda records: None) -> None:
        """Restore or catch up, then claim the partition under a new epoch. Cancellable.

        ``tell`` is called with how many records were read, once for each fetch that had some.
        Raises UnsupportedState for state of a newer version, StateAhead when the input topic is not the one the state speaks of.
        """
        async with self._open_changelog(self._changelog, self._partition) as reader:
            reader.tell = tell
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
        return await self._try_claim(max(generation, self.epoch + 1))

    def _forget(self) -> None:
        self._fold.drop()
        self._loaded = False
        self._position, self.folded = 0, -1
        self._epochs.clear()
        self._graves.clear()
        self._ahead.clear()

    async def _restore(self, reader: ChangelogReader, generation: int) -> None:
        self._forget()
        image = Image()

        def take(key: bytes, value: bytes | None) -> None:
            image.take(key, value)
            if image.unread() >= RESTORED_AT_ONCE:
                self._load(image)

        self._position = await reader.read(0, take)
        self._take_in(image)
        epoch = max(generation, image.top + 1)
        while not await self._try_claim(epoch):
            log.info("%s-%d: others wrote during the claim of epoch %d, reading on", self._changelog, self._partition, epoch)
            self._position = await reader.read(self._position, take)
            self._take_in(image)
            epoch = max(image.top, epoch) + 1
        self._graves += image.superseded
        self._ahead = {e: k.offset for e, k in image.kept.items() if e != CLOCK and k.offset > self.folded}
        self._loaded = True

    def _load(self, image: Image) -> None:
        """Hand to the fold what the image has learned."""
        epochs, restore = self._epochs, self._fold.restore
        same: dict[int, int] = {}  # one object per epoch, not per entity
        for entity, kept in image.news():
            if kept is None:
                self._fold.forget(entity)
                epochs.pop(entity, None)
                continue
            if entity != CLOCK:
                restore(entity, kept.state)
            epochs[entity] = same.setdefault(kept.epoch, kept.epoch)

    def _take_in(self, image: Image) -> None:
        self._load(image)
        clock = image.kept.get(CLOCK)
        if clock is not None:
            self.folded = clock.offset
            self._fold.restore_clock(clock.state)

    async def _try_claim(self, epoch: int) -> bool:
        """Write the clock under a new epoch; True when it landed right behind what was read, so that nobody wrote in between.

        The clock alone: a claim that fails or breaks off leaves no state behind that would be believed beside a later clock.
        """
        if not await self._append([Outgoing(encode_key(CLOCK, epoch), encode_value(self.folded, self._fold.clock()))]):
            return False  # what it says is in force all the same: older than what was written in between, so that is folded again
        self._supersede(CLOCK, epoch)
        self.epoch = epoch
        return True

    def _supersede(self, entity: str, epoch: int) -> None:
        former = self._epochs.get(entity)
        if former is not None and former != epoch:
            self._graves.append(encode_key(entity, former))
        self._epochs[entity] = epoch

    async def persist(self, offset: int) -> int:
        """Write what the fold has changed and the clock as of input ``offset``, and wait for the broker; returns the bytes written.

        The clock is the last record: it is in the log only if all it speaks for is. Call it after the outputs are durable. With the
        first clock after a claim goes the state of entities that were ahead of it: a stale write under an epoch between theirs and
        ours must not win over them later. Raises Overtaken when the partition was claimed by another meanwhile.
        """
        changes = self._fold.changes()
        ahead, self._ahead = {e: at for e, at in self._ahead.items() if e not in changes}, {}
        epoch = self.epoch
        graves, self._graves = self._graves[:GRAVES_AT_ONCE], self._graves[GRAVES_AT_ONCE:]
        records = [Outgoing(key, None) for key in graves]
        suffix = b"\0" + epoch.to_bytes(8, "big")
        prefix = encode_value(offset, b"")
        records += [Outgoing(entity.encode() + suffix, prefix + state) for entity, state in changes.items()]
        records += [Outgoing(e.encode() + suffix, encode_value(at, self._fold.encoded(e) or b"")) for e, at in ahead.items()]
        records.append(Outgoing(suffix, prefix + self._fold.clock()))
        if not await self._append(records):
            self.foreign += 1
            await self._require_newest()
        self.folded = offset
        epochs = self._epochs
        for entity in (*changes, *ahead):
            if epochs.get(entity) != epoch:
                self._supersede(entity, epoch)
        return sum(len(r.value or b"") for r in records)

    async def _require_newest(self) -> None:
        """Read what others wrote since: a stale owner is passed over, one that is newer than we are has overtaken us."""
        image = Image()
        async with self._open_changelog(self._changelog, self._partition) as reader:
            self._position = await reader.read(self._position, image.take)
        self._loaded = image.top <= self.epoch  # else memory is behind: what was read here is nowhere, and the next claim reads all
        if image.top > self.epoch:
            raise Overtaken(f"{self} was claimed under epoch {image.top}, ours is {self.epoch}")

    async def _append(self, records: list[Outgoing]) -> bool:
        """Write to the changelog; did all of it land right behind what we have read? Only then does the position advance."""
        contiguous = True
        for offset, count in await self._outbox.append(self._changelog, self._partition, records):
            if offset == self._position:
                self._position += count
            else:
                contiguous = False
        return contiguous
