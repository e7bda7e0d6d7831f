"""How does a seed become a log and its truth on disk: the one entry point of the simulator."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import orjson

from pipeline.simulate.arrivals import REFUSED_AS, Arrivals
from pipeline.simulate.attacker import campaigns
from pipeline.simulate.attacks import ATTACKS
from pipeline.simulate.chance import DAY, HOUR, derived
from pipeline.simulate.days import Plan, Real, live_through
from pipeline.simulate.family import FAMILIES, Family, FamilyName
from pipeline.simulate.labels import labelled
from pipeline.simulate.lookalikes import LOOKALIKES as LOOKALIKE_STORIES
from pipeline.simulate.people import Household, household
from pipeline.simulate.recorded import Recording
from pipeline.simulate.scene import Diary
from pipeline.simulate.shelves import Compression, LogWriter, Shelves, opened
from pipeline.simulate.truth import truth_lines
from pipeline.simulate.views import TELEPHONY, View, bank_rows

K = TypeVar("K")
Progress = Callable[[float, str], None]  # fraction done, and what was done

TESTS = "B16"  # the story of the bank's own monitors and exercises
VERSION = 2  # of the simulator: another number, another log from the same seed
PRIOR = 1 / 150  # so that a morning shows a few dozen; at a bank one in 1,000 to 100,000 (domain.md)
LOOKALIKES = 0.03
COVERAGE = 0.92  # of the lines: few institutions get the calls of every carrier
START = datetime(2026, 3, 2, 8, tzinfo=UTC)  # a Monday morning


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and what a test can reconcile; the content of about.json."""

    version: int
    seed: int
    parameters: dict[str, object]
    log: str  # file name
    truth: str
    policy: str  # file name: names the bank's own test accounts (B16), as a bank would
    records: int
    records_by_topic: dict[str, int]
    first_arrival: int | None
    last_arrival: int | None
    live_from: int
    live_until: int
    households: int
    accounts: int
    challenges: int  # of the log proper, history not counted
    labels: dict[str, int]
    stories: dict[str, int]
    stories_with_call: dict[str, int]
    duplicates: dict[str, int]
    late: dict[str, int]
    malformed: dict[str, int]
    malformed_refused_as: dict[str, int]
    malformed_by_topic: dict[str, int]


def _sums(counts: Counter[K], of: Callable[[K], str]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for key, n in counts.items():
        sums[of(key)] += n
    return dict(sorted(sums.items()))


def _real(seed: int, family: Family, recording: Recording) -> Real:
    own = (household(seed, i, i + 1, family, alone=True).lines[0] for i in range(len(recording.participants)))
    return Real(recording, dict(zip(recording.participants, own, strict=True)))


def _households(plan: Plan, accounts: int) -> Iterator[Household]:
    index, made = 0, 0
    while made < accounts:
        home = household(plan.seed, index, made + 1, plan.family, alone=plan.real is not None)
        yield Household(index, home.customers[: accounts - made])
        made += len(home.customers)
        index += 1


def nothing(fraction: float, text: str) -> None:
    """Report progress to nobody."""


def simulate(
    seed: int,
    accounts: int,
    hours: float,
    out: Path,
    *,
    start: datetime = START,
    history_days: int = 14,
    prior: float | None = None,
    lookalikes: float | None = None,
    feeds: View = "full",
    telephony: Path | None = None,
    coverage: float | None = None,
    family: FamilyName = "a",
    emerging_day: float | None = None,
    wave_hour: float | None = None,
    rush_hour: float | None = None,
    unseen: bool = False,
    stories: Sequence[str] | None = None,
    noise: bool = True,
    all_labels: bool = False,
    compress: Compression = "",
    partitions: int = 4,
    progress: Progress = nothing,
) -> Summary:
    """Write ``log.jsonl``, ``truth.jsonl``, ``policy.toml`` and ``about.json`` into ``out``; the same arguments write the same bytes.

    ``prior``: attacks per challenge of an honest customer; ``lookalikes``: share of those challenges that are a story of their own;
    ``emerging_day``: an attack nobody has seen (:mod:`emerging`) begins so many days in; ``wave_hour``: one customer in twenty is attacked
    within twenty minutes, so many hours in; ``rush_hour``: one in ten logs in again, as when an app has logged everybody out; ``unseen``:
    the variants that no choice was made for (:mod:`unseen`) come on top; ``stories``: only these, apart from those two (names V1 to V14, B1
    to B18); ``all_labels``: dispositions after the end too; ``coverage``: share of the lines whose carrier tells the bank, with full feeds;
    ``telephony``: the folder of a recording (:mod:`recorded`) whose participants are the accounts, by default without any attack or
    look-alike, and whose first midnight is that of the first day of history. Raises ValueError for arguments that make no world, OSError
    where files fail.
    """
    if accounts < 1 or hours <= 0 or history_days < 0 or partitions < 1:
        raise ValueError("accounts, hours and partitions must be positive, history_days not negative")
    if any(hour is not None and not 0 <= hour < hours for hour in (wave_hour, rush_hour)):
        raise ValueError("a wave or rush begins within the hours of the log proper")
    if start.tzinfo is None:
        raise ValueError("start needs an offset from UTC")
    if stories is not None and (unknown := set(stories) - ATTACKS.keys() - LOOKALIKE_STORIES.keys()):
        raise ValueError(f"no such story: {', '.join(sorted(unknown))}")
    live_from = int(start.timestamp() * 1000)
    end = live_from + int(hours * HOUR)
    recording = None if telephony is None else Recording(telephony)
    if recording is not None:
        accounts = min(accounts, len(recording.participants))
    plan = Plan(
        seed=seed,
        family=FAMILIES[family],
        begin=live_from - history_days * DAY,
        live_from=live_from,
        end=end,
        prior=prior if prior is not None else PRIOR if recording is None else 0.0,
        lookalikes=lookalikes if lookalikes is not None else LOOKALIKES if recording is None else 0.0,
        stories=None if stories is None else frozenset(stories),
        campaigns=campaigns(seed, FAMILIES[family], live_from, end),
        emerging=None if emerging_day is None else live_from + int(emerging_day * DAY),
        wave=None if wave_hour is None else live_from + int(wave_hour * HOUR),
        rush=None if rush_hour is None else live_from + int(rush_hour * HOUR),
        unseen=unseen,
        real=None if recording is None else _real(seed, FAMILIES[family], recording),
    )
    coverage = coverage if coverage is not None else COVERAGE if recording is None else 1.0
    out.mkdir(parents=True, exist_ok=True)
    shelves = Shelves(out / ".shelves")
    arrivals = Arrivals(shelves, seed, noise=noise, live_from=live_from)
    counts: Counter[tuple[str, str, bool]] = Counter()
    homes, made = 0, 0
    tests: set[str] = set()
    with (out / "truth.jsonl").open("wb") as truth:
        for home in _households(plan, accounts):
            diary = Diary(home)
            live_through(diary, plan)
            labelled(diary, derived(seed, "labels", homes), None if all_labels else end)
            put = arrivals.household(homes, diary.backlogs)
            for row in bank_rows(diary):
                put(row)
            for row in TELEPHONY[feeds](diary, derived(seed, "view", homes), coverage):
                put(row)
            truth.write(truth_lines(diary))
            tests.update(c.customer.account_id for c in diary.challenges if c.story == TESTS)
            counts.update((c.story, c.label, c.call is not None) for c in diary.challenges if not c.is_history)
            homes += 1
            made += len(home.customers)
            if homes % 200 == 0:
                progress(0.85 * made / accounts, f"{made:,} accounts, {shelves.count:,} records")
    name = "log.jsonl" + (f".{compress}" if compress else "")
    with opened(out / name, compress) as f:
        writer = LogWriter(f, partitions)
        written = 0
        for rows in shelves.in_order():
            writer.write(rows)
            written += len(rows)
            progress(0.85 + 0.15 * written / shelves.count, f"{written:,} of {shelves.count:,} records in order")
    malformed = arrivals.faults
    summary = Summary(
        version=VERSION,
        seed=seed,
        parameters={
            "accounts": accounts,
            "hours": hours,
            "start": start.isoformat(),
            "history_days": history_days,
            "prior": plan.prior,
            "lookalikes": plan.lookalikes,
            "feeds": feeds,
            "family": family,
            **({} if emerging_day is None else {"emerging_day": emerging_day}),
            **({} if wave_hour is None else {"wave_hour": wave_hour}),
            **({} if rush_hour is None else {"rush_hour": rush_hour}),
            **({"unseen": True} if unseen else {}),
            "stories": None if stories is None else sorted(stories),
            "coverage": coverage,
            "real_telephony": recording is not None,
            "noise": noise,
            "all_labels": all_labels,
            "partitions": partitions,
        },
        log=name,
        truth="truth.jsonl",
        policy="policy.toml",
        records=shelves.count,
        records_by_topic=dict(sorted(arrivals.records.items())),
        first_arrival=writer.first,
        last_arrival=writer.last,
        live_from=live_from,
        live_until=end,
        households=homes,
        accounts=made,
        challenges=counts.total(),
        labels=_sums(counts, lambda k: k[1]),
        stories=_sums(counts, lambda k: k[0]),
        stories_with_call=_sums(Counter({k: n for k, n in counts.items() if k[2]}), lambda k: k[0]),
        duplicates=dict(sorted(arrivals.duplicates.items())),
        late=dict(sorted(arrivals.late.items())),
        malformed={k: malformed[k] for k in sorted(malformed)},
        malformed_refused_as=_sums(malformed, lambda k: REFUSED_AS[k]),
        malformed_by_topic=dict(sorted(arrivals.faults_by_topic.items())),
    )
    names = ", ".join(f'"{account}"' for account in sorted(tests))
    (out / "policy.toml").write_text(f"# the bank's own test accounts: assessed, never alerted\ntest_accounts = [{names}]\n")
    (out / "about.json").write_bytes(orjson.dumps(msgspec.to_builtins(summary), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    progress(1.0, f"{shelves.count:,} records")
    return summary
