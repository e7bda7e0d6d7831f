"""What could not be read, and what was it? Reads the topic of dead letters for an operator, and the originals if asked.

Originals may hold phone numbers or worse, so they are read only when asked for: from the letter itself (``plain``), unsealed with the
operator's private key (``sealed``), or from the source topic again (``reference``), as long as its retention lasts.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.core.events import Ms
from pipeline.live.changelog import close
from pipeline.reach import reach, refused
from pipeline.settings import Settings, variable_of
from pipeline.wire.dead_letter import DeadLetter, parse, unseal

TOPIC: Final = "dead-letters"
PATIENCE_S: Final = 10.0  # a single record is answered in milliseconds; what takes longer does not come

Original = Literal[
    "not_asked",
    "here",  # key, value and headers stand on the letter
    "locked",  # sealed, and no private key was given or it is another one
    "gone",  # retention or compaction has removed the source record, or its topic
    "other",  # another record stands there now: the topic was made anew
]


class NoDeadLetters(OSError):
    """There is no topic of dead letters."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter, where it stands, and what became of its original. ``letter`` is None for a record that is none; ``note`` says why."""

    partition: int
    offset: int
    written_at: Ms
    letter: DeadLetter | None
    original: Original = "not_asked"
    note: str = ""

    def __str__(self) -> str:
        place = f"{TOPIC}/{self.partition}@{self.offset}"
        if self.letter is None:
            return f"{_instant(self.written_at)} {place}: {self.note}"
        a = self.letter
        size = "null" if a.length is None else f"{a.length} bytes"
        line = f"{_instant(a.timestamp)} {a.topic}/{a.partition}@{a.offset} {a.reason}: {a.detail} ({size}, {a.form})"
        if self.original == "here":
            line += f"\n  key   {a.key!r}\n  value {a.value!r}" + "".join(f"\n  header {name} {value!r}" for name, value in a.headers)
        return line + (f"\n  {self.note}" if self.note else "")


def show(
    settings: Settings,
    limit: int = 100,
    reason: str | None = None,
    topic: str | None = None,
    since_ms: Ms | None = None,
    payload: bool = False,
    private_key: bytes | None = None,
) -> list[Found]:
    """Return the latest dead letters, oldest first: at most ``limit`` of those with the reason, of the topic, written since then.

    ``topic``: with or without the prefix. ``payload``: with the originals. ``private_key``: 32 bytes, for sealed ones. Commits nothing.
    Raises Unreachable, and NoDeadLetters without the topic.
    """
    connection = settings.connection()
    reach(connection)
    try:
        return asyncio.run(_show(settings, limit, reason, topic, since_ms, payload, private_key))
    except KafkaError as e:
        raise refused(connection, e) from e


async def _show(
    settings: Settings, limit: int, reason: str | None, topic: str | None, since_ms: Ms | None, payload: bool, private_key: bytes | None
) -> list[Found]:
    name = settings.topic(TOPIC)
    there = await _partitions(settings, [name])
    if name not in there:
        raise NoDeadLetters(f"{name}: there is no such topic at {settings.brokers}; see {variable_of('prefix')}")
    filtered = bool(reason or topic)
    topics = {topic, settings.topic(topic)} if topic else set()

    def wanted(one: Found) -> bool:
        a = one.letter
        return not filtered or (a is not None and reason in (None, a.reason) and (not topics or a.topic in topics))

    latest: list[Found] = []
    tps = [TopicPartition(name, p) for p in there[name]]
    async with _consumer(settings, tps) as consumer:
        for tp in tps:
            latest += [one async for one in _letters(consumer, tp, since_ms, None if filtered else limit) if wanted(one)]
            latest = sorted(latest, key=lambda f: (f.written_at, f.partition, f.offset))[-limit:]
    return await _with_originals(settings, latest, private_key) if payload else latest


async def _letters(consumer: Any, tp: TopicPartition, since_ms: Ms | None, newest: int | None) -> AsyncIterator[Found]:
    """Read one partition to its end: from an instant on, or the ``newest`` ones."""
    begin, end = await _bounds(consumer, tp)
    if since_ms is not None:
        at = (await consumer.offsets_for_times({tp: since_ms}))[tp]
        begin = end if at is None else max(begin, at.offset)
    if newest is not None:
        begin = max(begin, end - newest)
    consumer.seek(tp, begin)
    consumer.resume(tp)
    while await consumer.position(tp) < end:
        for records in (await consumer.getmany(tp, timeout_ms=500)).values():
            for r in records:
                if r.offset < end:
                    yield _read(r)
    consumer.pause(tp)


def _read(r: Any) -> Found:
    place = {"partition": r.partition, "offset": r.offset, "written_at": r.timestamp}
    try:
        return Found(**place, letter=parse(r.headers, r.key, r.value))
    except ValueError as e:
        return Found(**place, letter=None, note=str(e))


async def _with_originals(settings: Settings, found: Sequence[Found], private_key: bytes | None) -> list[Found]:
    references = [f.letter for f in found if f.letter is not None and f.letter.form == "reference"]
    there = await _partitions(settings, sorted({a.topic for a in references})) if references else {}
    sources = {TopicPartition(a.topic, a.partition) for a in references if a.partition in there.get(a.topic, ())}
    async with _consumer(settings, sorted(sources)) if sources else nullcontext() as consumer:
        return [await _with_original(consumer, one, there, private_key) for one in found]


async def _with_original(consumer: Any, one: Found, there: Mapping[str, Iterable[int]], private_key: bytes | None) -> Found:
    letter = one.letter
    if letter is None:
        return one
    replace = msgspec.structs.replace
    match letter.form:
        case "plain":
            return replace(one, original="here")
        case "sealed" if private_key is None:
            return replace(one, original="locked", note="sealed: give the private key to open it")
        case "sealed":
            assert private_key is not None
            try:
                return replace(one, original="here", letter=unseal(letter, private_key))
            except ValueError as e:
                return replace(one, original="locked", note=str(e))
        case "reference":
            record, original, note = await _read_again(consumer, letter, there)
            if record is None:
                return replace(one, original=original, note=note)
            headers = tuple((name, value or b"") for name, value in record.headers)
            return replace(one, original="here", letter=replace(letter, key=record.key, value=record.value, headers=headers))


async def _read_again(consumer: Any, letter: DeadLetter, there: Mapping[str, Iterable[int]]) -> tuple[Any, Original, str]:
    """Fetch the record that a letter refers to; else say what became of it."""
    place = f"{letter.topic}/{letter.partition}@{letter.offset}"
    if letter.partition not in there.get(letter.topic, ()):
        return None, "gone", f"{place} is gone: there is no such topic or partition any more"
    tp = TopicPartition(letter.topic, letter.partition)
    begin, end = await _bounds(consumer, tp)
    if letter.offset < begin:
        return None, "gone", f"{place} is gone: the topic's retention has removed it (it begins at {begin} now)"
    if letter.offset >= end:
        return None, "other", f"{place} is not there: the topic ends at {end}, so it was made anew"
    consumer.seek(tp, letter.offset)
    consumer.resume(tp)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await consumer.position(tp) <= letter.offset:
                for record in (await consumer.getmany(tp, timeout_ms=500, max_records=1)).get(tp, ()):
                    if record.offset == letter.offset:
                        if _same(record, letter):
                            return record, "here", ""
                        return None, "other", f"{place} is another record now: the topic was made anew"
    except TimeoutError:
        return None, "gone", f"{place} did not come within {PATIENCE_S:.0f} s: is the partition's leader there?"
    finally:
        consumer.pause(tp)
    return None, "gone", f"{place} is gone: compaction has removed it"


def _same(record: Any, letter: DeadLetter) -> bool:
    value: bytes | None = record.value
    if value is None or letter.sha256 is None:
        return value is None and letter.sha256 is None
    return sha256(value).hexdigest() == letter.sha256


async def _bounds(consumer: Any, tp: TopicPartition) -> tuple[int, int]:
    """First offset and end offset."""
    begin: int = (await consumer.beginning_offsets([tp]))[tp]
    end: int = (await consumer.end_offsets([tp]))[tp]
    return begin, end


@asynccontextmanager
async def _consumer(settings: Settings, tps: Sequence[TopicPartition]) -> AsyncIterator[Any]:
    """Open a consumer of these partitions, all paused. Assigned once: aiokafka's ``stop`` hangs when it follows a new assignment."""
    consumer = AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    try:
        await consumer.start()
        consumer.assign(tps)
        consumer.pause(*tps)
        yield consumer
    finally:
        await close(consumer)


async def _partitions(settings: Settings, topics: Sequence[str]) -> dict[str, list[int]]:
    """Find the partitions of those topics that exist."""
    admin = AIOKafkaAdminClient(**settings.connection())
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        names = [t for t in topics if t in existing]
        described = await admin.describe_topics(names) if names else []
        return {one["topic"]: sorted(p["partition"] for p in one["partitions"]) for one in described}
    finally:
        await admin.close()


def _instant(ms: Ms) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
