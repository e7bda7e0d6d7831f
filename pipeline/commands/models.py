"""Which model scores, and which should? The commands about models: keys, publishing, comparing, promoting, rolling back."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.compare import compare
from pipeline.commands.load import FILE, NEW_FILE, BadInput, fail, load_settings, write_key
from pipeline.commands.make_model import make
from pipeline.commands.shelf import key_of, model_of, read_shelf

if TYPE_CHECKING:
    from pipeline.core.events import Activation
    from pipeline.live.model_log import Shelved
    from pipeline.settings import Settings


@click.group()
def models() -> None:
    """Models that learn: make, publish, compare, promote, roll back."""


models.add_command(make)
models.add_command(compare)


@models.command("keygen")
@click.argument("file", type=NEW_FILE)
def keygen(file: Path) -> None:
    """Write a new signing key into FILE, readable by you alone, and its public key into FILE.pub.

    Whoever holds FILE can make models that detect believes: only learn needs it. Detect needs FILE.pub.
    """
    from nacl.signing import SigningKey

    key = SigningKey.generate()
    write_key(file, bytes(key).hex() + "\n")
    write_key(file.with_name(file.name + ".pub"), bytes(key.verify_key).hex() + "\n", mode=0o644)
    click.echo(
        f"wrote {file} (OFFHOOK_MODEL_KEY_FILE of learn) and {file}.pub (OFFHOOK_MODEL_PUBLIC_KEY_FILE of detect and of these commands)"
    )


@models.command("list")
def list_models() -> None:
    """List the snapshots in the topic `models` and the activations, the newest last."""
    from pipeline.core.learn.shelf import checked
    from pipeline.core.learn.snapshot import SnapshotRefused

    settings = load_settings()
    key, shelved = key_of(settings), read_shelf(settings)
    for model_id, data in shelved.snapshots.items():
        try:
            content = checked(model_id, data, key).content
        except SnapshotRefused as e:
            click.echo(f"{model_id}  refused: {e}")
        else:
            click.echo(f"{model_id}  {content.examples} examples, through {content.through}, {len(data):,} bytes; {content.made or '-'}")
    for activation in shelved.activations:
        click.echo(said_of(activation))
    if not shelved.activations:
        click.echo("no activation: the model that the policy weighs is in force")


@models.command("publish")
@click.argument("file", type=FILE)
def publish(file: Path) -> None:
    """Write the snapshot in FILE to the topic `models`, if it is signed with the key that detect trusts. It does not take force yet."""
    from pipeline.core.learn.snapshot import SnapshotRefused, read_snapshot
    from pipeline.live.limits import SendFailed
    from pipeline.live.model_log import publish as write

    settings = load_settings()
    data = file.read_bytes()
    try:
        model_id = read_snapshot(data, key_of(settings)).id
        write(settings, model_id, data)
    except SnapshotRefused as e:
        raise BadInput(f"{file} is refused: {e}") from None
    except (OSError, SendFailed) as e:
        fail(e)
    click.echo(f"{model_id} is in {settings.topic('models')}; `offhook models promote {model_id}` puts it in force")


@models.command("promote")
@click.argument("model_id", metavar="ID")
@click.option("--challenger", "challengers", multiple=True, metavar="ID", help="A model that scores in its shadow. Repeatable.")
@click.option(
    "--alert",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Alert from this probability on, instead of the policy's; needed for a learned model.",
)
@click.option(
    "--watch", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Watch from this probability on (default: in proportion)."
)
@click.option("--why", required=True, metavar="TEXT", help="The evidence, such as what `models compare` said.")
@click.option("--by", required=True, metavar="NAME", help="Whose decision it is.")
def promote(model_id: str, challengers: tuple[str, ...], alert: float | None, watch: float | None, why: str, by: str) -> None:
    """Put the model ID in force: it scores from this place in the log on. `m_fitted3` is the model that the policy weighs.

    Checks that the snapshots are in the topic `models` and may be used, then writes an activation to every partition of `events`.
    """
    from pipeline.core.model import WEIGHED

    if alert is not None and watch is not None and watch >= alert:
        raise click.UsageError("--watch must be below --alert")
    if alert is None and model_id != WEIGHED:
        raise click.UsageError(
            "--alert is missing: the policy's threshold was chosen for the policy's weights, and a learned model would raise many times the"
            " false alarms at it. `offhook models compare` says which threshold keeps to a rate (--rate)"
        )
    settings = load_settings()
    _activate(settings, read_shelf(settings), model_id, challengers, alert, watch, why, by)


@models.command("rollback")
@click.option("--to", "to", metavar="ACTIVATION", help="Back to this activation (see `models list`); default: the one before the last.")
@click.option("--why", required=True, metavar="TEXT", help="What is wrong with the model in force.")
@click.option("--by", required=True, metavar="NAME", help="Whose decision it is.")
def rollback(to: str | None, why: str, by: str) -> None:
    """Put back in force what was before. Itself an activation: the log keeps both. Without an earlier one, the policy's own model."""
    from pipeline.core.model import WEIGHED

    settings = load_settings()
    shelved = read_shelf(settings)
    if not shelved.activations:
        raise click.ClickException("there is no activation to take back: the model that the policy weighs is in force")
    earlier = [a for a in shelved.activations[:-1] if to is None or a.activation_id == to]
    if to is not None and not earlier:
        raise BadInput(f"{to}: no activation before the last one has this id; `offhook models list` names them")
    last, back = shelved.activations[-1], earlier[-1] if earlier else None
    reason = f"takes back {last.activation_id}: {why}"
    if back is None:
        _activate(settings, shelved, WEIGHED, (), None, None, reason, by)
    else:
        _activate(settings, shelved, back.champion, back.challengers, back.alert, back.watch, reason, by)


@models.command("prune")
@click.option(
    "--keep", default=50, show_default=True, type=click.IntRange(min=1), help="How many of the newest snapshots stay in any case."
)
@click.option("--yes", is_flag=True, help="Delete; without it they are only named.")
def prune(keep: int, yes: bool) -> None:
    """Delete old snapshots that were never in force from the topic `models`, where learn adds one now and then and nobody takes one away.

    What was ever in force or in a shadow stays, since a replay of `events` needs it, and so does what learn goes on from. Do not promote
    one of the old ones meanwhile.
    """
    from pipeline.live.limits import SendFailed
    from pipeline.live.model_log import delete, prunable

    settings = load_settings()
    key, shelved = key_of(settings), read_shelf(settings)
    gone = prunable(shelved, keep, key)
    for model_id in gone:
        click.echo(model_id)
    size = sum(len(shelved.snapshots[model_id]) for model_id in gone)
    if gone and yes:
        try:
            delete(settings, gone)
        except (OSError, SendFailed) as e:
            fail(e)
    done = "deleted" if yes else "would be deleted (--yes)"
    click.echo(f"{len(gone)} of {len(shelved.snapshots)} snapshots, {size:,} bytes, {done}")


def said_of(activation: "Activation") -> str:
    """One activation in a line."""
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(activation.arrived_at / 1000, UTC).isoformat(timespec="seconds")
    shadow = f", in its shadow {', '.join(activation.challengers)}" if activation.challengers else ""
    alert = f", alerts from {activation.alert:g}" if activation.alert is not None else ""
    return f"{activation.activation_id}  {when}  {activation.champion}{shadow}{alert}; by {activation.by or '-'}: {activation.why or '-'}"


def _activate(
    settings: "Settings",
    shelved: "Shelved",
    champion: str,
    challengers: tuple[str, ...],
    alert: float | None,
    watch: float | None,
    why: str,
    by: str,
) -> None:
    import time

    from pipeline.core.champion import named_by
    from pipeline.core.episode import named
    from pipeline.core.events import Activation
    from pipeline.live.limits import SendFailed
    from pipeline.live.model_log import activate

    now = int(time.time() * 1000)
    activation = Activation(
        activation_id=named("a_", champion, *challengers, str(now)), arrived_at=now, champion=champion, challengers=challengers,
        alert=alert, watch=watch, why=why, by=by,
    )  # fmt: skip
    for model_id in named_by(activation):
        if model_id not in shelved.snapshots:
            raise BadInput(f"{model_id} is not in the topic models; `offhook models publish` writes a snapshot there")
        model_of(model_id, settings, settings.policy(), shelved)
    try:
        partitions = activate(settings, activation)
    except (OSError, SendFailed) as e:
        fail(e)
    click.echo(f"{said_of(activation)}\nwritten to {partitions} partitions of {settings.topic('events')}")
