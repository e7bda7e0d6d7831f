"""Which model would have served better? The command ``offhook models compare``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.load import FILE, BadInput, fail, load_policy, load_settings
from pipeline.commands.shelf import model_of, read_shelf

if TYPE_CHECKING:
    from pipeline.core.model import Scoring
    from pipeline.core.outcome import Example
    from pipeline.settings import Settings


@click.command()
@click.argument("ids", metavar="ID|FILE...", nargs=-1)
@click.option("--log", "logs", multiple=True, type=FILE, help="A dump of the topic `examples`; without one, the topic itself. Repeatable.")
@click.option("--policy", "policy_file", type=FILE, help="TOML file that overrides the policy.")
@click.option("--alert", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Threshold to compare at (default: the policy's).")
@click.option(
    "--rate", default=2e-4, show_default=True, type=click.FloatRange(0, 1), help="False alarms per benign code to compare at, too."
)
@click.option("--learned-too", is_flag=True, help="Also on verdicts that one of the models has learned, which flatters it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def compare(
    ids: tuple[str, ...],
    logs: tuple[Path, ...],
    policy_file: Path | None,
    alert: float | None,
    rate: float,
    learned_too: bool,
    as_json: bool,
) -> None:
    """Compare models on recorded verdicts: IDs in the topic `models`, or FILES of snapshots, beside the policy's and what was decided.

    Only verdicts that none of the models has learned count, since a model knows the others by heart: to judge how learning serves you,
    compare a snapshot of some weeks ago.
    """
    import msgspec

    from pipeline.core.model import WEIGHED, Model
    from pipeline.replay.compare import compare as run
    from pipeline.replay.compare import table, unlearned

    settings, policy = load_settings(), load_policy(policy_file)
    found: dict[str, Scoring] = {WEIGHED: Model(policy)}
    wanted = [i for i in ids if i != WEIGHED]
    on_topic = [i for i in wanted if not Path(i).is_file()]
    shelved = read_shelf(settings) if on_topic else None
    through, made = 0, []
    for name in wanted:
        model = model_of(name, settings, policy, shelved)
        found[model.id] = model
        through = max(through, model.through)
        made += [model.id] if model.examples and not model.through else []
    if learned_too:
        through = 0
    try:
        numbered = examples_of(logs, settings)
        judged = unlearned(numbered, through) if through else [example for _, example in numbered]
        if through and len({example.label for example in judged}) < 2:
            raise BadInput(
                f"of {len(numbered)} examples {len(judged)} come after offset {through}, up to which one of the models has learned, and not"
                " of both kinds: wait for verdicts, compare a snapshot that has learned less (`offhook models list`), or say --learned-too"
            )
        compared = run(judged, found, policy, alert or policy.thresholds.alert, rate)
    except (ValueError, OSError) as e:
        fail(e)
    if through:
        click.echo(f"on verdicts from offset {through} of examples on, which none of the models has learned", err=True)
    for model_id in made:
        click.echo(f"{model_id} was made from labelled logs: verdicts on what is in those flatter it", err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(compared), indent=2).decode())
        return
    for line in table(compared, rate):
        click.echo(line)


def examples_of(logs: tuple[Path, ...], settings: "Settings") -> "list[tuple[int, Example]]":
    from pipeline.core.errors import InvalidEvent
    from pipeline.replay.kafka_source import read_kafka
    from pipeline.wire.codec import decode_example
    from pipeline.wire.log import InvalidLog, merge_logs

    records = merge_logs(logs) if logs else read_kafka(settings.connection(), 0, None, ("examples",), settings.prefix)
    try:
        return [(record.offset, decode_example(record.value)) for record in records if record.value is not None]
    except (InvalidEvent, InvalidLog) as e:
        raise BadInput(str(e)) from None
