"""What is a measurement? A number with its unit, beside its baseline, and the bar that it must clear; and on what machine it was taken."""

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
from rich.table import Table

from deploy.local_kafka import KafkaUnavailable, java_version, kafka_version

PACKAGES = ("faust-streaming", "aiokafka", "uvloop", "msgspec", "orjson", "river")


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
    commit: str = ""  # of what: the commit, with a + where more than it was measured


class Bench(msgspec.Struct, frozen=True):
    """What ``out/bench.json`` holds: of each section the newest, all on one machine and with the same versions."""

    machine: str
    versions: dict[str, str]
    sections: list[Section]

    def after(self, before: "Bench", order: Iterable[str]) -> "Bench":
        """This run, and the sections of an earlier one that it left out, where that one is comparable."""
        kept = before.sections if (before.machine, before.versions) == (self.machine, self.versions) else []
        newest = {s.name: s for s in (*kept, *self.sections)}
        return msgspec.structs.replace(self, sections=[newest[name] for name in order if name in newest])


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


def commit() -> str:
    """The commit that is measured, with a + where files differ from it; empty outside of a repository."""
    try:
        head, changed = (
            subprocess.run(["git", *said], check=True, capture_output=True, text=True).stdout.strip()
            for said in (("rev-parse", "--short=10", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")


def versions() -> dict[str, str]:
    """What runs, the broker and its Java included."""
    return {"python": platform.python_version(), "offhook": version("offhook")} | {p: version(p) for p in PACKAGES} | broker()


@cache
def broker() -> dict[str, str]:
    """What the figures of live were taken on: the local Kafka, unless KAFKA_BOOTSTRAP names a broker, which does not tell its version."""
    if os.environ.get("KAFKA_BOOTSTRAP"):
        return {"kafka": "as KAFKA_BOOTSTRAP names it"}
    try:
        return {"kafka": kafka_version(), "java": java_version()}
    except KafkaUnavailable:  # then only what needs no broker is measured
        return {}


def rounded(value: float) -> str:
    """A value for people: three figures of it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}" if value < 10 else f"{value:,.1f}"


def markdown(bench: Bench) -> str:
    """The README's table: what has a bar, and what it is compared with."""
    measured = ", ".join(f"{name} {number}" for name, number in bench.versions.items())
    lines = [f"Made by `make bench` on {bench.machine}; {measured}:", "", "| what | measured | bar | commit |", "|---|---|---|---|"]
    for section in bench.sections:
        for f in section.figures:
            if f.bar is not None:
                ratio = "" if f.ratio is None else f", {f.ratio:.1f}x the baseline"
                kept = f.bar if f.holds else f"{f.bar}: **missed**"
                note = f" ({f.note})" if f.note else ""
                lines.append(f"| {f.name.strip()} | {rounded(f.value)} {f.unit}{ratio}{note} | {kept} | `{section.commit}` |")
    return "\n".join(lines)


def into_readme(mark: str, text: str, readme: Path) -> None:
    """Replace what stands between the two marks of that name. Raises ValueError where they are not both there."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    head, found, rest = readme.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{readme} has no place for {mark}: {begin.strip()} and {end}")
    readme.write_text(f"{head}{begin}{text}\n{end}{tail}")


def table(section: Section) -> Table:
    """A section for people."""
    shown = Table(f"{section.name} ({section.seconds:.0f} s)")
    for name in ("value", "unit", "to baseline", "bar"):
        shown.add_column(name, justify="left" if name == "unit" else "right")
    shown.add_column("note")
    for f in section.figures:
        bar = "" if f.bar is None else f"{f.bar} [green]✓[/]" if f.holds else f"{f.bar} [red]missed[/]"
        shown.add_row(f.name, rounded(f.value), f.unit, "" if f.ratio is None else f"{f.ratio:.1f}x", bar, f.note)
    return shown


def missed(sections: Iterable[Section]) -> list[str]:
    """Every bar that does not hold, and every section that failed."""
    out = [f"{s.name}: {f.name} is {f.value:,.2f} {f.unit}, not {f.bar}" for s in sections for f in s.figures if f.holds is False]
    return out + [f"{s.name}: {s.failure}" for s in sections if s.failure is not None]
