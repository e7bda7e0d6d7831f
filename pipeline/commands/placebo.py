"""How many false alarms are there to expect, before there is any label? The command ``offhook placebo``."""

from pathlib import Path

import click

from pipeline.commands.load import FILE, PSEUDONYMS, BadInput, fail, load_policy, load_pseudonyms


@click.command()
@click.argument("logs", nargs=-1, type=FILE, metavar="LOG...", required=True)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 1000), help="How often the calls are moved.")
@click.option("--seed", default=1, show_default=True, help="Decides by how many days each phone's calls move.")
@click.option("--warm-up", type=click.IntRange(min=0), metavar="DAYS",
              help="Days at the beginning to learn habits from, not counted (default: a third of the log, 14 at most).")  # fmt: skip
@click.option("--policy", "policy_file", type=FILE, help="TOML file that overrides parts of the policy (see `offhook policy show`).")
@PSEUDONYMS
@click.option("--demo-key", is_flag=True, help="Use the well-known key: for simulated logs, whose numbers belong to nobody.")
@click.option("--prefix", default="", help="Prefix of the topic names in the log.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as JSON too.")
def placebo(logs: tuple[Path, ...], rounds: int, seed: int, warm_up: int | None, policy_file: Path | None, key_file: Path | None,
            demo_key: bool, prefix: str, out: Path | None) -> None:  # fmt: skip
    """Measure on your own LOG how often calls alarm by chance. Needs no labels: run it before you go live.

    Every phone's calls and messages are moved by a random number of days, so that they have nothing to do with the codes any more; each
    alert that needs them is then a coincidence. Raw topics in the form of `kcat -C -J`, two days at least, better weeks.
    """
    import msgspec
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from pipeline.replay.placebo import Experiment, TooShort, lines
    from pipeline.replay.report import console
    from pipeline.replay.run import Progress as Told
    from pipeline.wire.log import InvalidLog

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} records"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
            reading = bar.add_task("reading the log", total=None)
            experiment = Experiment(
                logs, load_policy(policy_file), load_pseudonyms(key_file, demo_key), seed=seed, prefix=prefix, warm_up=warm_up
            )
            bar.remove_task(reading)

            def watch(what: str, records: int) -> Told:
                task = bar.add_task(what, total=records)
                return lambda done, _: bar.update(task, completed=done)

            result = experiment.run(rounds, watch)
    except (TooShort, InvalidLog) as e:
        raise BadInput(str(e)) from None
    except (ValueError, OSError) as e:
        fail(e)
    for line in lines(result, logs):
        click.echo(line)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(msgspec.json.format(msgspec.json.encode(result, order="deterministic"), indent=2) + b"\n")
        click.echo(f"written       {out}")
