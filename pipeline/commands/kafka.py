"""How does OffHook run on Kafka? The commands for operators: worker and topics."""

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from pipeline.commands.load import fail, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.live.topics_admin import TopicReport

STAGES = ("ingest", "route", "detect")


def _ended_before_it_began(*_: object) -> NoReturn:
    """Told to end while still being loaded: nothing was read, so nothing is left to do. The worker puts its own handlers in place."""
    sys.exit(0)


@click.command()
@click.option("--stages", default=",".join(STAGES), show_default=True, help="Which stages this process runs, comma separated.")
def worker(stages: str) -> None:
    """Run on Kafka: read the raw topics, write alerts, decisions and holds.

    Configured by OFFHOOK_* (see `offhook settings`). One process per stage in production, all in one for a trial. SIGTERM ends it
    gracefully. Exit code 0 after a graceful end, 1 after a failure, 2 when it may not start.
    """
    chosen = [stage.strip() for stage in stages.split(",") if stage.strip()]
    unknown = sorted(set(chosen) - set(STAGES))
    if unknown or not chosen:
        raise click.UsageError(f"--stages: {', '.join(unknown) or 'nothing'} is no stage; there are {', '.join(STAGES)}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ended_before_it_began)
    settings = load_settings()
    from pipeline.live.app import run_worker

    sys.exit(run_worker(settings, tuple(chosen)))


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
