"""How does OffHook run on Kafka? The commands for operators: worker and topics."""

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from pipeline.commands.load import fail, load_settings
from pipeline.exits import EXITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.live.topics_admin import TopicReport

STAGES = ("ingest", "route", "detect", "campaign")
OPTIONAL = ("drift", "learn", "audit")


def _ended_before_it_began(*_: object) -> NoReturn:
    """Told to end while still being loaded: nothing was read, so nothing is left to do. The worker puts its own handlers in place."""
    sys.exit(0)


def _exit_codes() -> str:
    """The table of exit codes as a paragraph that click leaves as it is."""
    return "\b\nExit codes:\n" + "\n".join(f"  {one.code}  {one.meaning}\n     -> {one.action}" for one in EXITS)


@click.command(epilog=_exit_codes())
@click.option(
    "--stages", default=",".join(STAGES), show_default=True, metavar="NAMES", help="Which stages this command runs, comma separated."
)
@click.option(
    "--with-parent", is_flag=True, hidden=True, help="End when standard input does: how one command for several stages keeps them."
)
def worker(stages: str, with_parent: bool) -> None:
    """Run on Kafka: read the raw topics, write alerts, decisions and holds.

    \b
    ingest    raw topics -> events, lines, beats (the only one that needs the pseudonym key)
    route     lines -> events of the accounts
    detect    events -> alerts, decisions, holds, sightings, examples
    campaign  sightings -> events: one caller, sender, device or address on several accounts; surges of codes
    drift     decisions: tells when a score, a feature or the alert rate has changed, a day at a time (optional)
    learn     examples -> models: learns from verdicts, in a process of its own; needs OFFHOOK_MODEL_KEY_FILE (optional)
    audit     folds a share of the accounts again and says where live differs (optional)

    Configured by OFFHOOK_* (`offhook settings` lists them). In production one process per stage; several stages in one command are as many
    processes, which end together. SIGTERM ends it gracefully: what was read is written and committed.
    """
    chosen = [stage.strip() for stage in stages.split(",") if stage.strip()]
    unknown = sorted(set(chosen) - {*STAGES, *OPTIONAL})
    if unknown or not chosen:
        raise click.UsageError(f"--stages: {', '.join(unknown) or 'nothing'} is no stage; there are {', '.join((*STAGES, *OPTIONAL))}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ended_before_it_began)
    settings = load_settings()
    from pipeline.live.app import run_worker

    sys.exit(run_worker(settings, tuple(chosen), with_parent))


@click.group()
def topics() -> None:
    """Make the topics, or say what is wrong with them."""


@topics.command("create")
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Of every topic that is created (default: as the table of topics says).")
@click.option("--replication", type=click.IntRange(1, 16), help="Copies of each topic (default: as the brokers say).")
def topics_create(partitions: int | None, replication: int | None) -> None:
    """Create the topics that are missing, and say what exists and what is wrong. Changes nothing that exists.

    Exit code 1 if a worker must not start with what is there.
    """
    settings = load_settings()
    from pipeline.live.topics_admin import create

    try:
        reports = create(settings, partitions, replication)
    except OSError as e:
        fail(e)
    _say(reports)


@topics.command("check")
def topics_check() -> None:
    """Say what exists, what is missing and what is wrong. Changes nothing.

    Exit code 1 if a worker must not start with what is there.
    """
    settings = load_settings()
    from pipeline.live.topics_admin import check

    try:
        reports = check(settings)
    except OSError as e:
        fail(e)
    _say(reports)


def _say(reports: "Iterable[TopicReport]") -> None:
    wrong = 0
    for report in reports:
        wrong += not report.ok
        click.echo(str(report))
    if wrong:
        raise click.ClickException(f"{wrong} of the topics cannot be used as they are")
