"""Which entries and logins of past days were honest, as far as anybody knows? Counts them for the policy's baselines.

Honest is what nobody says is an attack or a test: dispositions anywhere in the log are known before anything is counted. What is counted is
a function of the set of records: their order, within the slack of the policy, and redeliveries do not show.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TypeVar

import msgspec

from pipeline.core.decision import finding_uid
from pipeline.core.episode import Challenge
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Channel, LoggedIn, Ms, OtpDispatched, OtpEntered
from pipeline.core.policy import Policy
from pipeline.core.surge import STRETCH_MS, stretch_of
from pipeline.core.timeline import RecentEvent, inserted, plain
from pipeline.replay.verdicts import FRAUD, Verdicts, session_name
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord
from pipeline.wire.pseudonym import Pseudonyms

READ = ("logins", "otp-dispatches", "otp-entries")
DISHONEST = FRAUD | {"suspicious", "test"}
LEAST_ACCOUNTS = 20  # of a channel or user agent: nobody is named; tables of official statistics leave out cells of fewer than 3 to 11
SWEEP_MS = 600_000  # how often in log time what is over is counted; has no influence on what is counted

Code = tuple[str, str]  # account and otp_id
OtherEvent = TypeVar("OtherEvent", bound=RecentEvent)


class Counted(msgspec.Struct):
    """What was counted of a log. ``latencies``: honest entries by milliseconds; ``left``: what was left out, by reason."""

    latencies: dict[Channel, Counter[Ms]] = {}
    accounts: dict[Channel, set[str]] = {}
    logins: Counter[str] = msgspec.field(default_factory=Counter)  # by user agent
    users: dict[str, set[str]] = {}  # accounts of a user agent, LEAST_ACCOUNTS of them at most
    left: Counter[str] = msgspec.field(default_factory=Counter)
    days: set[date] = set()
    codes: dict[Ms, int] = {}  # accounts that were sent a code, by the beginning of five minutes; whoever asked for it


class Days:
    """Take the raw records of past days, then say what was counted.

    A code is counted when nothing on time can belong to it any more, so memory does not grow with the log.
    """

    def __init__(self, policy: Policy, verdicts: Verdicts) -> None:
        windows, bounds = policy.windows, policy.bounds
        # No key is asked for: numbers become tokens on the way, and none of them goes into a table.
        self._ingest = Ingest(policy, Pseudonyms.for_demo())
        self._verdicts = verdicts
        self._tests = policy.test_accounts
        self._lateness = 1000 * bounds.lateness_s
        self._reach = 1000 * (
            windows.before_s + windows.code_valid_most_s + windows.after_s
        )  # how long a code and its login belong together
        self._wait = self._reach + self._lateness + 1000 * 2 * bounds.slack_s
        self._codes: dict[Code, tuple[RecentEvent, ...]] = {}  # of each code what is not counted yet, in order of occurrence
        self._logins: dict[tuple[str, str], LoggedIn] = {}
        self._sent: dict[Ms, set[str]] = {}  # accounts that were sent a code, by stretches of time that are not over
        self._attacked: set[tuple[str, str]] = set()  # accounts and sessions of codes that are known to be attacks
        self._now: Ms = 0
        self._swept: Ms = 0
        self.counted = Counted()

    def take(self, feed: str, record: LogRecord) -> None:
        """Take a record of one of the feeds in ``READ``."""
        self.tick(record.ts)
        try:
            addressed = self._ingest.read(feed, record.value, record.ts, record.key)
        except InvalidEvent:
            self.counted.left["records that cannot be read"] += 1
            return
        for _, _, event in addressed:
            if type(event) is not LoggedIn and type(event) is not OtpDispatched and type(event) is not OtpEntered:
                continue  # the link that a dispatch teaches
            if event.arrived_at - event.occurred_at > self._lateness:
                self.counted.left["records that came too late"] += 1
            elif event.account_id in self._tests:
                self.counted.left["records of test accounts"] += 1
            elif type(event) is LoggedIn:
                key = (event.account_id, event.event_id)
                self._logins[key] = _first(self._logins.get(key, event), event)
            else:
                if type(event) is OtpDispatched and event.status != "delivered":
                    self._sent.setdefault(stretch_of(event.occurred_at), set()).add(event.account_id)
                self._belongs(event)

    def tick(self, arrival: Ms) -> None:
        """Let log time pass, up to the arrival of a record (ms) of any feed."""
        self._now = max(self._now, arrival)
        if self._now - self._swept >= SWEEP_MS:
            self._swept = self._now
            self._sweep(self._now - self._wait)

    def finish(self) -> Counted:
        """Count what is left at the end of the log."""
        while self._codes or self._logins or self._sent:
            self._sweep(None)
        return self.counted

    def _belongs(self, event: OtpDispatched | OtpEntered) -> None:
        code = (event.account_id, event.otp_id)
        have = self._codes.get(code, ())
        known = next((e for e in have if e.event_id == event.event_id), None)
        if known is None:
            self._codes[code] = inserted(have, event)
        elif _first(known, event) is event:
            self._codes[code] = inserted(tuple(e for e in have if e is not known), event)
        if event.session_id is not None and self._is_attack(code, None):
            self._attacked.add((event.account_id, event.session_id))

    def _is_attack(self, code: Code, session: str | None) -> bool:
        account = code[0]
        places = [(account, finding_uid(*code))]
        if session is not None:
            places.append((account, session_name(account, session)))
        return bool(self._verdicts.of(places) & DISHONEST)

    def _sweep(self, over: Ms | None) -> None:
        """Count the codes and logins that began at ``over`` (ms) or before; None: all."""
        for at in [at for at in self._sent if over is None or at + STRETCH_MS <= over]:
            self.counted.codes[at] = self.counted.codes.get(at, 0) + len(self._sent.pop(at))
            self.counted.days.add(_day(at))
        for key in [key for key, login in self._logins.items() if over is None or login.occurred_at <= over]:
            self._count_login(self._logins.pop(key))
        for code in [code for code, events in self._codes.items() if over is None or events[0].occurred_at <= over]:
            events = self._codes.pop(code)
            end = events[0].occurred_at + self._reach
            later = tuple(e for e in events if e.occurred_at > end)
            if later:  # the id was used again
                self._codes[code] = later
            self._count_code(code, [e for e in events if e.occurred_at <= end])

    def _count_login(self, login: LoggedIn) -> None:
        counted, account = self.counted, login.account_id
        if login.outcome != "passed":
            counted.left["logins that failed"] += 1
        elif login.user_agent is None:
            counted.left["logins without a user agent"] += 1
        elif (account, login.session_id) in self._attacked or self._verdicts.of(
            [(account, session_name(account, login.session_id))]
        ) & DISHONEST:
            counted.left["logins of known attacks and tests"] += 1
        else:
            counted.logins[login.user_agent] += 1
            counted.days.add(_day(login.occurred_at))
            users = counted.users.setdefault(login.user_agent, set())
            if len(users) < LEAST_ACCOUNTS:
                users.add(account)

    def _count_code(self, code: Code, events: Iterable[RecentEvent]) -> None:
        counted, challenge = self.counted, Challenge(code[1], [], [], [])
        for event in events:
            if type(event) is OtpEntered:
                challenge.entries.append(event)
            elif type(event) is OtpDispatched and event.status != "delivered":
                challenge.sends.append(event)
        entry = challenge.accepted
        if entry is None:
            counted.left["codes that were not accepted"] += 1
            return
        send = challenge.last_send(entry.occurred_at)
        if send is None:
            counted.left["entries of codes whose dispatch is not in the log"] += 1
        elif self._is_attack(code, challenge.session_id) or (code[0], challenge.session_id) in self._attacked:
            counted.left["entries of known attacks and tests"] += 1
        else:
            counted.latencies.setdefault(send.channel, Counter())[entry.occurred_at - send.occurred_at] += 1
            counted.accounts.setdefault(send.channel, set()).add(code[0])
            counted.days.add(_day(entry.occurred_at))


def _first(known: OtherEvent, event: OtherEvent) -> OtherEvent:
    """Of two records of one event_id what arrived first stands, as in the fold."""
    return event if (event.arrived_at, plain(event)) < (known.arrived_at, plain(known)) else known


def _day(at: Ms) -> date:
    return datetime.fromtimestamp(at / 1000, UTC).date()
