"""How fast is it? ``make bench``: replay by stage, live beside a plain Faust agent, in one run on one machine; writes out/bench.json.

python -m tests.bench.run [--accounts 20000] [--hours 2] [--no-live]
"""

import argparse
import gc
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import msgspec
from rich.console import Console
from rich.table import Table

from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.replay.run import Replay, few_collections
from pipeline.simulate.run import simulate
from pipeline.wire.ingest import Addressed, Ingest
from pipeline.wire.log import merge_logs
from pipeline.wire.pseudonym import Pseudonyms

OUT = Path("out")
SEED = 11
PACKAGES = ("faust-streaming", "aiokafka", "msgspec", "orjson", "river")


class Figure(msgspec.Struct, frozen=True):
    """One measurement. ``per_second`` in raw records; ``micros`` per raw record; ``ratio`` to the baseline of the same run."""

    name: str
    per_second: float | None = None
    micros: float | None = None
    ratio: float | None = None
    note: str = ""


class Bench(msgspec.Struct, frozen=True):
    """What ``out/bench.json`` holds."""

    machine: str
    versions: dict[str, str]
    log: dict[str, object]
    replay: list[Figure]
    live: list[Figure]


def machine() -> str:
    """Processor, cores and memory, as far as the system tells."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def timed(work: Callable[[], int], times: int) -> tuple[float, int]:
    """The least time of a few runs (s), and what the last one returned."""
    least, result = float("inf"), 0
    for _ in range(times):
        gc.collect()
        with few_collections():  # as Replay does, so that the passes compare
            began = perf_counter()
            result = work()
            least = min(least, perf_counter() - began)
    return least, result


def measure_replay(log: Path, times: int) -> tuple[list[Figure], int, float]:
    """Throughput of the embedded driver, and what each stage adds: every pass does the work of the one before and one stage more.

    Returns the figures, the number of records, and the events folded per second, which compares with a plain agent on ``events``.
    """
    policy, keys = Policy(), Pseudonyms.for_demo()

    def ingested() -> Iterator[Addressed]:
        read = Ingest(policy, keys).read
        for record in merge_logs([log]):
            yield from read(record.topic, record.value, record.ts)

    def routed() -> Iterator[object]:
        router, offset = Router(policy), 0
        for topic, _, event in ingested():
            if topic == "events":
                yield event
            else:
                yield from router.fold(offset, event)  # type: ignore[arg-type]
                offset += 1

    def folded() -> int:
        partition, outcomes = Partition(policy), 0
        for offset, event in enumerate(routed()):
            outcomes += len(partition.fold(offset, event))  # type: ignore[arg-type]
        return outcomes

    def whole() -> int:
        with tempfile.TemporaryDirectory() as folder:
            return Replay(policy, keys, Path(folder)).run(merge_logs([log])).events

    stages: list[tuple[str, Callable[[], int]]] = [
        ("read and merge the log", lambda: sum(1 for _ in merge_logs([log]))),
        ("ingest", lambda: sum(1 for _ in ingested())),
        ("route", lambda: sum(1 for _ in routed())),
        ("fold", folded),
        ("beats, encode and write", whole),
    ]
    figures, before, records, result = [], 0.0, 0, 0
    for name, work in stages:
        seconds, result = timed(work, times)
        records = records or result
        figures.append(Figure(f"  {name}", micros=(seconds - before) / records * 1e6))
        before = seconds
    note = f"from the file to the outputs; {result:,} events folded"
    whole_run = Figure("replay, one process", per_second=records / before, micros=before / records * 1e6, note=note)
    return [whole_run, *figures], records, result / before


def measure_live(log: Path) -> list[Figure]:
    """The live figures, each with its ratio to a plain Faust agent in the same run."""
    from tests.bench import live_bench

    return [msgspec.convert(figure, Figure) for figure in live_bench.measure(log)]


def table(bench: Bench) -> Table:
    """The figures as a table."""
    shown = Table("what")
    for name in ("raw records/s", "µs per record", "to baseline"):
        shown.add_column(name, justify="right")
    shown.add_column("note")
    for figure in (*bench.replay, *bench.live):
        shown.add_row(
            figure.name,
            "" if figure.per_second is None else f"{figure.per_second:,.0f}",
            "" if figure.micros is None else f"{figure.micros:.1f}",
            "" if figure.ratio is None else f"{figure.ratio:.1f}x",
            figure.note,
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure replay and live throughput.")
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--times", type=int, default=3, help="how often each pass is run; the fastest counts")
    parser.add_argument("--no-live", action="store_true", help="leave out what needs a broker")
    chosen = parser.parse_args()
    console = Console(width=150)
    folder = OUT / "bench"
    with console.status("simulating"):
        made = simulate(SEED, chosen.accounts, chosen.hours, folder, history_days=0, noise=False)
    log = folder / made.log
    console.print(f"{made.records:,} records of {made.accounts:,} accounts in {chosen.hours:g} h of log time (seed {SEED})")
    replay, records, events_per_s = measure_replay(log, chosen.times)
    console.print(f"replay: {replay[0].per_second or 0:,.0f} records/s, {replay[0].micros or 0:.1f} µs a record")
    live: list[Figure] = []
    failure: Exception | None = None
    try:
        live = [] if chosen.no_live else measure_live(log)
    except (AssertionError, OSError, RuntimeError) as e:  # what was measured is still told
        failure = e
    baseline = next((figure.per_second for figure in live if figure.ratio == 1.0), None)
    if baseline:
        replay[0] = msgspec.structs.replace(replay[0], ratio=events_per_s / baseline)
    bench = Bench(
        machine=machine(),
        versions={"python": platform.python_version(), "offhook": version("offhook")} | {p: version(p) for p in PACKAGES},
        log={"seed": SEED, "accounts": made.accounts, "hours": chosen.hours, "records": records},
        replay=replay,
        live=live,
    )
    console.print(f"{bench.machine}; {', '.join(f'{name} {number}' for name, number in bench.versions.items())}")
    console.print(table(bench))
    (OUT / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode(bench), indent=2) + b"\n")
    console.print(f"written to {OUT / 'bench.json'}")
    if failure is not None:
        sys.exit(f"the live figures could not be measured: {failure}")


if __name__ == "__main__":
    main()
