"""What is in force? The commands that show or write what a deployment rests on: policy, settings, schemas, pseudonyms."""

from pathlib import Path
from typing import Any

import click

from pipeline.commands.load import FILE, FOLDER, NEW_FILE, load_policy, load_settings, write_key


@click.group("pseudonyms")
def pseudonyms() -> None:
    """Keys that turn phone numbers into pseudonyms."""


@pseudonyms.command("keygen")
@click.argument("file", type=NEW_FILE)
def pseudonyms_keygen(file: Path) -> None:
    """Write a new key into FILE, readable by you alone. Whoever holds it can find out every number: guard it."""
    import secrets

    write_key(file, f"k1 = {secrets.token_hex(32)}\n")
    click.echo(f"wrote {file}; name it in OFFHOOK_PSEUDONYM_KEY_FILE, and keep it: with another key no known number is recognised")


@click.command()
@click.option("--write", "do", flag_value="write", help="Write them.")
@click.option("--check", "do", flag_value="check", help="Say which are stale; exit code 1 if any is.")
@click.option("--folder", default=Path("schemas"), show_default=True, type=FOLDER)
def schemas(do: str | None, folder: Path) -> None:
    """Write or check the JSON Schemas and the AsyncAPI document, which are generated from the types."""
    if do is None:
        raise click.UsageError("say --write or --check")
    from pipeline.wire.schemas import stale, write

    if do == "write":
        write(folder)
        click.echo(f"wrote {folder}")
        return
    old = stale(folder)
    if old:
        raise click.ClickException(f"stale in {folder}: {', '.join(old)}; run `offhook schemas --write` and look at the difference")
    click.echo(f"{folder} is up to date")


@click.group()
def policy() -> None:
    """What decides: windows, bounds, thresholds and weights."""


@policy.command("show")
@click.option("--policy", "policy_file", type=FILE, help="TOML file that overrides parts of it.")
def policy_show(policy_file: Path | None) -> None:
    """Print the policy in force as TOML, its id first. What it prints can be edited and given to `offhook replay --policy`."""
    import msgspec

    policy = load_policy(policy_file)
    click.echo(f"# {policy.id}")
    for line in toml_lines(msgspec.to_builtins(policy, order="deterministic")):
        click.echo(line)


def toml_lines(values: dict[str, Any], table: str = "") -> list[str]:
    """Write nested values as TOML, tables last."""
    import json

    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    lines = [f"# {name} is not set" if value is None else f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, value in values.items():
        if isinstance(value, dict):
            path = f"{table}.{name}" if table else name
            lines += ["", f"[{path}]", *toml_lines(value, path)]
    return lines


@click.command()
@click.option("--markdown", is_flag=True, help="As a Markdown table of meanings and defaults, for documents.")
def settings(markdown: bool) -> None:
    """Print every OFFHOOK_* variable with its meaning, its default and what it is now (secrets stay secret)."""
    if markdown:
        from pipeline.settings import table as markdown_table

        click.echo(markdown_table())
        return
    from rich.table import Table

    from pipeline.replay.report import console
    from pipeline.settings import SETTINGS

    now = load_settings()
    table = Table("variable", "value", "default", "now", "meaning")
    for setting in SETTINGS:
        value = getattr(now, setting.field)
        text = "" if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)
        table.add_row(setting.variable, setting.values, setting.default, "" if text == setting.default else text, setting.meaning)
    console().print(table)
