"""Would the tests notice? Puts the faults of ``mutants`` into copies of the tree, one at a time, and runs the tests that must fail.

    python -m tests.mutation.run [--only NAME ...] [--processes 2]

The tests must pass on the copy as it is first. Prints a table; exit code 1 when a mutant survives, 2 when the list is stale or the
tests fail without any fault.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.mutation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("pipeline", "tests", "deploy", "schemas", "examples", "pyproject.toml", "README.md", "Makefile")
LIMIT_S = 600.0  # a mutant that hangs is noticed too, by this
FAILED, PASSED = 1, 0  # exit codes of pytest


class Found(NamedTuple):
    """What became of a mutant: was it noticed, by which tests, and how long it took (s)."""

    mutant: Mutant
    noticed: bool
    by: str
    seconds: float


def copied(place: Path) -> Path:
    """Copy what tests need to a place of its own."""
    tree = place / "tree"
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"), dirs_exist_ok=True)
        elif source.exists():
            tree.mkdir(exist_ok=True)
            shutil.copy(source, tree / name)
    return tree


def pytest(tree: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Run tests of a copy, to the first failure; returns the exit code and what pytest said. A run that hangs counts as failed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "timeout=0",
        "-m",
        "not broker and not soak",
        *tests,
    ]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return FAILED, f"FAILED tests::it-hangs for {LIMIT_S:.0f} s"
    return ran.returncode, ran.stdout + ran.stderr


def try_one(mutant: Mutant) -> Found:
    """Put one fault into a copy and run its tests."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as place:
        tree = copied(Path(place))
        file = tree / mutant.file
        file.write_text(file.read_text().replace(mutant.original, mutant.replacement))
        code, said = pytest(tree, mutant.tests)
    by = next((line.split(" ")[1].split("::")[-1] for line in said.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))), "")
    if code not in (PASSED, FAILED):
        by = f"pytest ended with {code}: {said.splitlines()[-1] if said else ''}"
    return Found(mutant, code == FAILED, by, time.monotonic() - began)


def stale(mutants: Iterable[Mutant]) -> list[str]:
    """What of the list is no longer about the source."""
    return [m.name for m in mutants if (ROOT / m.file).read_text().count(m.original) != 1]


def run(mutants: list[Mutant], processes: int, console: Console) -> int:
    """Try all; returns the exit code."""
    old = stale(mutants)
    if old:
        console.print(f"the list is stale, the source has changed: {', '.join(old)}")
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="unmutated-") as place:
        code, said = pytest(copied(Path(place)), dict.fromkeys(test for m in mutants for test in m.tests))
    if code != PASSED:
        console.print(said, markup=False)
        console.print("the tests fail without any fault")
        return 2
    console.print(f"without any fault the tests pass ({time.monotonic() - began:.0f} s)")
    found: list[Found] = []
    with ThreadPoolExecutor(processes) as pool:
        for one in pool.map(try_one, mutants):
            found.append(one)
            console.print(f"{'noticed ' if one.noticed else 'SURVIVED'} {one.seconds:5.0f} s  {one.mutant.name}  {one.by}", markup=False)
    table = Table("mutant", "what it breaks", "noticed by", "s")
    for one in found:
        table.add_row(one.mutant.name, one.mutant.breaks, one.by if one.noticed else "NOBODY", f"{one.seconds:.0f}")
    console.print(table)
    survivors = [one.mutant.name for one in found if not one.noticed]
    console.print(f"{len(found) - len(survivors)} of {len(found)} noticed in {time.monotonic() - began:.0f} s")
    return int(bool(survivors))


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of mutants")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    unknown = set(asked.only) - {m.name for m in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    return run([m for m in MUTANTS if not asked.only or m.name in asked.only], asked.processes, Console(width=160))


if __name__ == "__main__":
    sys.exit(main())
