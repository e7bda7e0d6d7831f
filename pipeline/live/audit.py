"""Do the workers keep their word? Reads what they wrote and what the log says, and has live.parity compare a sample of the accounts.

``audit_once`` looks at the whole log that is kept, once, for an operator. ``Audit`` goes with the traffic from live's state of now on, as a
worker off the hot path. Both read without a group and commit nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from pipeline.core.champion import named_by
from pipeline.core.events import Ms
from pipeline.core.policy import Policy
from pipeline.live.audit_topics import Log, open_log
from pipeline.live.changelog import CLOCK, Image, decode_key
from pipeline.live.mismatch import OUTPUTS, Build, Mismatch, Share, account_in, build_in, build_of
from pipeline.live.models import LiveShelf, Written, named_in, shelf_of
from pipeline.live.parity import Parity
from pipeline.reach import reach, refused
from pipeline.settings import Settings
from pipeline.wire.dead_letter import parse

LETTERS: Final = "dead-letters"
MARGIN_MS: Final = 600_000  # clocks of brokers and producers differ by less
Progress = Callable[[str, int], None]  # what is being read, records of it so far


class Overtaken(OSError):
    """Records went while they were read."""


class OtherBuild(Exception):
    """Live decides by another policy, model or version than this process: their folds cannot be compared."""

    def __init__(self, theirs: Build) -> None:
        super().__init__(f"detect runs policy {theirs.policy_id}, model {theirs.model_id}, version {theirs.version}")


class Report(msgspec.Struct, frozen=True):
    """What an audit has found."""

    share: float
    records: int  # of ``events``
    accounts: int
    compared: int
    skipped: dict[str, int]
    checked: dict[str, int]
    mismatches: tuple[Mismatch, ...]


async def equip(models: LiveShelf | None, parity: Parity, records: Iterable[Written] = ()) -> None:
    """Have the models there that the second fold of these records needs. Raises ModelMissing."""
    wanted = named_in(records) | (set() if parity.fold.equipped else set(named_by(parity.fold.activation)))
    if wanted and models is not None:
        await models.load(wanted)
    if not parity.fold.equipped:
        parity.fold.equip()


async def take_outputs(kafka: Log, parities: Sequence[Parity], counts_from: dict[tuple[str, int], int], foreign: "Foreign") -> None:
    """Read the outputs to their end and hand them to the partitions of their accounts, and before them the dead letters of events."""
    source = kafka.prefix + "events"
    async for records in kafka.to_the_end(LETTERS):
        for record in records:
            try:
                letter = parse(record.headers, record.key, record.value)
            except ValueError:
                continue  # `offhook dead-letters show` says so
            if letter.topic == source and letter.partition < len(parities):
                parities[letter.partition].dead_letter(letter.offset, letter.reason)
    for topic in OUTPUTS:
        async for records in kafka.to_the_end(topic):
            for record in records:
                if topic == "decisions" and record.value is not None and record.timestamp >= foreign.after:
                    foreign.look(record.partition, record.timestamp, record.value)
                if record.key is not None:
                    parities[kafka.partition(record.key)].output(
                        topic,
                        record.key,
                        record.value,
                        tuple(record.headers),
                        f"{topic}-{record.partition}@{record.offset}",
                        record.offset >= counts_from.get((topic, record.partition), 0),
                    )


class Foreign:
    """Looks for decisions of another build, and for when the last of them was followed by one of ours."""

    def __init__(self, ours: Build) -> None:
        self.after: Ms = 0  # decisions of before are of no interest
        self._ours = ours
        self._last: dict[int, Build] = {}
        self._since: dict[int, Ms] = {}

    def look(self, partition: int, at: Ms, decision: bytes) -> None:
        """Look at a record of ``decisions``, in the order of its partition."""
        build = build_in(decision)
        if build is None:
            return
        if build != self._ours:
            self._last[partition] = build
            self._since.pop(partition, None)
        elif partition in self._last:
            self._since.setdefault(partition, at)

    @property
    def since(self) -> Ms:
        """From when on all is ours, as far as the decisions tell (ms); 0 where nothing else was seen."""
        return max((self._since.get(partition, 1 << 62) for partition in self._last), default=0)

    @property
    def build(self) -> Build | None:
        """One that is not ours, if there is any."""
        return next(iter(self._last.values()), None)


def audit_once(settings: Settings, share: float, progress: Progress = lambda what, count: None) -> Report:
    """Compare a share of the accounts (above 0, up to 1) over all of ``events`` that is kept.

    Raises Unreachable, NotThere, Overtaken, and UnsupportedState for state of a newer version.
    """
    connection = settings.connection()
    reach(connection)
    try:
        return asyncio.run(_audit_once(settings, share, progress))
    except OffsetOutOfRangeError:
        raise Overtaken("retention has removed records while they were read: try again, with a smaller share") from None
    except KafkaError as e:
        raise refused(connection, e) from e


async def _audit_once(settings: Settings, share: float, progress: Progress) -> Report:
    policy, models = settings.policy(), shelf_of(settings)
    sampled, foreign = Share(share), Foreign(build_of(policy))
    async with open_log(settings) as kafka:
        events = await kafka.bounds("events")
        parities = [Parity(policy, p, sampled, first > 0, models) for p, (first, _) in sorted(events.items())]
        kafka.seek("events", {p: first for p, (first, _) in events.items()})
        begin = {p: 0 if one is None else one[1] for p, one in (await kafka.since("events", 0)).items()}

        kafka.seek("detect-state", {p: first for p, (first, _) in (await kafka.bounds("detect-state")).items()})
        count = 0
        async for records in kafka.to_the_end("detect-state"):
            for record in records:
                parities[record.partition].changelog(record.key, record.value)
            progress("state", count := count + len(records))

        outputs_since: Ms = 0
        for topic in (*OUTPUTS, LETTERS):
            bounds, from_begin = await kafka.bounds(topic), await kafka.since(topic, max(0, min(begin.values(), default=0) - MARGIN_MS))
            kafka.seek(topic, {p: bounds[p][1] if one is None else one[0] for p, one in from_begin.items()})
            cut = {p for p, (first, _) in bounds.items() if first > 0}
            kept_since = await kafka.since(topic, 0)
            if topic != LETTERS:
                outputs_since = max([outputs_since, *(one[1] if (one := kept_since[p]) is not None else 1 << 62 for p in cut)])
        progress("outputs", 0)
        await take_outputs(kafka, parities, {}, foreign)

        for parity in parities:
            parity.begin_at(events[parity.number][0], begin[parity.number], foreign.since, outputs_since)
        count = 0
        async for records in kafka.to_the_end("events"):
            parity = parities[records[0].partition]
            await equip(models, parity, records)
            for record in records:
                parity.event(record.offset, record.timestamp, record.key, record.value)
            progress("events", count := count + len(records))
    mismatches = [one for parity in parities for one in parity.judge()]
    skipped: Counter[str] = Counter(why for parity in parities for why in parity.skipped.values())
    checked: Counter[str] = Counter()
    for parity in parities:
        checked.update(parity.checked)
    return Report(
        share=share,
        records=count,
        accounts=sum(parity.accounts for parity in parities),
        compared=sum(parity.judged for parity in parities),
        skipped=dict(sorted(skipped.items())),
        checked=dict(sorted(checked.items())),
        mismatches=tuple(mismatches),
    )


class Audit:
    """The comparison that goes with the traffic: ``begin``, then ``round`` after round."""

    def __init__(self, policy: Policy, share: float, kafka: Log, models: LiveShelf | None = None) -> None:
        self._policy, self._models = policy, models
        self._sampled = Share(share)
        self._kafka = kafka
        self._foreign = Foreign(build_of(policy))
        self._counts_from: dict[tuple[str, int], int] = {}
        self.parities: list[Parity] = []

    async def begin(self) -> None:
        """Take live's state of now as the beginning. Raises UnsupportedState for state of a newer version."""
        kafka = self._kafka
        self.parities = [Parity(self._policy, p, self._sampled, models=self._models) for p in range(kafka.partitions["events"])]
        snapshots = [_Snapshot(self._sampled) for _ in self.parities]
        kafka.seek("detect-state", {p: first for p, (first, _) in (await kafka.bounds("detect-state")).items()})
        async for records in kafka.to_the_end("detect-state"):
            snapshot = snapshots[records[0].partition]
            for record in records:
                snapshot.take(record.timestamp, record.key, record.value)
        events = await kafka.bounds("events")
        for parity, snapshot in zip(self.parities, snapshots, strict=True):
            parity.begin_with(snapshot.image)
            await equip(self._models, parity)
            for key, value in snapshot.after:
                parity.changelog(key, value)
            kafka.seek("events", {parity.number: max(parity.folded + 1, events[parity.number][0])})
        at = self._foreign.after = min((snapshot.at for snapshot in snapshots if snapshot.at), default=0)
        for topic in (*OUTPUTS, LETTERS):
            bounds, since = await kafka.bounds(topic), await kafka.since(topic, max(0, at - MARGIN_MS))
            kafka.seek(topic, {p: bounds[p][1] if one is None else one[0] for p, one in since.items()})
            # What was written before this may follow from events of before the beginning; what comes later does not.
            self._counts_from |= {(topic, p): end for p, (_, end) in bounds.items()} if at else {}

    async def round(self) -> list[Mismatch]:
        """Read on to the ends of now, and compare. Raises OtherBuild when live has become another."""
        kafka = self._kafka
        async for records in kafka.to_the_end("detect-state"):
            for record in records:
                self.parities[record.partition].changelog(record.key, record.value)
        await take_outputs(kafka, self.parities, self._counts_from, self._foreign)
        if self._foreign.build is not None:
            raise OtherBuild(self._foreign.build)
        async for records in kafka.to_the_end("events"):
            parity = self.parities[records[0].partition]
            await equip(self._models, parity, records)
            for record in records:
                parity.event(record.offset, record.timestamp, record.key, record.value)
        return [one for parity in self.parities for one in parity.judge()]


class _Snapshot:
    """A changelog partition as of its last clock, and what stands behind that: only so is the state of all accounts of one moment."""

    def __init__(self, sampled: Share) -> None:
        self.image = Image()
        self.after: list[tuple[bytes, bytes | None]] = []
        self.at: Ms = 0  # when the clock was written
        self._sampled = sampled

    def take(self, at: Ms, key: bytes, value: bytes | None) -> None:
        """Take the next record."""
        entity, _ = decode_key(key)
        if entity != CLOCK and not self._sampled(account_in(entity)[0].encode()):
            return
        self.after.append((key, value))
        if entity == CLOCK and value is not None:
            for one in self.after:
                self.image.take(*one)
            self.after.clear()
            self.at = at
