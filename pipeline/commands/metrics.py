"""What does a worker measure? The command that prints the reference of all metrics, made from where they are declared."""

import click


@click.command()
@click.option("--markdown", is_flag=True, help="As the Markdown of deploy/metrics.md.")
def metrics(markdown: bool) -> None:
    """Print every metric that a worker serves on /metrics, with its kind, unit, labels and meaning."""
    from pipeline.live.metrics import METRICS, reference

    if markdown:
        click.echo(reference())
        return
    from rich.table import Table

    from pipeline.replay.report import console

    table = Table("metric", "kind", "unit", "labels", "meaning")
    for metric in METRICS.values():
        table.add_row(metric.name, metric.kind, metric.unit, " ".join(metric.labels), metric.meaning)
    console().print(table)
