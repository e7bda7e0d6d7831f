"""Which threshold would have met the budget of alerts? The command ``offhook budget``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.load import FILE, NEW_FILE, BadInput, fail, instant, load_policy, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--alerts-per-day", "budget", type=click.IntRange(min=1), help="The budget; without it the policy's, if it states one.")
@click.option("--policy", "policy_file", type=FILE, help="TOML file that overrides parts of the policy (see `offhook policy show`).")
@click.option("--truth", type=FILE, help="What happened, of a simulated log (truth.jsonl).")
@click.option(
    "--dispositions", "logs", multiple=True, type=FILE, help="A log of `dispositions`: what is known of the incidents. Repeatable."
)
@click.option("--choose-days", type=click.IntRange(min=1), help="How many of the first days to choose on (default: two thirds).")
@click.option(
    "--met",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the chosen days on which it must be met.",
)
@click.option("--kafka", metavar="HOST:PORT", help="Read the topics decisions and dispositions of a Kafka; commits nothing.")
@click.option("--since", metavar="TIME", help="With --kafka: from this time on (RFC 3339).")
@click.option("--until", metavar="TIME", help="With --kafka: up to this time (RFC 3339), or to the end.")
@click.option("--out", type=NEW_FILE, help="Write the proposal as a policy file too.")
def budget(folders: tuple[Path, ...], budget: int | None, policy_file: Path | None, truth: Path | None, logs: tuple[Path, ...],
           choose_days: int | None, met: float, kafka: str | None, since: str | None, until: str | None,
           out: Path | None) -> None:  # fmt: skip
    """Propose the alert threshold that would have met a budget of alerts per day on past days.

    FOLDERS are those of replays; or --kafka. It is chosen on the first days and shown on the next: how many alerts there would have
    been, and what of them is known. Nothing changes by itself: read the proposal, measure it with `offhook evaluate --policy`, then put it
    into the policy.
    """
    from pipeline.replay.budget import Past, lines, policy_text, propose
    from pipeline.replay.score import read_truth
    from pipeline.wire.log import InvalidLog

    if bool(folders) == bool(kafka):
        raise click.UsageError("name the folders of replays, or --kafka HOST:PORT --since TIME")
    policy = load_policy(policy_file)
    most = budget or policy.budget.alerts_per_day
    if most is None:
        raise click.UsageError("--alerts-per-day: the policy states no budget")
    past = Past()
    try:
        for topic, value in _kafka(kafka, since, until) if kafka else _files(folders, logs):
            (past.decision if topic == "decisions" else past.disposition)(value)
        past.know(read_truth(truth) if truth else ())
        found = propose(past, policy, most, choose_days, met)
    except FileNotFoundError as e:
        raise BadInput(f"{e.filename}: not there; is it the folder of a replay?") from None
    except (InvalidLog, ValueError) as e:
        raise BadInput(str(e)) from None
    except OSError as e:
        fail(e)
    for line in lines(found):
        click.echo(line)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(policy_text(found), encoding="utf-8")
        click.echo(f"file          {out}; nothing is in force until OFFHOOK_POLICY_FILE names a policy with it")


def _files(folders: tuple[Path, ...], logs: tuple[Path, ...]) -> "Iterator[tuple[str, bytes]]":
    from pipeline.wire.log import read_log

    for folder in folders:
        for record in read_log(folder / "decisions.jsonl"):
            if record.value is not None:
                yield "decisions", record.value
    for log in logs:
        for record in read_log(log):
            if record.topic.endswith("dispositions") and record.value is not None:
                yield "dispositions", record.value


def _kafka(bootstrap: str, since: str | None, until: str | None) -> "Iterator[tuple[str, bytes]]":
    import msgspec

    from pipeline.replay.kafka_source import read_kafka

    if since is None:
        raise click.UsageError("--kafka needs --since TIME (RFC 3339, such as 2026-11-22T08:00:00Z)")
    settings = msgspec.structs.replace(load_settings(), brokers=bootstrap)
    span = (instant(since, "--since"), instant(until, "--until") if until else None)
    for record in read_kafka(settings.connection(), *span, ("decisions", "dispositions"), settings.prefix):
        if record.value is not None:
            yield record.topic.removeprefix(settings.prefix), record.value
