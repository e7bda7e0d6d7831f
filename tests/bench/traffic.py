"""What is measured with? Simulated logs, preloaded as one backlog or paced as a bank's stream, and the events they lead to.

Nothing here is timed. A paced log keeps each household's own pace: it is moved as a whole, so that its last entry of a code is within the
window; what came before the window is loaded ahead, what comes after it is left out.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import msgspec
import orjson

from pipeline.core.beats import BeatMaker
from pipeline.core.events import FEEDS, Beat, LinkChanged, Ms
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.live.outbox import Outgoing
from pipeline.simulate.run import simulate
from pipeline.wire.codec import encode_event
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord, merge_logs
from pipeline.wire.pseudonym import Pseudonyms

SEED = 11
SPAN_MS = 20 * 60_000  # a backlog's times are pressed into this long before now, so that nothing in it is late
HOUSEHOLDS = 6_000
AHEAD_MS = 120_000  # what a stream is loaded ahead with; the links of phones are from long before
_INSTANT = re.compile(rb'("(?:occurred_at|expires_at|since)"\s*:\s*")([^"]+)(")')


def backlog(log: Path) -> Iterator[LogRecord]:
    """The log with all its times compressed into the twenty minutes before now, links from before its start included."""
    records = list(merge_logs([log]))
    first = next(record.ts for record in records if record.topic not in ("phone-links", "telephony"))  # those may be years old
    last = records[-1].ts
    now = int(time.time() * 1000) - 1000
    factor = max(1.0, (last - first) / SPAN_MS)

    def moved(at: float) -> float:
        return now - (last - at) / factor

    def instant(match: "re.Match[bytes]") -> bytes:
        at = moved(datetime.fromisoformat(match[2].decode()).timestamp() * 1000)
        return match[1] + datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").encode() + match[3]

    for record in records:
        value = None if record.value is None else _INSTANT.sub(instant, record.value)
        yield msgspec.structs.replace(record, ts=int(moved(record.ts)), value=value)


class Hops(msgspec.Struct):
    """What a backlog becomes on its way: the records of ``lines`` and ``events``; one without a key is a beat, for every partition."""

    lines: list[Outgoing]
    events: list[Outgoing]

    @property
    def folded(self) -> int:
        """How many events there are, beats not counted."""
        return sum(record.key is not None for record in self.events)


def hops(records: Iterable[LogRecord], keys: str, per_second: int = 20_000) -> Hops:
    """Carry raw records through ingest and route as if they arrived at ``per_second`` from now on, beats included.

    ``keys``: the pseudonym keys of the deployment.
    """
    policy = Policy()
    ingest, router, beats = Ingest(policy, Pseudonyms.from_text(keys)), Router(policy), BeatMaker(dict.fromkeys(FEEDS, 1))
    out = Hops([], [])
    now = int(time.time() * 1000)
    for number, record in enumerate(records):
        at = now + number * 1000 // per_second
        for topic, key, event in ingest.read(record.topic, record.value, at):
            if topic == "events":
                out.events.append(Outgoing(key.encode(), encode_event(event)))
                continue
            assert isinstance(event, LinkChanged) or not isinstance(event, Beat)
            for addressed in router.fold(len(out.lines), event):  # type: ignore[arg-type]
                out.events.append(Outgoing(addressed.account_id.encode(), encode_event(addressed)))
            out.lines.append(Outgoing(key.encode(), encode_event(event)))
        beats.all_caught_up(at)
        beat = beats.due(at)
        if beat is not None:
            out.events.append(Outgoing(None, encode_event(beat)))
    return out


class Paced(msgspec.Struct):
    """A stream to be sent at given times. ``ahead``: loaded before it; ``stream``: (ms after the start, record)."""

    ahead: list[LogRecord]
    stream: list[tuple[float, LogRecord]]
    mix: str  # what is in it, for people


def paced(seed: int, per_second: int, seconds: float, attacks: float, folder: Path, starts_at: Ms) -> Paced:
    """Make a stream of ``per_second`` raw records, with ``attacks`` for each honest code, from ``starts_at`` (ms since the epoch) on.

    A simulated bank of some thousand households is laid over itself, under other names each time, until there is enough.
    """
    wanted = int(per_second * seconds)
    made = simulate(seed, HOUSEHOLDS, 0.2, folder, history_days=0, prior=attacks, lookalikes=0.2, noise=False)
    households = list(_households(merge_logs([folder / made.log])))
    rng = random.Random(seed)
    out = Paced([], [], "")
    copy = 0
    while len(out.stream) < wanted:
        for records in households:
            by_topic = {r.topic: r.ts for r in records}  # the last of each
            moment = by_topic.get("otp-entries", by_topic.get("otp-dispatches", records[-1].ts))
            moved_by = starts_at + int(rng.uniform(0, seconds * 1000)) - moment
            for record in records:
                after = record.ts + moved_by - starts_at
                link = record.topic == "phone-links"
                if link or -AHEAD_MS <= after < seconds * 1000:
                    new = _as_another(record, copy, moved_by)
                    out.ahead.append(new) if link or after < 0 else out.stream.append((after, new))
            if len(out.stream) >= wanted:
                break
        copy += 1
    out.ahead.sort(key=lambda r: r.ts)
    out.stream.sort(key=lambda x: x[0])
    topics = Counter(r.topic for _, r in out.stream)
    attacks = made.challenges - made.labels.get("benign", 0)
    out.mix = f"{attacks / made.challenges:.0%} of the codes attacked; " + ", ".join(
        f"{count / len(out.stream):.0%} {topic}" for topic, count in topics.most_common()
    )
    return out


def _as_another(record: LogRecord, copy: int, moved_by: int) -> LogRecord:
    """The same record of another household, at another time."""
    value = orjson.loads(record.value or b"{}")
    if copy:
        for name in ("event_id", "account_id", "session_id", "otp_id", "call_id"):
            if value.get(name):
                value[name] = f"{value[name]}-{copy}"
        if value.get("phone"):
            value["phone"] = _other_number(value["phone"], copy)
    for name in ("occurred_at", "expires_at", "since"):
        if value.get(name):
            at = datetime.fromisoformat(value[name]).timestamp() + moved_by / 1000
            value[name] = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return msgspec.structs.replace(record, ts=record.ts + moved_by, value=orjson.dumps(value))


def _other_number(phone: str, copy: int) -> str:
    """Another number of the same country, never longer than E.164 takes."""
    digest = blake2b(f"{phone}-{copy}".encode(), digest_size=6).digest()
    return f"{phone[:5]}{int.from_bytes(digest) % 10**9:09d}"


def _households(records: Iterable[LogRecord]) -> Iterator[list[LogRecord]]:
    """The records of a log, apart by household: accounts and phones that are linked with one another."""
    group: dict[str, str] = {}  # an account or a phone -> one that stands for its household

    def find(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    found: list[tuple[str, LogRecord]] = []
    for record in records:
        value = orjson.loads(record.value or b"{}")
        names = [value[field] for field in ("account_id", "phone") if value.get(field)]
        for name in names[1:]:
            group[find(name)] = find(names[0])
        if names:
            found.append((names[0], record))
    apart: dict[str, list[LogRecord]] = {}
    for name, record in found:
        apart.setdefault(find(name), []).append(record)
    yield from apart.values()
