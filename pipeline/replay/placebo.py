"""How often would a call alarm by chance? Each phone's real calls and messages, moved to other days, against the real codes.

A bank has no labels before it goes live, but it has its own calls and its own codes. Moved by a random number of whole days a phone's calls
keep their hours and their numbers and lose whatever they had to do with the codes, so an alert that needs them is a coincidence: a
false alarm. An alert counts as driven by calls if the same log without calls and messages does not raise it.
"""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from heapq import merge
from operator import attrgetter
from pathlib import Path

import msgspec
import orjson

from pipeline.core.events import Ms
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS
from pipeline.replay.cases import Case, read_cases
from pipeline.replay.run import Progress, Replay
from pipeline.replay.score import wilson
from pipeline.wire.instant import rfc3339
from pipeline.wire.log import LogRecord, encode_line, merge_logs, read_log
from pipeline.wire.pseudonym import Pseudonyms

MOVED = ("call", "call_status", "sms")  # a change of the line stays where it is
LEAST_DAYS = 2
WEEK = 7
LEAST_FOR_WEEKS = 4 * WEEK  # fewer would leave too few ways to move
REMEMBERED = 8  # codes of an account that a resend may still belong to

Challenge = tuple[str, str]
Watch = Callable[[str, int], Progress]  # what is run now, and how many records it has


class TooShort(ValueError):
    """The log spans too few whole days to move calls within it."""


class Round(msgspec.Struct, frozen=True):
    """One arrangement of the calls: all alerts, and those that needed the calls."""

    alerts: int
    coincidences: int


class Placebo(msgspec.Struct, frozen=True):
    """What chance does. ``rate``: coincidences per 10,000 codes, with a 95 % interval ``low`` to ``high``.

    ``codes``: challenges counted in each round; ``effective_codes``: how many independent ones the rounds together are worth.
    """

    days: int
    warm_up_days: int
    codes: int
    calls_and_messages: int
    unreadable: int
    alerts_as_recorded: int
    call_driven_as_recorded: int
    alerts_without_calls: int
    rounds: tuple[Round, ...]
    coincidences: int
    rate: float
    low: float
    high: float
    effective_codes: float
    codes_per_day: float
    policy_id: str

    @property
    def per_day(self) -> float:
        """Coincidences to expect a day at this bank."""
        return self.rate / 1e4 * self.codes_per_day


class _Telephony(msgspec.Struct):
    type: str
    phone: str
    occurred_at: str


class _Dispatch(msgspec.Struct):
    account_id: str
    otp_id: str


_telephony = msgspec.json.Decoder(_Telephony).decode
_dispatch = msgspec.json.Decoder(_Dispatch).decode
_arrival = attrgetter("ts")


class Experiment:
    """A log, and the same log with its calls moved. ``seed`` decides by how many days; the same seed gives the same numbers."""

    def __init__(
        self, logs: Sequence[Path], policy: Policy, pseudonyms: Pseudonyms, *, seed: int = 1, prefix: str = "", warm_up: int | None = None
    ) -> None:
        """``warm_up``: days at the beginning that are learned from and not counted; None: a third of the log, 14 at most."""
        self._logs, self._policy, self._pseudonyms, self._seed = logs, policy, pseudonyms, seed
        self._topic, self._dispatches = prefix + "telephony", prefix + "otp-dispatches"
        self._prefix = prefix
        self._codes: dict[str, int] = {}  # account -> challenges counted
        self._records = self._moving = self._unreadable = 0
        self._start, end = self._span()
        self.days = (end - self._start) // DAY_MS
        if self.days < LEAST_DAYS:
            raise TooShort(f"the log spans {self.days} whole days; moving calls to other days needs {LEAST_DAYS} or more, better 14")
        self.warm_up = min(14, self.days // 3) if warm_up is None else warm_up
        if not 0 <= self.warm_up < self.days:
            raise TooShort(f"a warm-up of {self.warm_up} days leaves nothing of a log of {self.days} days")
        self._end = self._start + self.days * DAY_MS
        self._counted_from = self._start + self.warm_up * DAY_MS
        self._count()

    def run(self, rounds: int, watch: Watch) -> Placebo:
        """Replay the log as it is, without its calls, and ``rounds`` times with its calls moved."""
        recorded = self._alerts(self._cut(), watch("as recorded", self._records))
        bare = self._alerts(self._unmoved(), watch("without calls", self._records - self._moving))
        by_account: dict[str, int] = {}
        told: list[Round] = []
        for number in range(rounds):
            with tempfile.TemporaryDirectory(prefix="offhook-placebo-") as folder:
                found = self._alerts(self._shifted(number, Path(folder)), watch(f"round {number + 1} of {rounds}", self._records))
            chance = found - bare
            told.append(Round(len(found), len(chance)))
            for account, _ in chance:
                by_account[account] = by_account.get(account, 0) + 1
        rate, low, high, effective = clustered(self._codes, by_account, rounds)
        codes = sum(self._codes.values())
        return Placebo(
            days=self.days,
            warm_up_days=self.warm_up,
            codes=codes,
            calls_and_messages=self._moving,
            unreadable=self._unreadable,
            alerts_as_recorded=len(recorded),
            call_driven_as_recorded=len(recorded - bare),
            alerts_without_calls=len(bare),
            rounds=tuple(told),
            coincidences=sum(r.coincidences for r in told),
            rate=1e4 * rate,
            low=1e4 * low,
            high=1e4 * high,
            effective_codes=effective,
            codes_per_day=codes / (self.days - self.warm_up),
            policy_id=self._policy.id,
        )

    def _span(self) -> tuple[Ms, Ms]:
        first = last = None
        for record in merge_logs(self._logs):
            first = record.ts if first is None else first
            last = record.ts if last is None else max(last, record.ts)
        if first is None or last is None:
            raise TooShort("the log is empty")
        return first, last

    def _count(self) -> None:
        latest: dict[str, tuple[str, ...]] = {}
        for record in self._cut():
            self._records += 1
            if record.topic == self._topic:
                self._moving += self._moved(record) is not None
            elif record.topic == self._dispatches and record.ts >= self._counted_from and record.value is not None:
                try:
                    sent = _dispatch(record.value)
                except msgspec.DecodeError:
                    continue  # a dead letter in every run: no code that could alarm
                known = latest.get(sent.account_id, ())
                if sent.otp_id not in known:
                    latest[sent.account_id] = (*known, sent.otp_id)[-REMEMBERED:]
                    self._codes[sent.account_id] = self._codes.get(sent.account_id, 0) + 1

    def _cut(self) -> Iterator[LogRecord]:
        """The whole days of the log."""
        for record in merge_logs(self._logs):
            if record.ts < self._end:
                yield record

    def _unmoved(self) -> Iterator[LogRecord]:
        for record in self._cut():
            if record.topic != self._topic or self._moved(record) is None:
                yield record

    def _moved(self, record: LogRecord) -> _Telephony | None:
        """What moves; None for a change of the line, and for what cannot be read."""
        try:
            read = _telephony(record.value or b"")
        except msgspec.DecodeError:
            return None
        return read if read.type in MOVED else None

    def _shifted(self, number: int, folder: Path) -> Iterator[LogRecord]:
        """The log with the calls and messages of each phone moved by a number of days of its own, round the end to the beginning."""
        files = [(folder / f"{day}.jsonl").open("wb", buffering=1 << 16) for day in range(self.days)]
        try:
            for record in self._cut():
                read = self._moved(record) if record.topic == self._topic else None
                if read is not None:
                    moved = self._move(record, self._days(number, read.phone))
                    if moved is not None:
                        files[(moved.ts - self._start) // DAY_MS].write(encode_line(moved))
        finally:
            for file in files:
                file.close()
        days = (sorted(read_log(folder / f"{day}.jsonl"), key=_arrival) for day in range(self.days))
        return merge(self._unmoved(), (record for day in days for record in day), key=_arrival)

    def _days(self, number: int, phone: str) -> int:
        """By how many days a phone's calls move in a round: whole weeks where the log is long enough, since habits have weekdays."""
        step = WEEK if self.days >= LEAST_FOR_WEEKS and self.days % WEEK == 0 else 1
        choices = self.days // step - 1
        digest = blake2b(f"{self._seed}|{number}|{phone}".encode(), digest_size=8).digest()
        return step * (1 + int.from_bytes(digest, "big") % choices)

    def _move(self, record: LogRecord, days: int) -> LogRecord | None:
        delta = days * DAY_MS
        if record.ts + delta >= self._end:
            delta -= self.days * DAY_MS
        value = orjson.loads(record.value or b"null")
        try:
            for name in ("occurred_at", "since"):
                if isinstance(value.get(name), str):
                    value[name] = rfc3339(int(datetime.fromisoformat(value[name]).timestamp() * 1000) + delta)
        except (ValueError, OverflowError):
            self._unreadable += 1  # a time that cannot be read: a dead letter in every other run
            return None
        return msgspec.structs.replace(record, ts=record.ts + delta, value=orjson.dumps(value))

    def _alerts(self, records: Iterable[LogRecord], progress: Progress) -> set[Challenge]:
        with tempfile.TemporaryDirectory(prefix="offhook-placebo-") as folder:
            Replay(self._policy, self._pseudonyms, Path(folder), prefix=self._prefix).run(records, progress)
            return {(case.account_id, case.otp_id) for case in read_cases(Path(folder)) if self._counts(case)}

    def _counts(self, case: Case) -> bool:
        return case.account_id in self._codes and case.first.time >= self._counted_from


def clustered(codes: dict[str, int], hits: dict[str, int], rounds: int) -> tuple[float, float, float, float]:
    """The share of codes hit, its 95 % interval, and the independent codes it rests on; ``hits`` over all rounds, per account.

    Rounds repeat the same codes, and codes of one account are alike, so the count is divided by the design effect (Kish 1965): the variance
    of the ratio over accounts against that of as many independent codes. Without a hit it cannot be estimated: then the rounds count once.
    """
    n = sum(codes.values()) * rounds
    if not n:
        return 0.0, 0.0, 1.0, 0.0
    total = sum(hits.values())
    share = total / n
    if not 0 < share < 1:
        effective = n / rounds
    else:
        spread = sum((hits.get(account, 0) - share * rounds * count) ** 2 for account, count in codes.items())
        effective = n / max(1.0, spread / (share * (1 - share) * n))
    low, high = wilson(share * effective, effective)
    return share, low, high, effective


def lines(result: Placebo, logs: Collection[Path]) -> list[str]:
    """Say it for a person."""
    per_round = ", ".join(str(r.coincidences) for r in result.rounds)
    return [
        f"log           {', '.join(str(p) for p in logs)}: {result.days} days, {result.warm_up_days} of them to learn from",
        f"codes         {result.codes:,} counted, {result.codes_per_day:,.0f} a day; {result.calls_and_messages:,} calls and messages",
        f"as recorded   {result.alerts_as_recorded:,} alerts, {result.call_driven_as_recorded:,} of them need the calls",
        f"without calls {result.alerts_without_calls:,} alerts",
        f"placebo       {result.coincidences:,} coincidences in {len(result.rounds)} rounds ({per_round})",
        f"by chance     {result.rate:.2f} per 10,000 codes (95 %: {result.low:.2f} to {result.high:.2f}), {result.per_day:.2f} a day",
    ]
