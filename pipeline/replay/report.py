"""What does a person see after a run? A table of the findings, a summary in words, and the score where the truth is known."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.events import Ms
from pipeline.replay.cases import Case
from pipeline.replay.score import Group, Score, Truth
from pipeline.replay.summary import Summary

Truths = dict[tuple[str, str], Truth]  # by account and challenge
MOST_ROWS = 25
MOST_REASONS = 3
MOST_NAMES = 10
WIDE = 110  # columns of a terminal from which tables have lines


def clock(ms: Ms, day: bool = False) -> str:
    """An instant as UTC time of day, with the date where it is needed."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%d %b %H:%M:%S" if day else "%H:%M:%S")


def seconds(value: float | None) -> str:
    """Seconds with a sign, minutes from two on; below zero is before the entry.

    >>> seconds(-12.4), seconds(0.3), seconds(None), seconds(-600)
    ('-12 s', '+0.3 s', 'no entry', '-10 min')
    """
    if value is None:
        return "no entry"
    if abs(value) >= 120:
        return f"{value / 60:+.0f} min"
    return f"{value:+.1f} s" if abs(value) < 10 else f"{value:+.0f} s"


def count(number: int, noun: str) -> str:
    """A number and its noun: 1 alert, 2 alerts, 1,000 alerts."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def reasons(case: Case) -> str:
    """The strongest reasons for the alert, in words."""
    traits = [(float(t.values[0]), t.name) for t in case.peak.finding_info.traits if t.values]
    strongest = sorted((t for t in traits if t[0] > 0), reverse=True)[:MOST_REASONS]
    return ", ".join(name.replace("_", " ") for _, name in strongest)


def _clears(case: Case) -> str:
    """What would have made it benign, to ask: the most telling."""
    return f"\nbenign {case.peak.unmapped.benign_if[0].text}" if case.peak.unmapped.benign_if else ""


def _became(case: Case) -> str:
    return " (withdrawn)" if case.closed else " (suppressed)" if case.heard is None else ""


def _verdict(case: Case, truths: Truths) -> Text:
    truth = truths.get((case.account_id, case.otp_id))
    if truth is None:
        return Text("?")
    if truth.label == "benign":
        return Text(f"false alarm ({truth.story})", style="yellow")
    return Text(f"{truth.label} ({truth.story})", style="green")


def findings_table(cases: list[Case], truths: Truths | None = None, rows: int = MOST_ROWS, wide: bool = True) -> Table:
    """One row per finding, by the time of its first alert; ``wide``: with lines between the columns."""
    shown = cases[:rows]
    more = f"first {rows} of {count(len(cases), 'finding')}" if len(cases) > rows else count(len(cases), "finding")
    title = f"Alerts ({more}; times in UTC, seconds before (-) or after (+) the code was entered)"
    table = Table(title=title, title_justify="left", box=HEAVY_HEAD if wide else SIMPLE_HEAD, padding=(0, 1) if wide else (0, 1, 0, 0))
    days = len({c.first.time // 86_400_000 for c in shown}) > 1
    table.add_column("time", no_wrap=True)
    table.add_column("account", no_wrap=True)
    table.add_column("what happened", min_width=10, ratio=3)
    table.add_column("to entry", justify="right", no_wrap=True)
    table.add_column("prob.", justify="right", no_wrap=True)
    table.add_column("main reasons", min_width=10, ratio=3)
    if truths:
        table.add_column("truth", min_width=9)
    for case in shown:
        after = case.after_entry_s
        lead = Text(seconds(after), style="bold green" if after is None or after < 0 else "")
        row: list[str | Text] = [
            clock(case.first.time, days),
            case.account_id,
            case.peak.finding_info.title + _became(case),
            lead,
            f"{case.peak.unmapped.probability:.2f}",
            reasons(case) + _clears(case),
        ]
        if truths:
            row.append(_verdict(case, truths))
        table.add_row(*row)
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _interval(group: Group, scale: float = 100.0, unit: str = " %") -> str:
    if group.share is None:
        return "-"
    return f"{group.share * scale:.1f}{unit} ({group.low * scale:.1f} to {group.high * scale:.1f})"


def score_table(score: Score) -> Table:
    """One row per variant and look-alike."""
    table = Table(title="By story (share alerted with its 95 % interval)", title_justify="left")
    for name, justify in (("story", "left"), ("truth", "left"), ("challenges", "right"), ("alerted", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # two of rich's literals
    table.add_column("share alerted", justify="right", no_wrap=True)
    table.add_column("before entry", justify="right", no_wrap=True)
    table.add_column("median to entry", justify="right", no_wrap=True)
    for group in score.stories:
        table.add_row(
            group.name,
            group.label,
            f"{group.challenges:,}",
            f"{group.alerted:,}",
            _interval(group),
            f"{group.before_entry} of {group.entered}" if group.entered else "-",
            seconds(group.after_entry_s) if group.after_entry_s is not None else "-",
        )
    return table


def score_lines(score: Score, missed: Sequence[Truth] = ()) -> list[str]:
    """The score in words. ``missed``: the takeovers to name."""
    caught, benign = score.takeovers, score.benign
    rate, low, high = score.false_alarms_per_10k
    lines = [
        f"takeovers     {caught.alerted} caught of {caught.challenges}: {_interval(caught)}, missed {caught.challenges - caught.alerted}",
        *([f"              missed: {_names(missed)}"] if missed else []),
        f"  with a call {score.takeovers_with_call.alerted} of {score.takeovers_with_call.challenges}"
        f", without a call {score.takeovers_without_call.alerted} of {score.takeovers_without_call.challenges}",
        f"lead time     before the entry {_share(caught.before_entry, caught.entered)}, at most 1 s after it "
        f"{_share(caught.within_second, caught.entered)}, at most 60 s after it {_share(caught.within_minute, caught.entered)}"
        + (f"; median {seconds(caught.after_entry_s)}" if caught.after_entry_s is not None else ""),
        f"attempts      {score.attempts.alerted} of {score.attempts.challenges} failed attacks noticed",
        f"false alarms  {benign.alerted} in {benign.challenges:,} benign challenges: {rate:.1f} per 10,000 ({low:.1f} to {high:.1f})",
        f"              of these {score.lookalikes.alerted} in {score.lookalikes.challenges:,} look-alikes "
        f"and {score.plain.alerted} in {score.plain.challenges:,} others",
    ]
    if score.in_history:
        lines.append(f"not counted   {count(score.in_history, 'finding')} in the history, while accounts were still being learned")
    if score.unmatched:
        lines.append(f"unmatched     {count(score.unmatched, 'finding')} about challenges that the truth does not name")
    return lines


def _names(missed: Sequence[Truth]) -> str:
    shown = ", ".join(f"{t.account_id} ({t.story})" for t in missed[:MOST_NAMES])
    return shown if len(missed) <= MOST_NAMES else f"{shown} and {len(missed) - MOST_NAMES} more"


def summary_lines(summary: Summary) -> list[str]:
    """What the run read and said, in words."""
    read = ", ".join(f"{feed} {n:,}" for feed, n in summary.feeds.items())
    lead = summary.lead_time
    lines = [f"read          {count(summary.records, 'record')} ({read}), {count(summary.accounts, 'account')}"]
    if summary.first_arrival is not None and summary.last_arrival is not None:
        lines.append(f"log time      {clock(summary.first_arrival, day=True)} to {clock(summary.last_arrival, day=True)} UTC")
    lines.append(
        f"said          {count(summary.findings, 'finding')} in {count(sum(summary.alerts.values()), 'alert')}, "
        f"{count(sum(summary.decisions.values()), 'decision')}, {count(summary.holds, 'hold')}"
    )
    if lead.findings:
        lines.append(
            f"              {lead.before_entry} of {lead.findings} findings with an entry came before it; "
            f"median {seconds(lead.median_s)}; {summary.never_entered} were never entered"
        )
    if summary.dead_letters:
        refused = ", ".join(f"{reason} {n:,}" for reason, n in summary.dead_letters.items())
        lines.append(f"set aside     {refused} (dead-letters.jsonl)")
    if summary.other_topics:
        lines.append(f"not read      {', '.join(f'{topic} {n:,}' for topic, n in summary.other_topics.items())}")
    return lines


def console(stderr: bool = False) -> Console:
    """A console that does not break tables when its output is piped."""
    plain = Console(stderr=stderr, highlight=False)
    return plain if plain.is_terminal else Console(stderr=stderr, highlight=False, width=max(plain.width, 160), soft_wrap=False)
