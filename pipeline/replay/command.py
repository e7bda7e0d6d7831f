"""How does a person run a replay? Reads logs, shows progress while folding, and prints what came out; demo and command line share it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline.core.champion import Shelf
from pipeline.core.events import Feed, Ms
from pipeline.core.policy import Policy
from pipeline.replay.cases import read_cases
from pipeline.replay.report import WIDE, clock, findings_table, score_lines, score_table, summary_lines
from pipeline.replay.run import Progress as Watch
from pipeline.replay.run import Replay
from pipeline.replay.score import Truth, missed, read_truth, score
from pipeline.replay.summary import Summary
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.log import LogRecord
from pipeline.wire.pseudonym import Pseudonyms


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to replay and how. ``truth``: a truth file to score against. ``expected``: how many records there are, if known.
    ``stories``: print the score by story too.
    """

    out: Path
    policy: Policy
    pseudonyms: Pseudonyms
    dead_letters: DeadLetters
    truth: Path | None = None
    without: tuple[Feed, ...] = ()
    strict: bool = False
    drain: bool = True
    prefix: str = ""
    expected: int | None = None
    quiet: bool = False
    models: Shelf | None = None
    stories: bool = True


@contextmanager
def _watching(console: Console, expected: int | None) -> Iterator[Watch]:
    """Show a bar where the terminal can, and nothing where the output is piped."""
    columns = [
        SpinnerColumn(),
        TextColumn("replaying"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} records, {task.fields[rate]:,.0f}/s"),
    ]
    columns += [TextColumn("log time {task.fields[log_time]}"), TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replay", total=expected, rate=0.0, log_time="")
        began = perf_counter()

        def watch(records: int, arrival: Ms) -> None:
            rate = records / max(perf_counter() - began, 1e-9)
            bar.update(task, completed=records, rate=rate, log_time=clock(arrival, day=True))

        yield watch


def run_replay(records: Iterable[LogRecord], request: Request, console: Console, progress: Console) -> Summary:
    """Replay and print. Raises what Replay raises, and ValueError for a truth file that cannot be read."""
    truths = read_truth(request.truth) if request.truth else []
    replay = Replay(
        request.policy,
        request.pseudonyms,
        request.out,
        dead_letters=request.dead_letters,
        without=request.without,
        prefix=request.prefix,
        strict=request.strict,
        drain=request.drain,
        models=request.models,
    )
    began = perf_counter()
    with _watching(progress, request.expected) as watch:
        summary = replay.run(records, None if request.quiet else watch)
    took = perf_counter() - began
    show(request.out, summary, truths, console, table=not request.quiet, stories=request.stories)
    console.print(f"took          {took:.1f} s, {summary.records / took:,.0f} records/s")
    return summary


def show(out: Path, summary: Summary, truths: list[Truth], console: Console, table: bool = True, stories: bool = True) -> None:
    """Print the findings, the summary and, where the truth is known, the score."""
    cases = read_cases(out)
    known = {(t.account_id, t.otp_id): t for t in truths}
    shown = [case for case in cases if not ((truth := known.get((case.account_id, case.otp_id))) and truth.history)]
    if table and shown:
        console.print(findings_table(shown, known, wide=console.width >= WIDE))
        console.print()
    scored = score(truths, cases) if truths else None
    if scored is not None and table and stories:
        console.print(score_table(scored))
        console.print()
    lines = summary_lines(summary)
    if scored is not None:
        lines += score_lines(scored, missed(truths, cases))
    for line in lines:
        console.print(line)
    for name, what in (
        ("alerts.jsonl", "for case management"),
        ("decisions.jsonl", "for audit"),
        ("holds.jsonl", "for the login server"),
        ("examples.jsonl", "for learning"),
        ("dead-letters.jsonl", "what could not be read"),
        ("summary.json", "the counts"),
    ):
        console.print(f"{'files' if name == 'alerts.jsonl' else '':13} {out / name} ({what})")
