"""What could not be read? The commands about dead letters: show them, and make keys to seal them with."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.load import FILE, NEW_FILE, BadInput, fail, instant, load_settings, write_key

if TYPE_CHECKING:
    from pipeline.wire.dead_letter import DeadLetter


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what could not be read, and why."""


@dead_letters.command()
@click.argument("file", type=FILE, required=False)
@click.option(
    "--log", "logs", multiple=True, type=FILE, help="With FILE: the replayed log, which references are followed into. Repeatable."
)
@click.option("--private-key", type=FILE, help="Key that opens sealed dead letters (see `offhook dead-letters keygen`).")
@click.option("--reason", help="Only those with this reason, such as invalid_field.")
@click.option("--topic", help="Only those of this topic.")
@click.option("--since", metavar="TIME", help="Without FILE: only those written from this time on (RFC 3339).")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="How many at most, the latest ones.")
@click.option("--values", is_flag=True, help="Print the original key and value too. They may hold phone numbers or worse.")
def show(file: Path | None, logs: tuple[Path, ...], private_key: Path | None, reason: str | None, topic: str | None, since: str | None,
         limit: int, values: bool) -> None:  # fmt: skip
    """Show dead letters: of a replay (FILE, its dead-letters.jsonl), or without FILE those on the Kafka of OFFHOOK_BROKERS.

    With --values, a reference is followed to the record it is about: in the logs given with --log, or in its topic on Kafka.
    """
    from pipeline.settings import key_bytes

    if since and file:
        raise click.UsageError("--since is for Kafka")
    try:
        key = key_bytes(private_key.read_text(), str(private_key)) if private_key else None
        if file:
            letters = [_text(letter, values) for letter in _on_disk(file, logs, key, reason, topic, limit, values)]
        else:
            letters = _on_kafka(key, reason, topic, since, limit, values)
    except ValueError as e:
        raise BadInput(str(e)) from None
    except OSError as e:
        fail(e)
    for letter in letters:
        click.echo(letter)
    if not letters:
        click.echo("no dead letters" + (" like that" if reason or topic or since else ""))


def _on_kafka(key: bytes | None, reason: str | None, topic: str | None, since: str | None, limit: int, values: bool) -> list[str]:
    from pipeline.live.dead_letters import show as read

    since_ms = instant(since, "--since") if since else None
    return [str(found) for found in read(load_settings(), limit, reason, topic, since_ms, values, key)]


def _on_disk(
    file: Path, logs: tuple[Path, ...], key: bytes | None, reason: str | None, topic: str | None, limit: int, values: bool
) -> "list[DeadLetter]":
    from collections import deque

    from pipeline.replay.letters import read_letters, with_originals

    chosen = deque((a for a in read_letters(file) if reason in (None, a.reason) and topic in (None, a.topic)), maxlen=limit)
    return with_originals(chosen, logs, key) if values else list(chosen)


def _text(letter: "DeadLetter", values: bool) -> str:
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(letter.timestamp / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    size = "null" if letter.length is None else f"{letter.length} bytes"
    line = f"{when} {letter.topic}/{letter.partition}@{letter.offset} {letter.reason}: {letter.detail} ({size}, {letter.form})"
    return line + (f"\n  key   {letter.key!r}\n  value {letter.value!r}" if values else "")


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
