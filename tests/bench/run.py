"""How fast is it? ``make bench``: every figure beside its baseline and its bar, in one run on one machine; writes out/bench.json.

With ``--only``, the other sections there stay as an earlier run on the same machine and with the same versions left them.

python -m tests.bench.run [--only throughput,latency] [--check] [--idle-minutes 10] [--readme README.md]
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
from rich.console import Console

from pipeline.simulate.run import simulate
from tests.bench import embedded, growth, latency, models, recovery, stores, throughput, traffic
from tests.bench.figure import Bench, Figure, Section, commit, into_readme, machine, markdown, missed, table, versions

OUT = Path("out")
IDLE_S = 15.0


@cache
def log() -> Path:
    """Four hours of a bank of 20,000, simulated when it is first asked for."""
    folder = OUT / "bench"
    return folder / simulate(traffic.SEED, 20_000, 4.0, folder, history_days=0, noise=False).log


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure throughput, latency, recovery, memory and growth.")
    parser.add_argument(
        "--only", default="", help="sections, with commas between: replay, throughput, latency, idle, recovery, growth, stores"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar does not hold")
    parser.add_argument("--idle-minutes", type=float, default=IDLE_S / 60, help="how long nothing happens before the first event is timed")
    parser.add_argument("--readme", type=Path, help="write what has a bar into this README, sections of earlier runs included")
    chosen = parser.parse_args()
    sections: dict[str, Callable[[], list[Figure]]] = {
        "replay": lambda: embedded.measure(log()),
        "throughput": lambda: throughput.measure(log()),
        "latency": latency.measure,
        "idle": lambda: latency.measure_idle(60 * chosen.idle_minutes),
        "recovery": recovery.measure,
        "growth": growth.measure,
        "stores": stores.measure,
        "models": models.measure,
    }
    wanted = chosen.only.split(",") if chosen.only else list(sections)
    if unknown := set(wanted) - sections.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    console = Console(width=200)
    console.print(f"{machine()}; {', '.join(f'{name} {number}' for name, number in versions().items())}")
    found = [_measured(name, sections[name], console) for name in wanted]
    OUT.mkdir(exist_ok=True)
    file = OUT / "bench.json"
    bench = Bench(machine(), versions(), found)
    if file.exists():
        bench = bench.after(msgspec.json.decode(file.read_bytes(), type=Bench), sections)
    if chosen.readme is not None:
        into_readme("bench", markdown(bench), chosen.readme)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(bench), indent=2) + b"\n")
    wrong = missed(found)
    console.print("\n".join([f"written to {file}", *(wrong or ["every bar holds"])]))
    if any(section.failure for section in found) or (chosen.check and wrong):
        sys.exit(1)


def _measured(name: str, measure: Callable[[], list[Figure]], console: Console) -> Section:
    figures, failure, began, measured = list[Figure](), None, time.monotonic(), commit()
    try:
        figures = measure()
    except (AssertionError, OSError, RuntimeError) as e:  # what else was measured is still told
        failure = f"{type(e).__name__}: {e}"
    section = Section(name, figures, time.monotonic() - began, failure, measured)
    console.print(table(section))
    return section


if __name__ == "__main__":
    main()
