"""Where do a command's policy, settings and keys come from, and what is said when they cannot be had?"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from pipeline.core.policy import Policy
    from pipeline.replay.evaluate import Labelled
    from pipeline.replay.run import Progress
    from pipeline.settings import Settings
    from pipeline.wire.pseudonym import Pseudonyms

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
PSEUDONYMS = click.option(
    "--pseudonyms", "key_file", type=FILE,
    help="Key file for pseudonyms; without it OFFHOOK_PSEUDONYM_KEY_FILE is read, or OFFHOOK_PSEUDONYM_KEY taken.",
)  # fmt: skip


class BadInput(click.ClickException):
    """The input is wrong, not the run: exit code 2, as for a wrong option."""

    exit_code = 2


def fail(error: Exception) -> NoReturn:
    """Say what went wrong without a traceback."""
    raise click.ClickException(str(error)) from None


def load_settings() -> "Settings":
    """The settings of the environment."""
    from pipeline.settings import Settings

    try:
        return Settings.from_env(os.environ)
    except ValueError as e:
        raise BadInput(str(e)) from None


def load_policy(path: Path | None) -> "Policy":
    """The policy in force, with what the file overrides (without one: the file that OFFHOOK_POLICY_FILE names, if any)."""
    import tomllib

    from pipeline.core.policy import policy_from

    try:
        return load_settings().policy() if path is None else policy_from(tomllib.loads(path.read_text()))
    except ValueError as e:
        raise BadInput(str(e) if path is None else f"{path}: {e}") from None


def labelled_options(command: "Callable[..., None]") -> "Callable[..., None]":
    """The options that load_labelled and load_pseudonyms need: logs, truths, policies, key_file, demo_key."""
    for option in (
        click.option("--demo-key", is_flag=True, help="Use the well-known key: for simulated logs, whose numbers belong to nobody."),
        PSEUDONYMS,
        click.option(
            "--policy", "policies", multiple=True, type=FILE, help="TOML file that overrides the policy: one for all logs, or one for each."
        ),
        click.option("--truth", "truths", multiple=True, required=True, type=FILE, help="Its truth.jsonl, in the same order."),
        click.option("--log", "logs", multiple=True, required=True, type=FILE, help="A log of raw topics. Repeatable: one for each seed."),
    ):  # the last is the first in the help
        command = option(command)
    return command


def load_labelled(logs: tuple[Path, ...], truths: tuple[Path, ...], policies: tuple[Path, ...]) -> "list[Labelled]":
    """Logs with the truth about each, and the policy to read it by: one for all, or one for each."""
    from pipeline.replay.evaluate import Labelled

    if len(logs) != len(truths):
        raise click.UsageError(f"{len(logs)} --log and {len(truths)} --truth: name one truth for each log")
    if len(policies) not in (0, 1, len(logs)):
        raise click.UsageError("--policy: name one for all logs, or one for each")
    loaded = [load_policy(path) for path in policies or (None,)]
    each = loaded if len(loaded) == len(logs) else loaded * len(logs)
    return [Labelled((log,), truth, policy) for log, truth, policy in zip(logs, truths, each, strict=True)]


@contextmanager
def telling() -> "Iterator[Callable[[str], Progress]]":
    """Show what is replayed and how far it is, where the terminal can: call what this gives with a name for each replay."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from pipeline.replay.report import console

    screen = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,.0f} records"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:

        def watch(what: str) -> "Callable[[int, int], None]":
            task = bar.add_task(what, total=None)
            return lambda done, _: bar.update(task, completed=done)

        yield watch


def load_pseudonyms(key_file: Path | None, demo_key: bool) -> "Pseudonyms":
    """The keys of a key file, of the environment, or the well-known one."""
    from pipeline.settings import SettingsError
    from pipeline.wire.pseudonym import Pseudonyms

    if demo_key:
        return Pseudonyms.for_demo()
    where = str(key_file)
    try:
        if key_file is not None:
            return Pseudonyms.from_text(key_file.read_text())
        settings = load_settings()
        where = "OFFHOOK_PSEUDONYM_KEY" if settings.pseudonym_key is not None else "OFFHOOK_PSEUDONYM_KEY_FILE"
        if settings.pseudonym_key is None and not settings.pseudonym_key_file:
            raise click.UsageError(
                "name the key file for pseudonyms: --pseudonyms FILE, or OFFHOOK_PSEUDONYM_KEY_FILE (`offhook pseudonyms keygen FILE` "
                "makes one); for a simulated log say --demo-key"
            )
        return Pseudonyms.from_text(settings.pseudonym_text())
    except SettingsError as e:
        raise BadInput(str(e)) from None
    except UnicodeDecodeError:  # its message has a byte of the key
        raise BadInput(f"{where}: not a text in UTF-8") from None
    except ValueError as e:
        raise BadInput(f"{where}: {e}") from None


def instant(text: str, option: str) -> int:
    """An RFC 3339 time in ms."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise click.UsageError(f"{option}: write a time with an offset, such as 2026-11-22T08:00:00Z")
    return int(time.timestamp() * 1000)


def write_key(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a new file that only its owner can read, unless ``mode`` says otherwise; never over an old one."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{path} exists; a key is never overwritten") from None
    except OSError as e:
        fail(e)
