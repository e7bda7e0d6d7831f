"""What should a bank start from? The command ``offhook models make``: a model out of labelled logs, before the first verdict of its own."""

from pathlib import Path

import click

from pipeline.commands.load import FILE, NEW_FILE, BadInput, fail, labelled_options, load_labelled, load_pseudonyms, telling


@click.command()
@labelled_options
@click.option("--key", "signing_key", required=True, type=FILE, help="Key that signs it (`offhook models keygen`).")
@click.option(
    "--prior", default=1e-4, show_default=True, type=click.FloatRange(0, 0.5, min_open=True), help="Attacks per code where it goes to."
)
@click.option("--leave-out", "left_out", multiple=True, metavar="STORY", help="Stories not to learn from, such as V6. Repeatable.")
@click.option("--out", default=Path("out/model.json"), show_default=True, type=NEW_FILE, help="The snapshot to write.")
def make(logs: tuple[Path, ...], truths: tuple[Path, ...], policies: tuple[Path, ...], key_file: Path | None, demo_key: bool,
         signing_key: Path, prior: float, left_out: tuple[str, ...], out: Path) -> None:  # fmt: skip
    """Make a model to start from, out of labelled logs: a signed snapshot, calibrated to the prior, that learn goes on from."""
    from nacl.signing import SigningKey

    from pipeline.core.learn.snapshot import SnapshotRefused, read_snapshot
    from pipeline.replay.make import make as run
    from pipeline.settings import key_bytes
    from pipeline.wire.log import InvalidLog

    data = load_labelled(logs, truths, policies)
    try:
        key = SigningKey(key_bytes(signing_key.read_text(), str(signing_key)))
        with telling() as watch:
            made = run(data, load_pseudonyms(key_file, demo_key), prior=prior, left_out=left_out, watch=watch)
        raw = made.student.write(key, made.said)
    except InvalidLog as e:
        raise BadInput(str(e)) from None
    except (ValueError, OSError, SnapshotRefused) as e:
        fail(e)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(raw)
    click.echo(f"{read_snapshot(raw, key.verify_key).id}  {made.said}\nfile          {out} ({len(raw):,} bytes)")
