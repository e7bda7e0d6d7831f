"""How does a seed become a log and its truth on disk: the one entry point of the simulator."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import orjson

from pipeline.simulate.arrivals import REFUSED_AS, Arrivals
from pipeline.simulate.attacker import campaigns
from pipeline.simulate.chance import DAY, HOUR, derived
from pipeline.simulate.days import live_through
from pipeline.simulate.family import FAMILIES, FamilyName
from pipeline.simulate.labels import labelled
from pipeline.simulate.people import Household, household
from pipeline.simulate.scene import Diary
from pipeline.simulate.shelves import Compression, LogWriter, Progress, Shelves, opened
from pipeline.simulate.truth import truth_lines
from pipeline.simulate.views import TELEPHONY, View, bank_rows

K = TypeVar("K")

VERSION = 1  # of the simulator: another number, another log from the same seed
START = datetime(2026, 3, 2, 8, tzinfo=UTC)  # a Monday morning


class Window(msgspec.Struct, frozen=True):
    """The days before, and the log proper: ms since the epoch."""

    begin: int
    live_from: int
    end: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and what a test can reconcile; the content of about.json."""

    version: int
    seed: int
    parameters: dict[str, object]
    log: str  # file name
    truth: str
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
    prior: float = 1 / 150,
    lookalikes: float = 0.03,
    feeds: View = "full",
    family: FamilyName = "a",
    stories: Sequence[str] | None = None,
    noise: bool = True,
    all_labels: bool = False,
    compress: Compression = "",
    partitions: int = 4,
    progress: Progress = nothing,
) -> Summary:
    """Write ``log.jsonl``, ``truth.jsonl`` and ``about.json`` into ``out``; the same arguments write the same bytes.

    ``prior``: attacks per challenge of an honest customer; ``lookalikes``: share of those challenges that are a story of their
    own; ``stories``: only these (names V1 to V14, B1 to B18); ``all_labels``: dispositions after the end too.
    """
    if accounts < 1 or hours <= 0 or history_days < 0 or partitions < 1:
        raise ValueError("accounts, hours and partitions must be positive, history_days not negative")
    if start.tzinfo is None:
        raise ValueError("start needs an offset from UTC")
    live_from = int(start.timestamp() * 1000)
    window = Window(live_from - history_days * DAY, live_from, live_from + int(hours * HOUR))
    chosen = FAMILIES[family]
    running = campaigns(seed, chosen, window.live_from, window.end)
    out.mkdir(parents=True, exist_ok=True)
    shelves = Shelves(out / ".shelves")
    arrivals = Arrivals(shelves, seed, noise=noise, live_from=live_from)
    counts: Counter[tuple[str, str, bool]] = Counter()
    homes, made = 0, 0
    with (out / "truth.jsonl").open("wb") as truth:
        while made < accounts:
            home = household(seed, homes, made + 1, chosen)
            if made + len(home.customers) > accounts:
                home = Household(home.index, home.customers[: accounts - made])
            diary = Diary(home)
            live_through(diary, seed, chosen, window_begin=window.begin, live_from=live_from, end=window.end, prior=prior,
                         lookalikes=lookalikes, stories=stories, running=running)  # fmt: skip
            labelled(diary, derived(seed, "labels", homes), None if all_labels else window.end)
            put = arrivals.household(homes, diary.backlogs)
            for row in bank_rows(diary):
                put(row)
            for row in TELEPHONY[feeds](diary, derived(seed, "view", homes)):
                put(row)
            truth.write(truth_lines(diary))
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
            "prior": prior,
            "lookalikes": lookalikes,
            "feeds": feeds,
            "family": family,
            "stories": None if stories is None else sorted(stories),
            "noise": noise,
            "all_labels": all_labels,
            "partitions": partitions,
        },
        log=name,
        truth="truth.jsonl",
        records=shelves.count,
        records_by_topic=dict(sorted(arrivals.records.items())),
        first_arrival=writer.first,
        last_arrival=writer.last,
        live_from=live_from,
        live_until=window.end,
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
    (out / "about.json").write_bytes(orjson.dumps(msgspec.to_builtins(summary), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    progress(1.0, f"{shelves.count:,} records")
    return summary
