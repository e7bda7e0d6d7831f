"""How does a story become records, and what must the detector say? Loads tests/scenarios and plays a story through the stages.

A story is one YAML file: two sentences, raw records with times in seconds from a base instant, and what is expected of each challenge.
The keys are those of ``Story``, ``History`` and ``Expect`` below; tests/scenarios/cast.yaml says what a record need not.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from pipeline.core.beats import BEAT_MS, BeatMaker
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import FEEDS, AnyEvent, Feed, Ms
from pipeline.core.gatherer import Gatherer
from pipeline.core.outcome import Finding, Level, Outcome, Sighting, Stage
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy, policy_from
from pipeline.core.route import Router
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord
from pipeline.wire.pseudonym import Pseudonyms
from pipeline.wire.records import RECORDS

SCENARIOS = Path(__file__).parent / "scenarios"
GROUPS = ("fraud", "benign", "late", "duplicate", "known_gaps")
DAY_S = 86_400
DRAIN_STEP_MS = 10_000  # after the last record: a beat in ten seconds, until every challenge is settled
SECRETS = {"k1": "11" * 32, "k2": "22" * 32}  # the keys of the stories, known to everybody
INSTANTS = ("expires_at", "since")  # other fields that are given in seconds from the base


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The weeks before, in short: used codes on a known device, calls from usual peers, texts from usual senders.

    ``latency_s``: from dispatch to entry, give or take two seconds; ``linked``: the institution says whose phone it is.
    """

    challenges: int = 6
    days: int = 28
    by: str = "customer"
    device: str | None = None
    asn: int | None = None
    country: str | None = None
    latency_s: float = 12.0
    peers: tuple[str, ...] = ("+447700900111",)
    texters: tuple[str, ...] = ()
    account_id: str = "acct-1"
    phone: str = "+447700900001"
    sender: str | None = "ExampleBank"
    channel: str = "sms"
    linked: bool = True


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is expected of one challenge in the end; what is left out is not looked at.

    ``first_alert``: the stage of its first finding; ``within_s``: that finding's time at most this long after the entry;
    ``hold``: written and ended, or none; ``findings``: how many records, the close included; ``says``: words on the last open finding;
    ``suppressed``: by what its last open finding is (a scope, or flood), ``heard`` when it is not, ``never`` when none ever was;
    ``benign_if``: facts of the last open finding; ``because``: words of the close;
    ``features``: values on the last decision, null for one that must be absent.
    """

    level: Level
    stage: Stage | None = None
    hits: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    first_alert: Stage | None = None
    within_s: float | None = None
    hold: Literal["ended", "none"] | None = None
    findings: int | None = None
    says: tuple[str, ...] = ()
    because: str | None = None
    verdict_id: int | None = None
    part_of: str | None = None
    incident: str | None = None  # the challenge whose incident it shares
    feeds_missing: tuple[str, ...] | None = None
    linked_accounts: int | None = None
    suppressed: str | None = None
    benign_if: tuple[str, ...] | None = None
    features: dict[str, float | int | bool | str | None] = {}


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the whole run counts."""

    late: int = 0
    conflicts: int = 0
    refused: dict[str, int] = {}


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From when on (seconds from the base) which keys make peer tokens, newest first."""

    at: float
    peers: tuple[str, ...]


class Story(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One file of tests/scenarios."""

    story: str
    why: str
    records: tuple[dict[str, Any], ...]
    expect: dict[str, Expect]
    history: History | tuple[History, ...] | None = None
    counts: Counts = Counts()
    keys: tuple[Keys, ...] = ()
    policy: dict[str, Any] = {}
    without: tuple[Feed, ...] = ()  # feeds that this institution does not have
    known_gap: str | None = None  # known_gaps/ only: why the detector cannot do better yet
    name: str = ""  # group/file

    @cached_property
    def log(self) -> tuple[LogRecord, ...]:
        """The raw records, by arrival."""
        base = _ms(cast()["base"])
        histories = self.history if isinstance(self.history, tuple) else (self.history,) if self.history is not None else ()
        rows = [row for history in histories for row in _past(history)] + cast()["bystander"]
        rows = [row for row in rows if row["topic"] not in self.without]
        rows += [row for record in self.records for row in _told(record)]
        return _by_arrival(rows, base)

    @cached_property
    def rules(self) -> Policy:
        """The policy the story is judged by."""
        return policy_from(self.policy)

    def ingest_at(self, ts: Ms) -> Ingest:
        """The ingest stage with the keys in force at an arrival."""
        peers = [k.peers for k in self.keys if _ms(cast()["base"]) + 1000 * k.at <= ts]
        return _ingest(self.rules, peers[-1] if peers else ("k1",))


class Run(msgspec.Struct):
    """What came of a story: the canonical log, and the outcomes with the offset that brought each."""

    events: list[AnyEvent]
    said: list[tuple[int, Outcome]]
    partition: Partition
    refused: Counter[str]


@cache
def cast() -> dict[str, Any]:
    """The shared people and defaults."""
    loaded: dict[str, Any] = yaml.safe_load((SCENARIOS / "cast.yaml").read_text())
    return loaded


@cache
def stories() -> tuple[Story, ...]:
    """Every story, by name. Raises msgspec.ValidationError with the path of what is wrong in a file."""
    found = []
    for group in GROUPS:
        for path in sorted((SCENARIOS / group).glob("*.yaml")):
            loaded = yaml.safe_load(path.read_text())
            loaded["name"] = f"{group}/{path.stem}"
            try:
                found.append(msgspec.convert(loaded, Story))
            except msgspec.ValidationError as e:
                raise ValueError(f"{path.name}: {e}") from None
    return tuple(found)


def pseudonyms(peers: tuple[str, ...] = ("k1",)) -> Pseudonyms:
    """The keys of the stories."""
    return Pseudonyms({name: bytes.fromhex(secret) for name, secret in SECRETS.items()}, "k1", peers)


_ingests: dict[tuple[str, tuple[str, ...]], Ingest] = {}


def _ingest(policy: Policy, peers: tuple[str, ...]) -> Ingest:
    return _ingests.setdefault((policy.id, peers), Ingest(policy, pseudonyms(peers)))


# --- from a file to raw records


def _ms(instant: datetime) -> Ms:
    return int(instant.timestamp() * 1000)


def _instant(base: Ms, seconds: float) -> str:
    return (datetime.fromtimestamp(base / 1000, UTC) + timedelta(seconds=seconds)).isoformat()


def _told(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One record, or, with ``states``, one for each state of a call."""
    if "states" not in record:
        yield record
        return
    rest = {k: v for k, v in record.items() if k != "states"}
    for state, at in record["states"].items():
        yield {"topic": "telephony", "call_id": "call-1", **rest, "state": state, "at": at}


def _past(h: History) -> Iterator[dict[str, Any]]:
    """Spread a history over the weeks before: always at the same time of day, oldest first."""
    about = {"account_id": h.account_id, "phone": h.phone}
    person = {k: v for k, v in (("device_id", h.device), ("asn", h.asn), ("country", h.country)) if v is not None}
    if h.linked:
        yield {"topic": "phone-links", "at": -(h.days + 1) * DAY_S, **about}
    for n in range(h.challenges):
        at = -round(h.days * (h.challenges - n) / h.challenges) * DAY_S
        ids = {"account_id": h.account_id, "session_id": f"{h.account_id}.past-{n}"}
        otp = {**ids, "otp_id": f"{h.account_id}.past-{n}"}
        yield {"topic": "logins", "at": at, "by": h.by, **ids, **person}
        yield {"topic": "otp-dispatches", "at": at + 1, "phone": h.phone, "sender": h.sender, "channel": h.channel, **otp}
        yield {"topic": "otp-entries", "at": at + 1 + h.latency_s + 2 * (n % 3 - 1), "by": h.by, "method": "typed", **otp, **person}
    for n, peer in enumerate(h.peers):
        for days_ago in (12, 5):
            at = -days_ago * DAY_S + 3600 * (n + 1)
            call = {"topic": "telephony", "phone": h.phone, "peer": peer, "call_id": f"past-{days_ago}-{n}"}
            yield {**call, "state": "answered", "at": at}
            yield {**call, "state": "ended", "at": at + 120}
    for n, peer in enumerate(h.texters):
        yield {"topic": "telephony", "type": "sms", "phone": h.phone, "peer": peer, "has_code": False, "at": -6 * DAY_S + 600 * n}


def _by_arrival(rows: list[dict[str, Any]], base: Ms) -> tuple[LogRecord, ...]:
    arrivals = []
    for number, row in enumerate(rows):
        topic, at = row["topic"], row["at"]
        delay = row.get("delay", cast()["arrival_delay_s"])
        arrivals.append((base + round(1000 * (at + delay)), number, topic, _value(row, number, base)))
    offsets: Counter[str] = Counter()
    log = []
    for ts, _, topic, value in sorted(arrivals):
        log.append(LogRecord(topic, 0, offsets[topic], ts, None, value))
        offsets[topic] += 1
    return tuple(log)


def _value(row: dict[str, Any], number: int, base: Ms) -> bytes:
    if "raw" in row:
        return str(row["raw"]).encode()
    topic = row["topic"]
    record: dict[str, Any] = {"event_id": f"e-{number:03}", **cast()["records"][topic]}
    record["occurred_at"] = _instant(base, row["at"])
    if "by" in row:
        record |= {k: v for k, v in cast()["people"][row["by"]].items() if k in _fields(topic)}
    if "with" in row:
        record |= cast()["others"][row["with"]]
    for name, value in row.items():
        if name in ("topic", "at", "delay", "by", "with"):
            continue
        assert name in _fields(topic), f"{topic} has no field {name}"
        record[name] = _instant(base, value) if name in INSTANTS and value is not None else value
    return msgspec.json.encode(record)


@cache
def _fields(topic: Feed) -> frozenset[str]:
    return frozenset(name for kind in getattr(RECORDS[topic], "__args__", (RECORDS[topic],)) for name in kind.__struct_fields__) | {"type"}


# --- through the stages


def play(story: Story) -> Run:
    """Run a story through the stages."""
    return run(story.log, story.ingest_at, story.rules)


def run(log: Iterable[LogRecord], ingest_at: Callable[[Ms], Ingest], policy: Policy) -> Run:
    """Run raw records through ingest, route, detect and campaign, with beats, and let time go on until all is settled."""
    ran = Run([], [], Partition(policy), Counter())
    router, beats, gatherer = Router(policy), BeatMaker(dict.fromkeys(FEEDS, 1)), Gatherer(policy)
    sightings = count()
    arrivals: dict[Feed, Ms] = {}
    lines, next_beat, now = 0, 0, 0

    def fold(event: AnyEvent) -> None:
        offset = len(ran.events)
        ran.events.append(event)
        said = ran.partition.fold(offset, event)
        ran.said.extend((offset, outcome) for outcome in said)
        for outcome in said:
            if isinstance(outcome, Sighting) and (seen := gatherer.fold(next(sightings), outcome)) is not None:
                fold(seen)

    def beat(at: Ms, read_to: Ms) -> None:
        for feed, last in arrivals.items():
            beats.arrived(feed, 0, last)
        for feed in FEEDS:
            beats.caught_up(feed, 0, read_to)
        due = beats.due(at)
        if due is not None:
            fold(due)

    for record in log:
        now = max(now, record.ts)
        if now >= next_beat:
            beat(now, now - 1)
            next_beat = now + BEAT_MS
        arrivals[record.topic] = now  # type: ignore[index]  # the topics are the feeds
        try:
            read = ingest_at(record.ts).read(record.topic, record.value, record.ts, record.key)
        except InvalidEvent as e:
            ran.refused[e.reason] += 1
            continue
        for topic, _, event in read:
            if topic == "events":
                fold(event)  # type: ignore[arg-type]  # the topic says which union it is
                continue
            for routed in router.fold(lines, event):  # type: ignore[arg-type]  # as above
                fold(routed)
            lines += 1
    alive = [feed for feed, last in arrivals.items() if last > now - 1000 * policy.feeds.silent_s]
    for at in drain(now, policy):
        arrivals.update(dict.fromkeys(alive, at))
        beat(at, at)
    return ran


def drain(now: Ms, policy: Policy) -> range:
    """The times of the beats after the last record, until the last challenge is settled."""
    windows, bounds = policy.windows, policy.bounds
    most_s = windows.code_valid_most_s + windows.after_s + bounds.lateness_s + bounds.slack_s + bounds.future_s
    return range(now + BEAT_MS, now + 1000 * most_s + DRAIN_STEP_MS, DRAIN_STEP_MS)


@cache
def played(name: str) -> Run:
    """The run of a story, played once per process."""
    return play(next(s for s in stories() if s.name == name))


# --- what was said


def findings(said: list[Outcome], otp_id: str) -> list[Finding]:
    """All findings of a challenge, in order."""
    return [f for f in said if isinstance(f, Finding) and f.otp_id == otp_id]
