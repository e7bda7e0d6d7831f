"""How does OffHook run on Kafka? The commands for operators: worker, topics, dead-letters."""

import sys
from collections.abc import Iterable

import click

from pipeline.commands.load import load_settings

STAGES = ("ingest", "route", "detect")


@click.command()
@click.option("--stages", default=",".join(STAGES), show_default=True, help="Which stages this process runs, comma separated.")
def worker(stages: str) -> None:
    """Run on Kafka: read the raw topics, write alerts, decisions and holds. Configured by OFFHOOK_* (see `offhook settings`).

    One process per stage in production, all in one for a trial. SIGTERM ends it gracefully.
    """
    chosen = [stage.strip() for stage in stages.split(",") if stage.strip()]
    unknown = sorted(set(chosen) - set(STAGES))
    if unknown or not chosen:
        raise click.UsageError(f"--stages: {', '.join(unknown) or 'nothing'} is no stage; there are {', '.join(STAGES)}")
    settings = load_settings()
    from pipeline.live.app import run_worker

    sys.exit(run_worker(settings, tuple(chosen)))


@click.group()
def topics() -> None:
    """Make the topics, or say what is wrong with them."""


@topics.command("create")
def topics_create() -> None:
    """Create the topics that are missing, and say what exists and what is wrong. Changes nothing that exists."""
    from pipeline.live.topics_admin import create

    _say_topics(create(load_settings()))


@topics.command("check")
def topics_check() -> None:
    """Say what exists, what is missing and what is wrong. Changes nothing. Exit code 1 if anything is."""
    from pipeline.live.topics_admin import check

    _say_topics(check(load_settings()))


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be read."""


def _say_topics(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
