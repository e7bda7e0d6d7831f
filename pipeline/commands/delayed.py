"""How good is a learner when every label comes days late? The public transaction table, read in time order through the learners.

The table is that of the Fraud Detection Handbook (Le Borgne et al., "Reproducible machine learning for credit card fraud detection"):
its last seven days are the test period, the seven before them the period on which settings are chosen. A transaction is scored at its
time with the model of the last full hour, and learned when its label arrives. As in the handbook, cards that are known to be
compromised when a day begins are left out of that day's figures.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec

from pipeline.commands.parquet import read_columns
from pipeline.core.learn.chance import Chance
from pipeline.core.learn.measures import average_precision, brier, calibration_error, card_precision, roc_auc
from pipeline.core.learn.prediction import Learner
from pipeline.core.learn.schema import FeatureValue, Field, Schema

DAY_S = 86_400
HOUR_S = 3_600
PERIOD_DAYS = 7
CARDS = 100  # looked at each day
EVERY = 1000  # transactions between two signs of progress
WINDOWS = (1, 7, 30)  # days, over which the table aggregates

FLAGS = {"TX_DURING_WEEKEND": "weekend", "TX_DURING_NIGHT": "night"}
NUMBERS = {
    "TX_AMOUNT": "amount",
    **{f"CUSTOMER_ID_NB_TX_{d}DAY_WINDOW": f"card_count_{d}d" for d in WINDOWS},
    **{f"CUSTOMER_ID_AVG_AMOUNT_{d}DAY_WINDOW": f"card_amount_{d}d" for d in WINDOWS},
    **{f"TERMINAL_ID_NB_TX_{d}DAY_WINDOW": f"terminal_count_{d}d" for d in WINDOWS},
    **{f"TERMINAL_ID_RISK_{d}DAY_WINDOW": f"terminal_risk_{d}d" for d in WINDOWS},
}
RATIOS = tuple(f"amount_over_usual_{d}d" for d in WINDOWS)
TABLE = Schema(tuple(Field(name, "number") for name in (*NUMBERS.values(), *FLAGS.values())))  # as the published figures took them
COLUMNS = Schema((*(Field(name, "number") for name in NUMBERS.values()), *(Field(name, "flag") for name in FLAGS.values())))
WITH_RATIOS = Schema((*COLUMNS.fields, *(Field(name, "number", log=True) for name in RATIOS)))


class Transaction(msgspec.Struct, frozen=True):
    """One payment: seconds since the first midnight of the table, card, truth, features."""

    time_s: int
    card: int
    fraud: bool
    features: dict[str, FeatureValue]


class Run(msgspec.Struct):
    """The probability of each transaction that was scored, by its place in the table, and what it took (s; making scorers left out)."""

    scores: dict[int, float] = {}
    learned: int = 0
    learn_s: float = 0.0
    predict_s: float = 0.0


class Figures(msgspec.Struct, frozen=True):
    """What a learner achieved in a period. Shares and probabilities, 0 to 1."""

    transactions: int
    frauds: int
    average_precision: float
    auc: float
    card_precision: float
    brier: float
    calibration_error: float
    mean_probability: float


def read_transactions(path: Path) -> list[Transaction]:
    """Read the table, oldest first. Raises OSError, KeyError for a missing column, and UnreadableTable."""
    columns = read_columns(path, ("TX_TIME_SECONDS", "CUSTOMER_ID", "TX_FRAUD", *NUMBERS, *FLAGS))
    times = columns["TX_TIME_SECONDS"]
    first = int(min(t for t in times if t is not None)) // DAY_S * DAY_S
    out = []
    for i, time in enumerate(times):
        f: dict[str, FeatureValue] = {name: float(v) for column, name in NUMBERS.items() if (v := columns[column][i]) is not None}
        f |= {name: bool(v) for column, name in FLAGS.items() if (v := columns[column][i]) is not None}
        for d, ratio in zip(WINDOWS, RATIOS, strict=True):
            usual = f.get(f"card_amount_{d}d")
            if usual and "amount" in f:
                f[ratio] = float(f["amount"]) / float(usual)
        out.append(Transaction(int(time or 0) - first, int(columns["CUSTOMER_ID"][i] or 0), bool(columns["TX_FRAUD"][i]), f))
    return sorted(out, key=lambda t: t.time_s)


def last_day(transactions: list[Transaction]) -> int:
    return transactions[-1].time_s // DAY_S


def scores_of(
    learner: Learner,
    transactions: list[Transaction],
    delay_days: int,
    first_day: int,
    benign_share: float = 1.0,
    advance: Callable[[int], None] = lambda _: None,
) -> Run:
    """Score every transaction from ``first_day`` on, in time order, learning each label when it arrives.

    Of the benign ones the share ``benign_share`` is learned, at the weight of its inverse. ``advance`` is told how many more were read.
    """
    run, dice, hour = Run(), Chance(7), -1
    waiting = iter(transactions)  # for their labels: all take equally long, so they arrive in the order of the transactions
    due = next(waiting, None)
    scorer = learner.scorer()
    for place, now in enumerate(transactions):
        began = perf_counter()
        while due is not None and due.time_s + delay_days * DAY_S <= now.time_s:
            if due.fraud or benign_share >= 1.0 or dice.random() < benign_share:
                learner.learn(due.features, due.fraud, 1.0 if due.fraud else 1.0 / benign_share)
                run.learned += 1
            due = next(waiting, None)
        learned = perf_counter()
        run.learn_s += learned - began
        if now.time_s >= first_day * DAY_S:
            if now.time_s // HOUR_S != hour:
                hour, scorer = now.time_s // HOUR_S, learner.scorer()
                learned = perf_counter()
            run.scores[place] = scorer.predict(now.features).probability
            run.predict_s += perf_counter() - learned
        if place % EVERY == EVERY - 1:
            advance(EVERY)
    advance(len(transactions) % EVERY)
    return run


def figures(transactions: list[Transaction], scores: dict[int, float], days: range, delay_days: int) -> Figures:
    """Measure the scores of some days, without the cards already known when each of them begins."""
    known_on = known_cards(transactions, days, delay_days)
    by_day: dict[int, list[tuple[int, float, bool]]] = defaultdict(list)
    for place, score in scores.items():
        t = transactions[place]
        day = t.time_s // DAY_S
        if day in days and t.card not in known_on[day]:
            by_day[day].append((t.card, score, t.fraud))
    rows = [row for day in sorted(by_day) for row in by_day[day]]
    said, truth = [score for _, score, _ in rows], [fraud for _, _, fraud in rows]
    return Figures(
        transactions=len(rows),
        frauds=sum(truth),
        average_precision=average_precision(said, truth),
        auc=roc_auc(said, truth),
        card_precision=card_precision((by_day[day] for day in sorted(by_day)), CARDS),
        brier=brier(said, truth),
        calibration_error=calibration_error(said, truth),
        mean_probability=sum(said) / len(said),
    )


def known_cards(transactions: list[Transaction], days: range, delay_days: int) -> dict[int, set[int]]:
    """Cards with a fraud whose label was there when the day began, by day."""
    first_fraud: dict[int, int] = {}
    for t in transactions:
        if t.fraud:
            first_fraud.setdefault(t.card, t.time_s // DAY_S)
    return {day: {card for card, at in first_fraud.items() if at + delay_days < day} for day in days}
