"""What is a measurement? A number with its unit, beside its baseline, and the bar that it must clear; and on what machine it was taken."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
from rich.table import Table

PACKAGES = ("faust-streaming", "aiokafka", "msgspec", "orjson", "river")


class Figure(msgspec.Struct, frozen=True):
    """One measurement. ``ratio`` is to the baseline of the same run; ``bar`` is what must hold, ``holds`` whether it does."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    bar: str | None = None
    holds: bool | None = None
    note: str = ""


class Section(msgspec.Struct, frozen=True):
    """The figures of one section, and how long measuring took (s)."""

    name: str
    figures: list[Figure]
    seconds: float
    failure: str | None = None  # why it could not be measured to its end


class Bench(msgspec.Struct, frozen=True):
    """What ``out/bench.json`` holds."""

    machine: str
    versions: dict[str, str]
    sections: list[Section]


def held(figure: Figure, kind: Literal["at least", "below"], bar: float, ratio: float | None = None) -> Figure:
    """The figure with its bar: a value, and a ratio to the baseline where one is asked for too."""
    ok = figure.value >= bar if kind == "at least" else figure.value < bar
    text = f"{kind} {bar:,g}"
    if ratio is not None:
        ok = ok and figure.ratio is not None and figure.ratio >= ratio
        text += f", {ratio:g}x"
    return msgspec.structs.replace(figure, bar=text, holds=ok)


def machine() -> str:
    """Processor, cores and memory, as far as the system tells."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def versions() -> dict[str, str]:
    """What runs."""
    return {"python": platform.python_version(), "offhook": version("offhook")} | {p: version(p) for p in PACKAGES}


def table(section: Section) -> Table:
    """A section for people."""
    shown = Table(f"{section.name} ({section.seconds:.0f} s)")
    for name in ("value", "unit", "to baseline", "bar"):
        shown.add_column(name, justify="left" if name == "unit" else "right")
    shown.add_column("note")
    for f in section.figures:
        value = f"{f.value:,.0f}" if f.value >= 100 else f"{f.value:,.2f}" if f.value < 10 else f"{f.value:,.1f}"
        bar = "" if f.bar is None else f"{f.bar} [green]✓[/]" if f.holds else f"{f.bar} [red]missed[/]"
        shown.add_row(f.name, value, f.unit, "" if f.ratio is None else f"{f.ratio:.1f}x", bar, f.note)
    return shown


def missed(sections: Iterable[Section]) -> list[str]:
    """Every bar that does not hold, and every section that failed."""
    out = [f"{s.name}: {f.name} is {f.value:,.2f} {f.unit}, not {f.bar}" for s in sections for f in s.figures if f.holds is False]
    return out + [f"{s.name}: {s.failure}" for s in sections if s.failure is not None]
