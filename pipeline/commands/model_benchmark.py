"""How do the learners compare on public data? The transaction table of the Fraud Detection Handbook, every label days late."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from pipeline.commands.load import BadInput, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from pipeline.commands.delayed import Figures, Transaction
    from pipeline.core.learn.prediction import Learner
    from pipeline.core.learn.states import BlendSettings

DATA = Path("../shared/data/fdh")
OUT = Path("out/model-benchmark.json")
SEED = 1
PUBLISHED = {  # Le Borgne et al., chapter 5: average precision, AUC, card precision at 100, on the same test period
    "logistic regression, batch": (0.606, 0.871, 0.291),
    "random forest, batch": (0.658, 0.867, 0.287),
    "gradient boosting, batch": (0.639, 0.862, 0.273),
}


class Row(NamedTuple):
    """A learner in the table: its name, what it adds to the one above, how to make it, the share of benign examples it learns."""

    name: str
    adds: str
    make: "Callable[[], Learner]"
    benign_share: float


@click.command("model-benchmark")
@click.argument("data", type=click.Path(path_type=Path), default=DATA)
@click.option("--delay-days", default=7, show_default=True, type=click.IntRange(min=0, max=13), help="How late every label comes.")
@click.option(
    "--out", default=OUT, show_default=True, type=click.Path(dir_okay=False, path_type=Path), help="Where the figures go, as JSON."
)
@click.option("--choose", is_flag=True, help="Compare settings on the validation period instead; the test period is not touched.")
def model_benchmark(data: Path, delay_days: int, out: Path, choose: bool) -> None:
    """Measure the learners on a public table of card payments whose labels come days late.

    DATA is the table (Parquet, or its folder): transformed transactions of the Fraud Detection Handbook, 21 days. The last 7 are the test
    period, the 7 before them the validation period, on which the settings were chosen. Takes a few minutes.
    """
    from pipeline.commands.delayed import read_transactions
    from pipeline.commands.parquet import UnreadableTable
    from pipeline.replay.report import console, count

    screen = console()
    try:
        transactions = read_transactions(table_in(data))
    except FileNotFoundError:
        raise BadInput(f"{data}: not there; name the transaction table of the Fraud Detection Handbook, or its folder") from None
    except KeyError as e:
        raise BadInput(f"{data}: no column {e}") from None
    except UnreadableTable as e:
        raise BadInput(f"{data}: {e}") from None
    except OSError as e:
        fail(e)
    frauds = sum(t.fraud for t in transactions)
    screen.print(f"{count(len(transactions), 'payment')}, {count(frauds, 'fraud')}; every label comes {count(delay_days, 'day')} late.")
    if choose:
        compare_settings(transactions, delay_days, screen)
    else:
        benchmark(transactions, delay_days, out, screen)


def table_in(data: Path) -> Path:
    """The file itself, or the only Parquet file of the folder."""
    if not data.is_dir():
        return data
    found = sorted(data.glob("*.parquet"))
    if len(found) != 1:
        raise BadInput(f"{data}: {len(found)} Parquet files; name one")
    return found[0]


def benchmark(transactions: "list[Transaction]", delay_days: int, out: Path, screen: "Console") -> None:
    """Measure every row on the test period; print the table and what closes the gap, and write the figures."""
    import msgspec

    from pipeline.commands.delayed import PERIOD_DAYS, last_day

    last = last_day(transactions)
    test = range(last - PERIOD_DAYS + 1, last + 1)
    measured = [(row, *measure(row, transactions, delay_days, test)) for row in rows()]
    table = new_table("average precision", "AUC", "card precision@100", "Brier", "ECE", "learn", "predict", "model")
    for name, (precision, auc, cards) in PUBLISHED.items():
        table.add_row(f"{precision:.3f}", f"{auc:.3f}", f"{cards:.3f}", "", "", "", "", f"{name} (published)", style="dim")
    for row, f, timing in measured:
        table.add_row(
            f"{f.average_precision:.3f}", f"{f.auc:.3f}", f"{f.card_precision:.3f}", f"{f.brier:.5f}", f"{f.calibration_error:.5f}",
            f"{timing['learn_us']:.0f} us", f"{timing['predict_us']:.0f} us", f"{row.name}: {row.adds}",
        )  # fmt: skip
    first = measured[0][1]
    screen.print(table)
    screen.print(f"Test period: the last {PERIOD_DAYS} days, {first.transactions:,} payments of cards not known to be compromised,"
                 f" {first.frauds} frauds. Settings were chosen on the {PERIOD_DAYS} days before (--choose).")  # fmt: skip
    for line in gaps({row.name: f.average_precision for row, f, _ in measured}):
        screen.print(line)
    figures = {
        "table": {
            "payments": len(transactions),
            "delay_days": delay_days,
            "test_payments": first.transactions,
            "test_frauds": first.frauds,
        },
        "published": {name: dict(zip(("average_precision", "auc", "card_precision"), f, strict=True)) for name, f in PUBLISHED.items()},
        "measured": {row.name: {"adds": row.adds, **msgspec.to_builtins(f), **timing} for row, f, timing in measured},
        "settings": msgspec.to_builtins(CHOSEN()),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    screen.print(f"Figures: {out}")


def gaps(precision: dict[str, float]) -> list[str]:
    """What each step of the way from plain River brings, in average precision."""
    steps = (
        ("plain River", "linear", "rate and class balance"),
        ("linear", "forest", "trees instead of a line"),
        ("forest", "blend", "stacking the two with the anomaly score"),
        ("blend", "blend, ratios", "the amount over the card's own usual amount"),
    )
    lines = [f"  {precision[b] - precision[a]:+.3f}  {what} ({a} to {b})" for a, b, what in steps]
    return ["From plain River, in average precision:", *lines, f"  {precision['blend, ratios'] - precision['plain River']:+.3f}  in all"]


def compare_settings(transactions: "list[Transaction]", delay_days: int, screen: "Console") -> None:
    """Measure all candidates on the validation period; the payments after it are not even read."""
    from pipeline.commands.delayed import DAY_S, PERIOD_DAYS, WITH_RATIOS, last_day
    from pipeline.core.learn.blend import Blend

    end = last_day(transactions) - PERIOD_DAYS + 1
    before = [t for t in transactions if t.time_s < end * DAY_S]
    period = range(end - PERIOD_DAYS, end)
    table = new_table("average precision", "AUC", "ECE", "settings")
    for name, make in CANDIDATES.items():
        row = Row(name, "", lambda make=make: Blend.fresh(WITH_RATIOS, make(), SEED), BENIGN_SHARE)  # type: ignore[misc]
        f, _ = measure(row, before, delay_days, period)
        table.add_row(
            f"{f.average_precision:.3f}", f"{f.auc:.3f}", f"{f.calibration_error:.5f}", name + (" (chosen)" if make is CHOSEN else "")
        )
    screen.print(table)


def new_table(*columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns[:-1]:
        table.add_column(name, justify="right")
    table.add_column(columns[-1])
    return table


def measure(row: Row, transactions: "list[Transaction]", delay_days: int, period: range) -> "tuple[Figures, dict[str, float]]":
    """Run one learner over the table with a progress bar; its figures in the period, and microseconds of a step."""
    from rich.progress import Progress

    from pipeline.commands.delayed import figures, scores_of
    from pipeline.replay.report import console

    with Progress(console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(row.name, total=len(transactions))
        run = scores_of(
            row.make(), transactions, delay_days, period.start, row.benign_share, lambda more: progress.update(task, advance=more)
        )
    timing = {
        "learned": run.learned,
        "learn_us": round(1e6 * run.learn_s / max(1, run.learned), 1),
        "predict_us": round(1e6 * run.predict_s / len(run.scores), 1),
    }
    return figures(transactions, run.scores, period, delay_days), timing


BENIGN_SHARE = 0.15  # of the benign labels, learned at the weight of its inverse: a bank samples them too


def settings(
    rate: float = 0.02, repeat: float = 6.0, shrink: float = 0.0, columns: int = 20, linear_weight: float = 0.0, stack_rate: float = 0.001
) -> "BlendSettings":
    """The settings of the benchmark, or ones that differ in what was tried."""
    from pipeline.core.learn.states import BlendSettings, ForestSettings, LogisticSettings, TreeSettings

    # half of the columns say "missing", and in this table nothing is: 20 of 36 columns are as 10 of the 18 that speak
    tree = TreeSettings(columns_per_leaf=columns, grace_period=50, delta=0.01, tau=0.05, shrink=shrink)
    return BlendSettings(
        linear=LogisticSettings(rate=rate, intercept_rate=rate, balance=4.0),
        forest=ForestSettings(repeat=repeat, balance=5.0, tree=tree),
        stack=LogisticSettings(rate=stack_rate, intercept_rate=3 * stack_rate, balance=4.0),
        linear_weight=linear_weight,
        forest_weight=1.0 - linear_weight,
    )


CHOSEN = settings
CANDIDATES: "dict[str, Callable[[], BlendSettings]]" = {
    "six times an example (Poisson), the stack begins with the forest": CHOSEN,
    "once": lambda: settings(repeat=1.0),
    "three times": lambda: settings(repeat=3.0),
    "10 columns for a leaf": lambda: settings(columns=10),
    "shrunk by 50": lambda: settings(shrink=50.0),
    "the linear model learns at 0.005": lambda: settings(rate=0.005),
    "the stack begins in the middle": lambda: settings(linear_weight=0.5),
    "the stack learns ten times as fast": lambda: settings(stack_rate=0.01),
}


def rows() -> list[Row]:
    """From plain River to all of it, one step at a time."""
    from msgspec.structs import replace

    from pipeline.commands.delayed import COLUMNS, TABLE, WITH_RATIOS
    from pipeline.core.learn.blend import Blend
    from pipeline.core.learn.forest import Forest
    from pipeline.core.learn.linear import Linear
    from pipeline.core.learn.plain import Plain

    chosen, share = CHOSEN(), BENIGN_SHARE
    unbalanced = replace(chosen.linear, balance=1.0)
    return [
        Row("plain River", "scaler and logistic regression, defaults", lambda: Plain(TABLE), 1.0),
        Row("linear, unbalanced", "another rate, sampled labels", lambda: Linear.fresh(COLUMNS, unbalanced), share),
        Row("linear", "class balance", lambda: Linear.fresh(COLUMNS, chosen.linear), share),
        Row("forest", "trees instead of a line", lambda: Forest.fresh(COLUMNS, chosen.forest, SEED), share),
        Row("blend", "both, and the anomaly score, stacked", lambda: Blend.fresh(COLUMNS, chosen, SEED), share),
        Row("linear, ratios", "amount over usual amount", lambda: Linear.fresh(WITH_RATIOS, chosen.linear), share),
        Row("blend, ratios", "amount over usual amount", lambda: Blend.fresh(WITH_RATIOS, chosen, SEED), share),
    ]
