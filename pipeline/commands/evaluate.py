"""How good is the detector on a log whose truth is known? The command ``offhook evaluate``."""

from pathlib import Path

import click

from pipeline.commands.load import FOLDER, BadInput, fail, labelled_options, load_labelled, load_pseudonyms, telling


@click.command()
@labelled_options
@click.option(
    "--prior", default=1e-4, show_default=True, type=click.FloatRange(1e-9, 0.5), help="Attacks per code at the bank to judge for."
)
@click.option("--view", "chosen", multiple=True, help="Only these views, such as 'no telephony'. Repeatable; without it all of them.")
@click.option("--out", default=Path("out/evaluation"), show_default=True, type=FOLDER, help="Folder for scorecard.json and index.html.")
def evaluate(logs: tuple[Path, ...], truths: tuple[Path, ...], policies: tuple[Path, ...], key_file: Path | None, demo_key: bool,
             prior: float, chosen: tuple[str, ...], out: Path) -> None:  # fmt: skip
    """Measure the detector as the field does, with all feeds and with less.

    Recall at false-positive rates down to 1e-5, precision and recall with a budget of alerts, lead time, hard pairs, false alarms by
    segment, calibration, and what each feed is worth. Several logs give intervals over seeds. On logs of a week and more: what learning
    from late, missing and wrong labels would have changed, day by day.
    """
    import msgspec

    from pipeline.replay.ablations import VIEWS
    from pipeline.replay.evaluate import evaluate as run
    from pipeline.replay.evaluate import lines
    from pipeline.replay.page import page
    from pipeline.wire.log import InvalidLog

    unknown = [name for name in chosen if name not in VIEWS]
    if unknown:
        raise click.UsageError(f"--view: {unknown[0]!r} is none; there are {', '.join(VIEWS)}")
    data = load_labelled(logs, truths, policies)
    try:
        with telling() as watch:
            result = run(data, load_pseudonyms(key_file, demo_key), prior, chosen or VIEWS, watch)
    except InvalidLog as e:
        raise BadInput(str(e)) from None
    except (ValueError, OSError) as e:
        fail(e)
    for line in lines(result):
        click.echo(line)
    out.mkdir(parents=True, exist_ok=True)
    written = msgspec.json.format(msgspec.json.encode(result, order="deterministic"), indent=2)
    (out / "scorecard.json").write_bytes(written + b"\n")
    said = (
        f"{len(logs)} logs, policy {', '.join(result.policy_ids)}. A challenge counts as alerted when a finding was ever created for it.",
        "On simulated logs these figures say that the join works and what each feed is worth, not what a bank will see.",
    )
    (out / "index.html").write_text(page("Evaluation of the detector", said, result.views, result.learning), encoding="utf-8")
    click.echo(f"files         {out / 'scorecard.json'}, {out / 'index.html'}")
