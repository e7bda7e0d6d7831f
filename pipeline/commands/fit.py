"""Which weights and which threshold would a labelled log have chosen? The command ``offhook fit``."""

from pathlib import Path

import click

from pipeline.commands.load import NEW_FILE, BadInput, fail, labelled_options, load_labelled, load_pseudonyms, telling


@click.command()
@labelled_options
@click.option("--rate", default=2e-4, show_default=True, type=click.FloatRange(0, 0.1), help="False alarms per benign code to allow.")
@click.option(
    "--sigma", default=1.0, show_default=True, type=click.FloatRange(0.01, 10), help="How far a weight may move: smaller stays nearer."
)
@click.option("--leave-out", "left_out", multiple=True, metavar="STORY", help="Stories not to learn from, such as V6. Repeatable.")
@click.option("--by-hand", is_flag=True, help="Start from the weights set by hand, not from those in force.")
@click.option("--out", default=Path("out/fitted.toml"), show_default=True, type=NEW_FILE, help="The policy file to write.")
def fit(logs: tuple[Path, ...], truths: tuple[Path, ...], policies: tuple[Path, ...], key_file: Path | None, demo_key: bool,
        rate: float, sigma: float, left_out: tuple[str, ...], by_hand: bool, out: Path) -> None:  # fmt: skip
    """Fit the weights and the alert threshold to labelled logs, and write a policy file.

    Each weight moves from the one in force as far as the challenges ask for. Nothing changes by itself: read the file, measure it with
    `offhook evaluate --policy` on logs it has not seen, then name it in OFFHOOK_POLICY_FILE.
    """
    from pipeline.replay.fit import fit as run
    from pipeline.replay.fit import policy_text
    from pipeline.wire.log import InvalidLog

    data = load_labelled(logs, truths, policies)
    try:
        with telling() as watch:
            found = run(data, load_pseudonyms(key_file, demo_key), rate=rate, sigma=sigma, left_out=left_out, watch=watch, by_hand=by_hand)
    except InvalidLog as e:
        raise BadInput(str(e)) from None
    except (ValueError, ArithmeticError, OSError) as e:
        fail(e)
    counted = (
        f"{found.caught} of {found.takeovers} takeovers caught, {found.false_alarms} false alarms in {found.benign:,} benign codes\n"
        + (
            f"each log scored by weights of the other {found.logs - 1}."
            if found.logs > 1
            else "on the log it was fitted to: measure it on others."
        )
    )
    without = f", without {', '.join(left_out)}" if left_out else ""
    start = ", from the weights set by hand" if by_hand else ""
    made = f"Made by `offhook fit` from {len(data)} labelled logs{without}; sigma {sigma:g}, rate {rate:g}{start}.\n{counted}"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(policy_text(found, made), encoding="utf-8")
    click.echo(counted)
    click.echo(f"thresholds    watch {found.watch:.3g}, alert {found.alert:.3g}")
    click.echo(f"file          {out}")
