"""What is an episode judged by? The command that prints the reference of all features, made from where they are declared."""

import click


@click.command()
@click.option("--markdown", is_flag=True, help="As the Markdown of deploy/features.md.")
def features(markdown: bool) -> None:
    """Print every feature with its unit, direction, reason, the feed it needs and what its absence means."""
    from pipeline.core.features.catalogue import FEATURES, reference

    if markdown:
        click.echo(reference())
        return
    from rich.table import Table

    from pipeline.replay.report import console

    table = Table("feature", "unit", "direction", "why", "id", "feed", "missing means")
    for name, about in FEATURES.items():
        table.add_row(name, about.unit, about.direction, about.why, " ".join(about.ids), about.feed, about.missing)
    console().print(table)
