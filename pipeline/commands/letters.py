"""What could not be read? The commands about dead letters: show them, and make keys to seal them with."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.load import FILE, NEW_FILE, BadInput, fail, write_key

if TYPE_CHECKING:
    from pipeline.wire.dead_letter import DeadLetter


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be read, and why."""


@dead_letters.command()
@click.argument("file", type=FILE)
@click.option("--log", "logs", multiple=True, type=FILE, help="The replayed log, to find the originals of references in. Repeatable.")
@click.option("--private-key", type=FILE, help="Key that opens sealed dead letters (see `offhook dead-letters keygen`).")
@click.option("--reason", help="Only those with this reason, such as invalid_field.")
@click.option("--topic", help="Only those of this topic.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="How many at most, the latest ones.")
@click.option("--values", is_flag=True, help="Print the original key and value too. They may hold phone numbers or worse.")
def show(
    file: Path, logs: tuple[Path, ...], private_key: Path | None, reason: str | None, topic: str | None, limit: int, values: bool
) -> None:
    """Show dead letters: of a replay (FILE, its dead-letters.jsonl).

    A reference is followed to the record it is about: in the logs given with --log.
    """
    from pipeline.settings import key_bytes

    try:
        key = key_bytes(private_key.read_text(), str(private_key)) if private_key else None
    except ValueError as e:
        raise BadInput(str(e)) from None
    try:
        letters = _on_disk(file, logs, key, reason, topic, limit, values)
    except ValueError as e:
        raise BadInput(str(e)) from None
    except OSError as e:
        fail(e)
    for letter in letters:
        click.echo(_line(letter))
        if values:
            click.echo(f"  key   {letter.key!r}\n  value {letter.value!r}")
    if not letters:
        click.echo("no dead letters" + (" like that" if reason or topic else ""))


def _on_disk(
    file: Path, logs: tuple[Path, ...], key: bytes | None, reason: str | None, topic: str | None, limit: int, values: bool
) -> "list[DeadLetter]":
    from collections import deque

    from pipeline.replay.letters import read_letters, with_originals

    chosen = deque((a for a in read_letters(file) if reason in (None, a.reason) and topic in (None, a.topic)), maxlen=limit)
    return with_originals(chosen, logs, key) if values else list(chosen)


def _line(letter: "DeadLetter") -> str:
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(letter.timestamp / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    size = "null" if letter.length is None else f"{letter.length} bytes"
    return f"{when} {letter.topic}/{letter.partition}@{letter.offset} {letter.reason}: {letter.detail} ({size}, {letter.form})"


@dead_letters.command()
@click.argument("file", type=NEW_FILE)
def keygen(file: Path) -> None:
    """Make a key pair to seal dead letters with: FILE for the operator alone, FILE.pub for the workers."""
    from pipeline.wire.dead_letter import new_key_pair

    pair = new_key_pair()
    public = file.with_name(file.name + ".pub")
    write_key(file, pair.private.hex() + "\n")
    write_key(public, pair.public.hex() + "\n", 0o644)
    click.echo(f"wrote {file} (keep it away from the workers) and {public} (name it in OFFHOOK_DEAD_LETTERS_PUBLIC_KEY_FILE)")
