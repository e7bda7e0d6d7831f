"""Which accounts does a bug of ours keep from being folded? The commands to see them and to let them back in."""

import click

from pipeline.commands.load import fail, load_settings


@click.group()
def quarantine() -> None:
    """See which accounts are set aside since a bug of ours, and let them back in.

    An account whose event trips a bug stays as it was, and its events become dead letters with the reason `bug` (`offhook dead-letters
    show --reason bug`). Another version of OffHook folds it again by itself, from the next event on.
    """


@quarantine.command("list")
def list_() -> None:
    """List what is set aside: which account or line, since which record, by which version, and where the bug is."""
    settings = load_settings()
    from pipeline.core.errors import UnsupportedState
    from pipeline.live.release import show

    try:
        found = show(settings)
    except (OSError, UnsupportedState) as e:
        fail(e)
    for one in found:
        click.echo(str(one))
    if not found:
        click.echo("nothing is set aside")


@quarantine.command()
@click.argument("names", nargs=-1, required=True)
def release(names: tuple[str, ...]) -> None:
    """Let accounts (or lines, by their pseudonyms) back in. It takes force when the workers are started again.

    For a bug that was corrected without a new version. What was set aside meanwhile stays in the dead letters.
    """
    settings = load_settings()
    from pipeline.core.errors import UnsupportedState
    from pipeline.live.release import release as let_in

    try:
        found = let_in(settings, names)
    except (OSError, UnsupportedState) as e:
        fail(e)
    for one in found:
        click.echo(f"released {one}")
    if found:
        click.echo(f"now start the workers of {' and '.join(sorted({one.stage for one in found}))} again, one after the other")
    missing = sorted(set(names) - {one.entity for one in found})
    if missing:
        raise click.ClickException(f"not set aside: {', '.join(missing)}")
