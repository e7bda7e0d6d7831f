"""What was normal for everybody on past days? Reads a log's logins, dispatches and entries and proposes the policy's baselines.

Some attacks are never found out, so latencies are summed up by median and MAD, which a minority of them does not move far, and a user
agent counts on the scale of powers of ten. Nothing is changed by what is found here.
"""

from calendar import day_name
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise
from math import log1p
from pathlib import Path
from typing import Final

import msgspec

from pipeline.core.baselines import LEAST_SHARE, LEAST_SPREAD, MOST_AGENTS, Baselines, Codes, EntryLatency
from pipeline.core.events import Channel, Ms
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS
from pipeline.core.surge import STRETCH_MS, hour_of_week
from pipeline.replay.honest import LEAST_ACCOUNTS, READ, Counted, Days
from pipeline.replay.run import PROGRESS_EVERY, Progress
from pipeline.replay.verdicts import Verdicts
from pipeline.wire.log import LogRecord, merge_logs

LEAST_ENTRIES = 100  # of a channel: the median is then known to an eighth of the spread (1.25 / sqrt n, standard error at a normal)
LEAST_LOGINS = 100  # of a user agent: its share is then known to a tenth (1 / sqrt n)
HOLE_MS = 43_200_000  # 12 h without a code that is sent are no quiet night but a hole in the log
LEAST_DAYS = 3  # of an hour of the week, so that one surge or one holiday is not the usual
USUALLY_COUNTED = 200  # accounts of a busy stretch are: three quarters of those whose names are kept, and a doubling is ten standard errors
LEAST_ALL_LOGINS = 1000  # ten times that: fewer tell no rare user agent from a common one
OF_A_NORMAL: Final = 1.4826  # makes the median absolute deviation the standard deviation of a normal (Rousseeuw and Croux 1993)

Watch = Callable[[str], Progress]  # what is read now


class NoBaselines(ValueError):
    """Nothing can be proposed; the message says why."""


class Proposal(msgspec.Struct, frozen=True):
    """The tables with what they rest on. ``entries``: honest entries and their accounts by channel; ``logins``: by user agent listed."""

    baselines: Baselines
    entries: dict[Channel, tuple[int, int]]
    logins: dict[str, int]
    all_logins: int
    first: date
    last: date
    left: tuple[str, ...]


def baselines_of(logs: Sequence[Path], policy: Policy, prefix: str, watch: Watch) -> Proposal:
    """Read the logs twice: what is known of attacks, then what was normal. Raises NoBaselines and what ``merge_logs`` raises."""
    verdicts = Verdicts()
    for record in _told(merge_logs(logs), watch("reading verdicts")):
        if record.topic == prefix + "dispositions" and record.value is not None:
            verdicts.take(record.value)
    days, feeds = Days(policy, verdicts), {prefix + feed: feed for feed in READ}
    some = False
    for record in _told(merge_logs(logs), watch("reading logins and codes")):
        feed = feeds.get(record.topic)
        if feed is None:
            days.tick(record.ts)
        else:
            some = True
            days.take(feed, record)
    if not some:
        raise NoBaselines(f"the log holds no record of {', '.join(feeds)}: is it one of raw topics, and --prefix theirs?")
    return proposed(days.finish())


def _told(records: Iterable[LogRecord], progress: Progress) -> Iterator[LogRecord]:
    number = 0
    for number, record in enumerate(records, 1):
        if number % PROGRESS_EVERY == 0:
            progress(number, record.ts)
        yield record
    progress(number, 0)


def proposed(counted: Counted) -> Proposal:
    """Make the tables, and say what is left out of them. Raises NoBaselines where there is enough for none."""
    left = [f"{reason}: {n:,}" for reason, n in sorted(counted.left.items())]
    channels: dict[Channel, EntryLatency] = {}
    entries: dict[Channel, tuple[int, int]] = {}
    for channel, latencies in sorted(counted.latencies.items()):
        n, accounts = latencies.total(), len(counted.accounts[channel])
        if n < LEAST_ENTRIES or accounts < LEAST_ACCOUNTS:
            left.append(
                f"channel {channel}: {n:,} honest entries of {accounts:,} accounts ({LEAST_ENTRIES} of {LEAST_ACCOUNTS} are needed)"
            )
            continue
        channels[channel], entries[channel] = latency_of(latencies), (n, accounts)
    total = counted.logins.total()
    enough = [
        a for a, n in counted.logins.items() if n >= max(LEAST_LOGINS, LEAST_SHARE * total) and len(counted.users[a]) == LEAST_ACCOUNTS
    ]
    common = sorted(enough, key=lambda a: (-counted.logins[a], a)) if total >= LEAST_ALL_LOGINS else []
    listed, cut = common[:MOST_AGENTS], common[MOST_AGENTS:]
    others = len(counted.logins) - len(listed)
    if others:
        rest = total - sum(counted.logins[a] for a in listed)
        needed = f"{LEAST_LOGINS} logins of {LEAST_ACCOUNTS} accounts are needed, of {LEAST_ALL_LOGINS:,}; {MOST_AGENTS} are listed at most"
        left.append(f"user agents: {others:,} with {rest:,} of {total:,} logins ({needed})")
    codes = codes_of(counted.codes)
    if codes is None and counted.codes:
        n = len(counted.codes)
        needed = f"{LEAST_DAYS} days with each hour of the week are needed: three weeks without a hole"
        left.append(f"codes by hour: {n:,} stretches of five minutes with any ({needed})")
    if not channels and not listed and codes is None:
        raise NoBaselines("the log is too short for any baseline: " + ("; ".join(left) or "it holds no honest entry or login"))
    floor = max(LEAST_LOGINS / total, LEAST_SHARE, counted.logins[cut[0]] / total if cut else 0.0) if listed else None
    shares = {a: _digits(counted.logins[a] / total) for a in listed}
    return Proposal(
        baselines=Baselines(channels, floor if floor is None else _digits(floor), shares, codes),
        entries=entries,
        logins={a: counted.logins[a] for a in listed},
        all_logins=total,
        first=min(counted.days),
        last=max(counted.days),
        left=tuple(left),
    )


def codes_of(counted: Mapping[Ms, int]) -> Codes | None:
    """The usual number of accounts by hour of the week; None where an hour is not there on three days.

    ``counted``: of stretches by their beginning (ms), those without a code left out. The first and the last may be cut, and do not count;
    nor do those around a hole in the log. The spread is that of each day from the others, in the busier half of the hours, where chance
    moves a count least.
    """
    cells: dict[tuple[int, int], dict[int, Counter[float]]] = {}  # by hour of the week and day
    for begin, end in _unbroken(sorted(counted)):
        for at in range(begin + STRETCH_MS, end, STRETCH_MS):
            cells.setdefault(hour_of_week(at), {}).setdefault(at // DAY_MS, Counter())[counted.get(at, 0)] += 1
    if len(cells) < 7 * 24 or any(len(days) < LEAST_DAYS for days in cells.values()):
        return None
    totals = {cell: sum(days.values(), Counter[float]()) for cell, days in cells.items()}
    usual = {cell: median_of(total.items()) for cell, total in totals.items()}
    busy = median_of((n, 1) for n in usual.values())
    away: Counter[float] = Counter()
    for cell, days in cells.items():
        if usual[cell] >= busy:
            for numbers in days.values():
                others = log1p(median_of((totals[cell] - numbers).items()))
                for n, times in numbers.items():
                    away[abs(log1p(n) - others)] += times
    most = max(usual.values())
    share = 1.0 if most <= USUALLY_COUNTED else _digits(USUALLY_COUNTED / most)
    return Codes(share, _spread(away), tuple(tuple(usual[day, hour] for hour in range(24)) for day in range(7)))


def _unbroken(told: Sequence[Ms]) -> Iterator[tuple[Ms, Ms]]:
    """From where to where the stretches follow each other without a hole."""
    edges = [0, *(n for n in range(1, len(told)) if told[n] - told[n - 1] >= HOLE_MS), len(told)]
    return ((told[a], told[b - 1]) for a, b in pairwise(edges) if a < b)


def latency_of(latencies: Mapping[Ms, int]) -> EntryLatency:
    """Median, and spread on ln(1 + s), of latencies in ms by how often each was seen. Raises ValueError for none.

    >>> latency_of({4000: 1, 9000: 2, 19000: 1})
    EntryLatency(median_s=9.0, spread=0.5138)
    """
    middle = median_of(latencies.items())
    about = log1p(middle / 1000)
    away: Counter[float] = Counter()
    for ms, n in latencies.items():
        away[abs(log1p(ms / 1000) - about)] += n
    return EntryLatency(max(0.001, round(middle / 1000, 3)), _spread(away))


def _spread(away: Counter[float]) -> float:
    """The spread of what lies so far from its median, on ln(1 + x)."""
    return round(max(LEAST_SPREAD, OF_A_NORMAL * median_of(away.items())), 4)


def median_of(values: Iterable[tuple[float, int]]) -> float:
    """The median of values, each with how often it was seen. Raises ValueError for none.

    >>> median_of([(1, 1), (7, 2), (2, 1)])
    4.5
    """
    counted = sorted(values)
    total, seen, low = sum(n for _, n in counted), 0, None
    for value, n in counted:
        seen += n
        if 2 * seen > total:
            return value if low is None else (low + value) / 2
        if 2 * seen == total:
            low = value
    raise ValueError("the median of nothing")


def _digits(share: float) -> float:
    """Four significant digits: more are not known."""
    return float(f"{share:.4g}")


def policy_text(p: Proposal) -> str:
    """The section as a policy file, with what it rests on. What else the policy overrides is not repeated: put it beside."""
    b = p.baselines
    lines = ["Proposed by `offhook baselines`. Nothing is in force until a policy file says so.", f"From {p.first} to {p.last} (UTC)."]
    lines += [f"Left out: {reason}." for reason in p.left]
    text = [*(f"# {line}" for line in lines), "", "[baselines]"]
    if b.user_agent_floor is not None:
        text.append(f"user_agent_floor = {b.user_agent_floor!r}  # what is not listed counts as this common")
    for channel, normal in b.entry_latency.items():
        n, accounts = p.entries[channel]
        text += ["", f"[baselines.entry_latency.{channel}]  # {n:,} entries of {accounts:,} accounts"]
        text += [f"median_s = {normal.median_s!r}", f"spread = {normal.spread!r}  # of ln(1 + s)"]
    if b.codes is not None:
        text += ["", "[baselines.codes]  # accounts that are sent a code in five minutes"]
        text += [f"share = {b.codes.share!r}  # of them is counted", f"spread = {b.codes.spread!r}  # of ln(1 + n)"]
        text += ["accounts = [  # by hour (UTC)"]
        text += [f"  [{', '.join(f'{n:g}' for n in hours)}],  # {name}" for name, hours in zip(day_name, b.codes.accounts, strict=True)]
        text += ["]"]
    if b.user_agents:
        text += ["", f"[baselines.user_agents]  # shares of {p.all_logins:,} logins; each of {LEAST_ACCOUNTS} accounts or more"]
        text += [f"{agent} = {share!r}  # {p.logins[agent]:,} logins" for agent, share in b.user_agents.items()]
    return "\n".join(text) + "\n"
