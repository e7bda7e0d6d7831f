"""What belongs together? One OTP challenge, resends folded in, and all that surrounds it: the join.

An episode is built anew from (profile, recent events) whenever something that concerns it happens; nothing of it is stored.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import attrgetter

import msgspec

from pipeline.core.calls import CallSeen, join_calls, mark_deliveries
from pipeline.core.events import AccountChanged, LineAsked, LoggedIn, MessageSeen, Ms, OtpDispatched, OtpEntered
from pipeline.core.policy import Policy, Windows
from pipeline.core.timeline import RecentEvent

LOGIN_BEFORE_MS = 900_000  # without a session id, a login this long before the dispatch may have caused it
CLOCK_SKEW_MS = 5_000  # two systems' clocks may differ by this much
_occurred_at = attrgetter("occurred_at")


class Challenge(msgspec.Struct, gc=False):
    """The records of one otp_id."""

    otp_id: str
    sends: list[OtpDispatched]  # sent or failed, in order; the first is the challenge, the others are resends
    receipts: list[OtpDispatched]
    entries: list[OtpEntered]

    @property
    def start(self) -> Ms:
        """The first dispatch, or the first entry when the dispatch is not known."""
        return self.sends[0].occurred_at if self.sends else (self.receipts[0].occurred_at if self.receipts else self.entries[0].occurred_at)

    @property
    def session_id(self) -> str | None:
        """The session, from whichever record names it."""
        for send in self.sends:
            if send.session_id is not None:
                return send.session_id
        for entry in self.entries:
            if entry.session_id is not None:
                return entry.session_id
        return None

    @property
    def purpose(self) -> str | None:
        """What the code is for; None without a dispatch."""
        first = self.sends or self.receipts
        return first[0].purpose if first else None

    @property
    def accepted(self) -> OtpEntered | None:
        """The entry that was accepted, if any: the first."""
        return next((e for e in self.entries if e.outcome == "accepted"), None)

    def last_send(self, by: Ms) -> OtpDispatched | None:
        """The last time it was sent up to ``by``: what an entry then is measured from. None when it was sent later, or nobody says."""
        return next((send for send in reversed(self.sends) if send.occurred_at <= by), None)

    def expires_at(self, windows: Windows) -> Ms:
        """When the code ends (ms): as stated by the last dispatch, or the policy's validity; cut at the policy's bound."""
        most = self.start + 1000 * windows.code_valid_most_s
        if not self.sends:
            return min(self.start + 1000 * windows.code_valid_s, most)
        last = self.sends[-1]
        stated = last.expires_at if last.expires_at is not None else last.occurred_at + 1000 * windows.code_valid_s
        return max(min(stated, most), self.start + 1000)


class Episode(msgspec.Struct, gc=False):
    """One challenge with its surroundings, as seen at ``now``. Instants in ms."""

    challenge: Challenge
    now: Ms
    start: Ms
    expires_at: Ms
    until: Ms  # the end of what concerns it
    seen_by: Ms  # what is told of the line after this does not count, so that no order of delivery shows
    entry: OtpEntered | None  # the accepted one, else the last
    moment: Ms  # what the call is measured against: the entry, else now, else the end of the code
    login: LoggedIn | None
    failed_logins: list[LoggedIn]
    other_logins: list[LoggedIn]
    calls: list[CallSeen]
    asked: bool  # somebody could say whether the line was busy
    messages: list[MessageSeen]
    changes: list[AccountChanged]
    others: list[Challenge]  # challenges of the account in the hour before, in order

    @property
    def used(self) -> bool:
        """The code was accepted."""
        return self.entry is not None and self.entry.outcome == "accepted"


def challenges(recent: Iterable[RecentEvent]) -> dict[str, Challenge]:
    """Group dispatches and entries by otp_id, in order."""
    found: dict[str, Challenge] = {}
    for event in recent:
        if type(event) is not OtpDispatched and type(event) is not OtpEntered:
            continue
        challenge = found.get(event.otp_id)
        if challenge is None:
            challenge = found[event.otp_id] = Challenge(event.otp_id, [], [], [])
        if type(event) is OtpEntered:
            challenge.entries.append(event)
        elif event.status == "delivered":
            challenge.receipts.append(event)
        else:
            challenge.sends.append(event)
    return found


def challenge_of(recent: Iterable[RecentEvent], otp_id: str) -> Challenge | None:
    """The records of one otp_id; None when there is none."""
    return challenges([e for e in recent if (type(e) is OtpDispatched or type(e) is OtpEntered) and e.otp_id == otp_id]).get(otp_id)


def build(recent: tuple[RecentEvent, ...], otp_id: str, now: Ms, policy: Policy) -> Episode | None:
    """Build the episode of a challenge from the recent events, as seen at ``now``; None when nothing of it is there."""
    windows = policy.windows
    every = challenges(recent)
    challenge = every.get(otp_id)
    if challenge is None:
        return None
    start, expires_at = challenge.start, challenge.expires_at(windows)
    entry = challenge.accepted or (challenge.entries[-1] if challenge.entries else None)
    accepted = challenge.accepted
    until = (accepted.occurred_at if accepted is not None else max(expires_at, entry.occurred_at if entry else 0)) + 1000 * windows.after_s
    since = start - 1000 * windows.before_s
    moment = entry.occurred_at if entry is not None else max(start, min(now, expires_at))
    near = recent[bisect_left(recent, since, key=_occurred_at) : bisect_right(recent, until, key=_occurred_at)]
    calls = join_calls(near, windows)
    mark_deliveries(calls, challenge.sends, windows)
    session = challenge.session_id
    login: LoggedIn | None = None
    failed: list[LoggedIn] = []
    passed: list[LoggedIn] = []
    messages: list[MessageSeen] = []
    changes: list[AccountChanged] = []
    end = accepted.occurred_at if accepted is not None else None
    for event in near:
        if type(event) is LoggedIn:
            if event.occurred_at <= start + CLOCK_SKEW_MS:
                (passed if event.outcome == "passed" else failed).append(event)
        elif type(event) is MessageSeen:
            messages.append(event)
        elif (
            type(event) is AccountChanged
            and end is not None
            and event.occurred_at >= end
            and (session is None or event.session_id in (None, session))
        ):
            changes.append(event)
    for event in reversed(passed):
        if event.session_id == session or (session is None and start - event.occurred_at <= LOGIN_BEFORE_MS):
            login = event
            break
    others = [c for c in every.values() if c is not challenge and since <= c.start <= start]
    for c in others:  # what becomes of them later is nothing that this one is assessed by, or assessed anew for
        c.entries[:] = [x for x in c.entries if x.occurred_at <= until]
    others.sort(key=lambda c: (c.start, c.otp_id))
    return Episode(
        challenge=challenge,
        now=now,
        start=start,
        expires_at=expires_at,
        until=until,
        seen_by=min(now, until + 1000 * policy.bounds.lateness_s),
        entry=entry,
        moment=moment,
        login=login,
        failed_logins=failed,
        other_logins=[e for e in passed if e is not login],
        calls=calls,
        asked=any(type(e) is LineAsked and e.on_call is not None for e in near),
        messages=messages,
        changes=changes,
        others=others,
    )


def incident_id(account_id: str, challenge: Challenge, recent: tuple[RecentEvent, ...], windows: Windows) -> str:
    """Name the incident: challenges of one account and session, else of one purpose within ten minutes of each other.

    ``i_`` and 20 hexadecimal characters. A chain without a session is named after its first challenge.
    """
    if challenge.session_id is not None:
        return incident_of(account_id, challenge, challenge.otp_id)
    chain = sorted(
        (c for c in challenges(recent).values() if c.session_id is None and c.purpose == challenge.purpose and c.start <= challenge.start),
        key=lambda c: (c.start, c.otp_id),
        reverse=True,
    )
    first = challenge
    for earlier in chain:
        if first.start - earlier.start > 1000 * windows.incident_s:
            break
        if (earlier.start, earlier.otp_id) < (first.start, first.otp_id):
            first = earlier
    return incident_of(account_id, challenge, first.otp_id)


def incident_of(account_id: str, challenge: Challenge, first: str) -> str:
    """The incident's name by the challenge's session, or by the otp_id of the ``first`` challenge of a chain without one."""
    session = challenge.session_id
    return named("i_", account_id, "challenge", first) if session is None else named("i_", account_id, "session", session)


def named(prefix: str, *parts: str) -> str:
    """A deterministic name: the prefix and 20 hexadecimal characters of the parts' SHA-256."""
    return prefix + hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:20]
