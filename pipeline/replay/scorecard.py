"""How good is the detector where it matters: at false-positive rates a bank can live with? The measures of one or more runs, pure.

Unit: one challenge, with the highest probability that any decision gave it; a benign challenge about which nothing was kept scores 0.
Failed attempts count neither as caught nor as false. What a simulated log has too many of, attacks, is put right by a stated prior.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import exp, inf, log, sqrt
from statistics import fmean, stdev

import msgspec
from scipy.stats import t

from pipeline.core.learn.measures import average_precision, brier, calibration_error, recall_at, reliability, roc_auc
from pipeline.core.model import INTERCEPT
from pipeline.replay.card import AtBudget, AtRate, Calibration, Interval, Lead, Pair, Rate, Scorecard, Scored, Segment
from pipeline.replay.score import PLAIN, wilson

FALSE_POSITIVE_RATES = (1e-3, 1e-4, 1e-5)
BUDGETS = (10, 50, 100)  # alerts per million codes
HARD_PAIRS = (  # attack and what looks like it (domain.md)
    ("V1", "B8"), ("V2", "B2"), ("V3", "B1"), ("V4", "B2"), ("V8", "B14"), ("V9", "B12"), ("V12", "B8"), ("V1", "B4"),
)  # fmt: skip
CUSTOMER = "customer"  # the segment of customers that the truth names
SEGMENTS = (CUSTOMER, "channel", "purpose", "network_kind", "new_device", "telephony_known")
MOST_ODDS = 35.0


def rate(hits: int, n: int) -> Rate:
    """A share with its interval; of nothing it is 0, from 0 to 1."""
    return Rate(hits, n, hits / n if n else 0.0, *wilson(hits, n))


def scorecard(runs: Sequence[Sequence[Scored]], prior: float) -> Scorecard:
    """Measure the challenges of one run or several (one per seed). ``prior``: attacks per code at a bank."""
    pooled = _measured(runs, prior)
    each = [figures(pooled if len(runs) == 1 else _measured([run], prior), resolved=True) for run in runs]
    over = {name: interval(values) for name in figures(pooled) if (values := [found[name] for found in each if name in found])}
    return msgspec.structs.replace(pooled, seeds=over)


def _measured(runs: Sequence[Sequence[Scored]], prior: float) -> Scorecard:
    all_ = [s for run in runs for s in run]
    takeovers = [s for s in all_ if s.label == "takeover"]
    benign = [s for s in all_ if s.label == "benign"]
    with_call = [s for s in takeovers if s.has_call]
    judged = [*takeovers, *benign]
    scores, labels = [s.score for s in judged], [s.label == "takeover" for s in judged]
    return Scorecard(
        takeovers=len(takeovers),
        attempts=len(all_) - len(judged),
        benign=len(benign),
        caught=_alerted(takeovers),
        caught_with_call=_alerted(with_call),
        before_entry_with_call=rate(sum(_lead(s) < 0 for s in with_call), len(with_call)),
        false_alarms=_alerted(benign),
        false_alarms_plain=_alerted([s for s in benign if s.story == PLAIN]),
        average_precision=average_precision(scores, labels),
        auc=roc_auc(scores, labels),
        at_rates=tuple(_at_rate(f, runs, scores, labels) for f in FALSE_POSITIVE_RATES),
        prior=prior,
        at_budgets=tuple(_at_budget(k, prior, takeovers, benign) for k in BUDGETS),
        lead=_leads(takeovers),
        stories={
            f"{story} {label}": _alerted([s for s in all_ if (s.story, s.label) == (story, label)])
            for story, label in sorted({(s.story, s.label) for s in all_})
        },
        pairs=tuple(p for a, b in HARD_PAIRS if (p := _pair(a, b, takeovers, benign)) is not None),
        segments=tuple(_segments(benign)),
        calibration=_calibration(judged),
        curve=_curve(scores, labels),
        seeds={},
    )


def _alerted(members: Sequence[Scored]) -> Rate:
    return rate(sum(s.alerted_at is not None for s in members), len(members))


def _lead(s: Scored) -> float:
    """Seconds from the entry to the alert; infinite without an alert, or without an entry."""
    return inf if s.alerted_at is None or s.entered_at is None else (s.alerted_at - s.entered_at) / 1000


def _leads(takeovers: Sequence[Scored]) -> Lead:
    seconds = sorted(x for s in takeovers if (x := _lead(s)) < inf)
    before = rate(sum(x < 0 for x in seconds), len(takeovers))
    at_1, at_10 = (rate(sum(x <= most for x in seconds), len(takeovers)) for most in (1, 10))
    return Lead(before, at_1, at_10, tuple(seconds))


def _by_account(runs: Sequence[Sequence[Scored]]) -> tuple[list[float], list[bool]]:
    """The highest score of each account; one with attempts only is left out."""
    best: dict[tuple[int, str], float] = {}
    taken: Counter[tuple[int, str]] = Counter()
    tried: set[tuple[int, str]] = set()
    for number, run in enumerate(runs):
        for s in run:
            key = (number, s.account_id)
            if s.label == "attempt":
                tried.add(key)
                continue
            best[key] = max(s.score, best.get(key, 0.0))
            taken[key] += s.label == "takeover"
    kept = [key for key in best if taken[key] or key not in tried]
    return [best[key] for key in kept], [taken[key] > 0 for key in kept]


def _at_rate(f: float, runs: Sequence[Sequence[Scored]], scores: Sequence[float], labels: Sequence[bool]) -> AtRate:
    accounts = _by_account(runs)
    return AtRate(f, recall_at(scores, labels, f), recall_at(*accounts, f), (len(labels) - sum(labels)) * f >= 1)


def _at_budget(k: int, prior: float, takeovers: Sequence[Scored], benign: Sequence[Scored]) -> AtBudget:
    """At the lowest threshold that keeps within the budget; alerts = 10^6 (prior * recall + (1 - prior) * false-positive rate)."""
    ordered = sorted([(-s.score, True) for s in takeovers] + [(-s.score, False) for s in benign])
    hit = wrong = 0
    recall = false = 0.0
    for n, (score, is_takeover) in enumerate(ordered):
        hit, wrong = hit + is_takeover, wrong + (not is_takeover)
        if n + 1 < len(ordered) and ordered[n + 1][0] == score:
            continue  # ties are taken together
        r, f = hit / max(1, len(takeovers)), wrong / max(1, len(benign))
        if 1e6 * (prior * r + (1 - prior) * f) > k:
            break
        recall, false = r, f
    alerts = prior * recall + (1 - prior) * false
    codes = 1e6 * prior
    return AtBudget(k, recall, min(1.0, k / codes), prior * recall / alerts if alerts else 0.0, min(1.0, codes / k))


def _pair(attack: str, lookalike: str, takeovers: Sequence[Scored], benign: Sequence[Scored]) -> Pair | None:
    ours = [s for s in takeovers if s.story == attack]
    theirs = [s for s in benign if s.story == lookalike]
    if not ours and not theirs:
        return None
    auc = roc_auc([s.score for s in (*ours, *theirs)], [True] * len(ours) + [False] * len(theirs)) if ours and theirs else None
    return Pair(attack, lookalike, auc, _alerted(ours), _alerted(theirs))


def _segments(benign: Sequence[Scored]) -> Iterable[Segment]:
    for name in SEGMENTS:
        groups: dict[Hashable, list[Scored]] = {}
        for s in benign:
            groups.setdefault(str(s.features.get(name, "missing")), []).append(s)
        for value in sorted(groups, key=str):
            yield Segment(name, str(value), _alerted(groups[value]))


def _calibration(judged: Sequence[Scored]) -> Calibration:
    n = sum(s.label == "takeover" for s in judged)
    prior = min(max(n / max(1, len(judged)), 1e-9), 1 - 1e-9)
    shift = log(prior / (1 - prior)) - INTERCEPT
    p, y = [_shifted(s.score, shift) for s in judged], [s.label == "takeover" for s in judged]
    return Calibration(prior, brier(p, y), calibration_error(p, y), tuple(reliability(p, y)))


def _shifted(probability: float, shift: float) -> float:
    """The probability with the odds of another prior."""
    if probability <= 0.0:
        return 0.0
    odds = MOST_ODDS if probability >= 1.0 else log(probability / (1 - probability))
    return 1 / (1 + exp(-max(-MOST_ODDS, min(MOST_ODDS, odds + shift))))


def _curve(scores: Sequence[float], labels: Sequence[bool]) -> tuple[tuple[float, float], ...]:
    """Recall over false-positive rate, a point wherever either changes, down to what the log resolves."""
    frauds = sum(labels)
    others = len(labels) - frauds
    points: list[tuple[float, float]] = []
    hit = wrong = 0
    for score, label in sorted(zip(scores, labels, strict=True), reverse=True):
        if score <= 0.0:
            break
        hit, wrong = hit + label, wrong + (not label)
        point = (wrong / max(1, others), hit / max(1, frauds))
        if points and points[-1][0] == point[0]:
            points[-1] = point
        else:
            points.append(point)
    return tuple(points)


def interval(values: Sequence[float]) -> Interval:
    """The mean over seeds with its 95 % interval (Student's t)."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


SUMMARY = ("caught", "before the entry, with a call", "false alarms per 10,000", "recall at 1e-4", "average precision")


def figures(card: Scorecard, resolved: bool = False) -> dict[str, float]:
    """Every single figure of a card by its name, those left out that rest on nothing: what an interval over seeds is made of.

    ``resolved``: leave out too what the card has too few benign challenges to resolve: a mean of it says what no false alarm at all costs.
    """
    found: dict[str, float] = {}
    if card.takeovers:
        found |= {
            "caught": card.caught.share,
            "before the entry": card.lead.before_entry.share,
            "at most 1 s after the entry": card.lead.within_1s.share,
            "at most 10 s after the entry": card.lead.within_10s.share,
        }
    if card.caught_with_call.n:
        found |= {"caught, with a call": card.caught_with_call.share, "before the entry, with a call": card.before_entry_with_call.share}
    if card.benign:
        found["false alarms per 10,000"] = 1e4 * card.false_alarms.share
    if not (card.takeovers and card.benign):
        return found
    for at in card.at_rates:
        if resolved and not at.resolved:
            continue
        name = f"recall at {_short(at.false_positive_rate)}"
        found |= {name: at.by_challenge, f"{name}, by account": at.by_account}
    found |= {"average precision": card.average_precision, "ROC AUC": card.auc}
    for budget in card.at_budgets:
        if resolved and 1e-6 * budget.alerts_per_million * card.benign < 1:
            continue
        with_ = f"with {budget.alerts_per_million} alerts per million codes"
        found |= {f"recall {with_}": budget.recall, f"precision {with_}": budget.precision}
    return found | {"Brier score": card.calibration.brier, "calibration error": card.calibration.error}


def _short(rate: float) -> str:
    """A small rate as it is said.

    >>> _short(1e-4)
    '1e-4'
    """
    return f"{rate:.0e}".replace("e-0", "e-")


def summary(card: Scorecard) -> Mapping[str, float]:
    """The figures an ablation is compared by; those that rest on nothing are 0."""
    found = figures(card)
    return {name: found.get(name, 0.0) for name in SUMMARY}
