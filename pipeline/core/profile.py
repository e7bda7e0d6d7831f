"""What is normal for this account? Sealed knowledge: devices, networks, countries, peers, entry times, hours; bounded.

The profile grows in the order in which things occurred, only when nothing on time can precede them any more (law 1), so any
arrival order ends in the same profile. Line changes and links are the exception: they merge by (occurred_at, event_id) at once,
because a snapshot of an old state is an ordinary record, and carry their arrival so that an assessment can ignore what came after it.
"""

import msgspec

from pipeline.core.events import (
    AccountChanged,
    AccountEvent,
    CallChanged,
    Disposed,
    LineAsked,
    LineChanged,
    LineLinked,
    LoggedIn,
    MessageSeen,
    Ms,
)
from pipeline.core.labels import LABELS
from pipeline.core.policy import Bounds

replace = msgspec.structs.replace
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
VERDICTS = 16  # verdicts kept of an account: two on each challenge whose features are kept (`settled`)
FACTS_PER_CHANGE = 4  # line changes kept of each kind and line: on, off, and the pair before


class Seen(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """When something of the account was first and last seen, and how often."""

    first: Ms
    last: Ms
    count: int


class LineFact(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """One change of the line, with its arrival."""

    occurred_at: Ms
    event_id: str
    arrived_at: Ms
    change: str
    country: str | None


class LinkFact(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The last word on a line of the account, since when it has been the account's, and how many accounts the latest arrival counts."""

    occurred_at: Ms
    event_id: str
    arrived_at: Ms
    status: str
    accounts: int
    counted_at: Ms
    since: Ms


class VerdictFact(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """One verdict, with its arrival: on which challenge (its finding) or session. ``takeover``: confirmed, a false alarm, or neither."""

    occurred_at: Ms
    event_id: str
    arrived_at: Ms
    challenge: str
    session: str
    takeover: bool | None


class Lesson(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one finished challenge teaches. ``trusted``: the code was accepted and nothing about it was alarming."""

    otp_id: str
    started_at: Ms
    used: bool
    trusted: bool
    entered_at: Ms | None
    latency_ms: Ms | None
    device_id: str | None
    asn: int | None
    country: str | None
    user_agent: str | None
    senders: tuple[str, ...]


class Profile(msgspec.Struct, array_like=True, gc=False):
    """Sealed knowledge of one account. Only this module writes to it, and only to a copy."""

    since: Ms | None = None  # the earliest sealed event
    devices: dict[str, Seen] = {}
    networks: dict[str, Seen] = {}
    countries: dict[str, Seen] = {}
    agents: dict[str, Seen] = {}
    peers: dict[str, Seen] = {}  # the other ends of answered or outgoing calls and outgoing messages
    texters: dict[str, Seen] = {}  # who texts the account
    senders: dict[str, Seen] = {}  # what the institution's codes came from
    entry_ms: tuple[Ms, ...] = ()  # last latencies from (re)dispatch to entry
    hours: tuple[int, ...] = ()  # trusted entries by UTC hour, 24 numbers or none
    challenges: tuple[tuple[Ms, bool], ...] = ()  # last challenges: start, used
    changes: dict[str, Ms] = {}  # last change of the account by kind
    calls: int = 0  # inbound calls seen
    logins: int = 0
    telephony_at: Ms | None = None  # last call record or answer about the line: is there a feed for this customer?
    line_facts: dict[str, tuple[LineFact, ...]] = {}  # by line
    links: dict[str, LinkFact] = {}  # by line
    revision: int = 0  # grows with every change, so that an assessment can tell whether it is still current
    verdicts: tuple[VerdictFact, ...] = ()  # the last few


def copied(profile: Profile) -> Profile:
    """A copy that may be written to: its dictionaries are its own."""
    p = profile
    return Profile(
        p.since,
        dict(p.devices),
        dict(p.networks),
        dict(p.countries),
        dict(p.agents),
        dict(p.peers),
        dict(p.texters),
        dict(p.senders),
        p.entry_ms,
        p.hours,
        p.challenges,
        dict(p.changes),
        p.calls,
        p.logins,
        p.telephony_at,
        p.line_facts,
        p.links,
        p.revision + 1,
        p.verdicts,
    )


def _see(known: dict[str, Seen], key: str, at: Ms, most: int) -> None:
    have = known.get(key)
    known[key] = Seen(at, at, 1) if have is None else Seen(min(have.first, at), max(have.last, at), have.count + 1)
    if len(known) > most:  # the one unseen for longest goes; ties by id, so that no order of arrival shows
        del known[min(known, key=lambda k: (known[k].last, k))]


def seal(profile: Profile, event: AccountEvent, bounds: Bounds, suspicious: bool) -> None:
    """Add one event that can no longer be preceded to a copied profile. ``suspicious``: near an alarm, so its peer teaches nothing."""
    at = event.occurred_at
    profile.since = at if profile.since is None else min(profile.since, at)
    match event:
        case CallChanged():
            profile.telephony_at = max(profile.telephony_at or 0, at)
            if event.direction == "inbound" and event.state in ("answered", "missed"):
                profile.calls += 1
            if not suspicious and (event.state == "answered" or (event.direction == "outbound" and event.state == "ringing")):
                for token in event.peer:
                    _see(profile.peers, token, at, bounds.peers)
        case LineAsked():
            profile.telephony_at = max(profile.telephony_at or 0, at)
        case MessageSeen() if not suspicious:
            into = profile.peers if event.direction == "outbound" else profile.texters
            for token in event.peer:
                _see(into, token, at, bounds.peers)
        case LoggedIn() if event.outcome == "passed":
            profile.logins += 1
            if event.device_id is not None and event.device_id in profile.devices:
                _see(profile.devices, event.device_id, at, bounds.devices)
        case AccountChanged():
            profile.changes[event.change] = max(profile.changes.get(event.change, 0), at)
        case _:
            pass  # dispatches and entries teach when their challenge is finished


def teach(profile: Profile, lesson: Lesson, bounds: Bounds) -> None:
    """Add what a finished challenge teaches to a copied profile."""
    at = lesson.started_at
    profile.since = at if profile.since is None else min(profile.since, at)
    profile.challenges = tuple(sorted((*profile.challenges, (at, lesson.used))))[-bounds.entry_times :]
    for token in lesson.senders:
        _see(profile.senders, token, at, bounds.devices)
    if not lesson.trusted or lesson.entered_at is None:
        return
    at = lesson.entered_at
    if lesson.device_id is not None:
        _see(profile.devices, lesson.device_id, at, bounds.devices)
    if lesson.asn is not None:
        _see(profile.networks, str(lesson.asn), at, bounds.networks)
    if lesson.country is not None:
        _see(profile.countries, lesson.country, at, bounds.countries)
    if lesson.user_agent is not None:
        _see(profile.agents, lesson.user_agent, at, bounds.devices)
    if lesson.latency_ms is not None:
        profile.entry_ms = (*profile.entry_ms, lesson.latency_ms)[-bounds.entry_times :]
    hours = list(profile.hours or (0,) * 24)
    hours[at // HOUR_MS % 24] += 1
    if sum(hours) > 240:  # forget slowly: habits of the last few hundred entries
        hours = [n // 2 for n in hours]
    profile.hours = tuple(hours)


def with_line_change(profile: Profile, event: LineChanged) -> Profile:
    """Merge a change of the line at once; the latest few of each kind stay, by (occurred_at, event_id)."""
    fact = LineFact(event.occurred_at, event.event_id, event.arrived_at, event.change, event.country)
    have = profile.line_facts.get(event.line, ())
    if any(f.event_id == fact.event_id for f in have):
        return profile
    same = sorted([*(f for f in have if f.change == fact.change), fact])[-FACTS_PER_CHANGE:]
    facts = tuple(sorted([*(f for f in have if f.change != fact.change), *same]))
    return replace(profile, line_facts={**profile.line_facts, event.line: facts}, revision=profile.revision + 1)


def with_link(profile: Profile, event: LineLinked) -> Profile:
    """Merge what is said of a line: a declared word before a learned one, then the last by (occurred_at, event_id).

    The number of accounts goes by arrival: a link of last year that is told today changes it today.
    """
    have = profile.links.get(event.line)
    word: LineLinked | LinkFact = event
    count, since = (event.arrived_at, event.accounts), event.occurred_at
    if have is not None:
        if _rank(event) <= _rank(have):
            word = have
        count = max(count, (have.counted_at, have.accounts))
        since = have.since if event.status == "unlinked" else min(since, have.since)
    new = LinkFact(word.occurred_at, word.event_id, word.arrived_at, word.status, count[1], count[0], since)
    if new == have:
        return profile
    return replace(profile, links={**profile.links, event.line: new}, revision=profile.revision + 1)


def with_verdict(profile: Profile, event: Disposed, challenge: str) -> Profile:
    """Merge a verdict at once; the latest stay, by (occurred_at, event_id). ``challenge``: its finding, none where it names a session.

    All of them are kept, those too that a later one replaces, so that an assessment can ignore what came after it. A verdict that says
    nothing (no data, a duplicate, a test) replaces none.
    """
    if event.verdict not in LABELS or any(v.event_id == event.event_id for v in profile.verdicts):
        return profile
    takeover: bool | None = True if event.verdict == "true_positive" else None
    if event.verdict == "false_positive" or (event.verdict == "benign" and event.finding_uid is not None):
        takeover = False
    fact = VerdictFact(event.occurred_at, event.event_id, event.arrived_at, challenge, event.session_id or "", takeover)
    verdicts = tuple(sorted((*profile.verdicts, fact))[-VERDICTS:])
    return profile if verdicts == profile.verdicts else replace(profile, verdicts=verdicts, revision=profile.revision + 1)


def is_new(known: dict[str, Seen], key: str, known_before: Ms) -> bool | None:
    """Never seen, or first seen too recently; None while nothing has been known for long enough to compare with."""
    seen = known.get(key)
    if seen is not None and seen.first <= known_before:
        return False
    return True if any(s.first <= known_before for s in known.values()) else None


def _rank(word: LineLinked | LinkFact) -> tuple[bool, Ms, str]:
    return (word.status != "learned", word.occurred_at, word.event_id)
