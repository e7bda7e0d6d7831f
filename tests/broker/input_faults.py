"""A log as producers should not write it: what each fault adds to a clean one, and what must become of it."""

from collections.abc import Iterator, Sequence

import msgspec
import orjson

from pipeline.core.policy import Policy
from pipeline.wire.instant import rfc3339
from pipeline.wire.log import LogRecord

MINUTE_MS = 60_000
HOT = "acct-hot"
SWITCHBOARD = "+447700909999"
ACCOUNTS = 10_000  # on the switchboard's phone
TOO_LATE, AHEAD = 5, 7  # records that arrive too late, and records of a clock that is fast


def in_order(records: Iterator[LogRecord]) -> list[LogRecord]:
    """Records in the order of their arrival; of two that arrive together the one made first."""
    return sorted(records, key=lambda record: record.ts)


def record(topic: str, key: str, ts: int, occurred_at: int, partition: int = 0, **fields: object) -> LogRecord:
    """A raw record that occurred and arrived when it is said to have (ms)."""
    name = "".join(c for c in key if c.isalnum())
    value = {"event_id": f"{topic}-{name}-{ts}-{occurred_at}", "occurred_at": rfc3339(occurred_at), **fields}
    return LogRecord(topic, partition, 0, ts, key.encode(), orjson.dumps(value))


def login(account: str, ts: int, occurred_at: int, name: object, partition: int = 0) -> LogRecord:
    """A login."""
    said = {"account_id": account, "session_id": f"s-{name}", "outcome": "passed", "flow": "login"}
    return record("logins", account, ts, occurred_at, partition, **said)


def start(log: Sequence[LogRecord]) -> int:
    """When the traffic of the log sets in: some things lie days before it (ms)."""
    calls = [one.ts for one in log if one.topic == "telephony"]
    return calls[len(calls) // 20]


def twice(log: Sequence[LogRecord]) -> Iterator[LogRecord]:
    """Every third record comes again, right behind itself."""
    for number, one in enumerate(log):
        yield one
        if number % 3 == 0:
            yield one


def disordered(log: Sequence[LogRecord]) -> Iterator[LogRecord]:
    """Every fifth call record of the first ten minutes arrives fifteen minutes later: within the bound of lateness."""
    begin, delayed = start(log), 0
    for one in log:
        call = one.topic == "telephony" and b'"type":"call"' in (one.value or b"") and one.ts < begin + 10 * MINUTE_MS
        delayed += call
        yield msgspec.structs.replace(one, ts=one.ts + 15 * MINUTE_MS) if call and delayed % 5 == 0 else one


def fallen_silent(log: Sequence[LogRecord], topic: str, at: int) -> list[LogRecord]:
    """The log of a feed whose producer has died: nothing of it arrives from ``at`` on (ms)."""
    return [one for one in log if one.topic != topic or one.ts < at]


def too_late(at: int) -> Iterator[LogRecord]:
    """Logins that occurred longer ago than the bound."""
    for n in range(TOO_LATE):
        yield login("acct-late", at + n, at + n - 1000 * Policy().bounds.lateness_s - 1, f"late-{n}")


def fast_clock(at: int) -> Iterator[LogRecord]:
    """Logins of a day that has not come."""
    for n in range(AHEAD):
        yield login("acct-fast", at + n, at + n + 24 * 60 * MINUTE_MS, f"fast-{n}")


def hot(log: Sequence[LogRecord]) -> Iterator[LogRecord]:
    """As many logins of one account as there are records of all the others."""
    for n, one in enumerate(log):
        yield login(HOT, one.ts, one.ts, f"hot-{n}", one.partition)


def switchboard(begin: int, at: int) -> Iterator[LogRecord]:
    """A phone that serves ten thousand accounts, and a call on it."""
    for n in range(ACCOUNTS):
        account = f"acct-s{n:05d}"
        yield record("phone-links", f"{SWITCHBOARD}|{account}", begin, begin - n, n, phone=SWITCHBOARD, account_id=account, status="linked")
    call = {"type": "call", "phone": SWITCHBOARD, "call_id": "c-switchboard", "state": "ringing", "direction": "inbound"}
    yield record("telephony", SWITCHBOARD, at, at, **call)
