"""Which weights would this log have chosen? The weights there are, moved as far as labelled challenges ask for, and no further.

A logistic regression over the model's own terms and rules with a normal prior around each weight: with few takeovers it stays near
what was there, with many it follows the log (MAP estimate; Bishop, Pattern Recognition and Machine Learning, 4.5.1). Whatever the log
says, each weight keeps a share of what a person gave it, on the side where they put it: terms that mostly come together, such as a call
and a call near the code, would otherwise leave all to one of them, and an analyst without a reason. What it makes is a policy file:
numbers that can be read, compared and taken back.

The unit is one thing that could have been said of a challenge: each assessment that differs counts. Those of a takeover share its weight;
failed attempts are left out, as in every figure.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from math import log
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.core.decision import Assessment
from pipeline.core.learn.prediction import sigmoid
from pipeline.core.model import BY_HAND, INTERCEPT, TERMS, WEIGHTS
from pipeline.core.policy import Thresholds
from pipeline.core.rules import RULES
from pipeline.replay.evaluate import Labelled, Watch
from pipeline.replay.run import Progress, Replay
from pipeline.replay.score import read_truth
from pipeline.wire.log import merge_logs
from pipeline.wire.pseudonym import Pseudonyms

FIXED = ("intercept", "test_account")  # the base rate is the bank's, and its own tests are never alerted, whatever a log says
NAMES = (*(t.name for t in TERMS), *(r.name for r in RULES))
WATCH_BELOW = log(0.95 / 0.05)  # log-odds from the hand-set watch threshold (0.05) to the alert threshold (0.5)
LEAST = {"takeover": 10, "benign": 1000}  # challenges of each kind below which nothing is fitted
BOUND = 20.0  # of a weight, as in the policy
THRESHOLDS_BY_HAND = Thresholds(watch=0.05, alert=0.5)
KEEP = 0.5  # share of its hand-set weight that every term keeps: less cost nothing when each log was scored by the weights of the others
CONVERGED = {"ftol": 1e-14, "gtol": 1e-5, "maxiter": 5000, "maxfun": 20_000}

Row = tuple[float, ...]
Vector = NDArray[np.float64]


class TooFew(ValueError):
    """The logs hold too few challenges of one kind to fit anything."""


class Seen(msgspec.Struct, frozen=True):
    """A challenge whose truth is known, and each different row of term values that it was assessed by."""

    label: str
    story: str
    rows: tuple[Row, ...]


class Fitted(msgspec.Struct, frozen=True):
    """Weights by name, those they started from, thresholds (probabilities), and what they were made from.

    ``rate``: false alarms per benign challenge allowed when the threshold was chosen. ``false_alarms`` of ``benign`` and ``caught`` of
    ``takeovers``: each log scored by weights fitted to the others (``logs`` of them; one alone by its own, which flatters).
    """

    weights: dict[str, float]
    before: dict[str, float]
    watch: float
    alert: float
    rate: float
    logs: int
    benign: int
    false_alarms: int
    takeovers: int
    caught: int


def fit(
    data: Sequence[Labelled],
    pseudonyms: Pseudonyms,
    *,
    rate: float,
    sigma: float,
    left_out: Collection[str],
    watch: Watch,
    by_hand: bool = False,
) -> Fitted:
    """Replay the logs and fit. ``rate``: false alarms per benign code to allow; ``sigma``: standard deviation of the prior (log-odds);
    ``left_out``: stories not to learn from; ``by_hand``: around the hand-set weights, not those in force. Raises TooFew.
    """
    logs: list[list[Seen]] = []
    for number, labelled in enumerate(data, 1):
        if by_hand:
            policy = msgspec.structs.replace(labelled.policy, weights=BY_HAND, thresholds=THRESHOLDS_BY_HAND)
            labelled = msgspec.structs.replace(labelled, policy=policy)  # noqa: PLW2901  # what a profile trusts depends on them too
        seen = challenges(labelled, pseudonyms, watch(f"log {number} of {len(data)}"))
        logs.append([s for s in seen if s.story not in left_out])
    return fitted(logs, rate, sigma, BY_HAND if by_hand else {**WEIGHTS, **data[0].policy.weights})


def challenges(labelled: Labelled, pseudonyms: Pseudonyms, progress: Progress) -> list[Seen]:
    """Replay one log and keep what each challenge that the truth names was assessed by; those of the history are left out."""
    truths = {(t.account_id, t.otp_id): t for t in read_truth(labelled.truth) if not t.history and t.label != "attempt"}
    rows: dict[tuple[str, str], dict[Row, None]] = {key: {} for key in truths}

    def note(account_id: str, a: Assessment) -> None:
        found = rows.get((account_id, a.episode.challenge.otp_id))
        if found is not None:
            found[row(a)] = None

    with tempfile.TemporaryDirectory(prefix="offhook-fit-") as folder:
        Replay(labelled.policy, pseudonyms, Path(folder), observe=note).run(merge_logs(labelled.logs), progress)
    return [Seen(truths[key].label, truths[key].story, tuple(found)) for key, found in sorted(rows.items())]


def row(a: Assessment) -> Row:
    """The values of all terms, then 1 for each rule that fits, in the order of NAMES."""
    hits = {hit.uid for hit in a.rules}
    return (*(t.value(a.features) for t in TERMS), *(float(r.uid in hits) for r in RULES))


def fitted(logs: Sequence[Sequence[Seen]], rate: float, sigma: float, before: Mapping[str, float] = WEIGHTS) -> Fitted:
    """The weights of these challenges, and the threshold that keeps the benign ones within the rate; ``before``: those to start from. Pure.
    Raises TooFew.

    The threshold is chosen on scores that no log had a part in making its own: chosen on the challenges that made the weights it let
    through three times what was allowed.
    """
    for label, least in LEAST.items():
        found = sum(s.label == label for seen in logs for s in seen)
        if found < least:
            raise TooFew(f"{found} {label} challenges with a known truth; at least {least} are needed: add logs")
    weights = _weights([s for seen in logs for s in seen], sigma, before)
    best: dict[str, list[float]] = {label: [] for label in LEAST}
    for number, seen in enumerate(logs):
        others = [s for other, those in enumerate(logs) if other != number for s in those]
        theirs = _weights(others, sigma, before) if {s.label for s in others} == LEAST.keys() else weights
        column = np.array([theirs[name] for name in NAMES])
        for s in seen:
            best[s.label].append(_best(s, column))
    false = sorted(best["benign"], reverse=True)
    alert = false[int(rate * len(false))] + 1e-6  # above the first that would be one too many
    return Fitted(
        weights={name: round(weights[name], 3) for name in NAMES if name not in FIXED},
        before={name: before[name] for name in NAMES},
        watch=sigmoid(alert - WATCH_BELOW),
        alert=sigmoid(alert),
        rate=rate,
        logs=len(logs),
        benign=len(false),
        false_alarms=sum(x >= alert for x in false),
        takeovers=len(best["takeover"]),
        caught=sum(x >= alert for x in best["takeover"]),
    )


def _best(s: Seen, column: Vector) -> float:
    """The highest log-odds that was ever reached, with the base rate of the model; that alone for what was never assessed."""
    return INTERCEPT + (float((np.array(s.rows) @ column).max()) if s.rows else 0.0)


def _weights(seen: Sequence[Seen], sigma: float, before: Mapping[str, float]) -> dict[str, float]:
    """Maximise the posterior, each weight on the side of zero where a person put it, and at least ``KEEP`` of theirs: what is said
    against a customer never speaks for them by a quirk of the log. The base rate of the logs is fitted too and thrown away.
    """
    counted: dict[tuple[Row, bool], float] = {}  # most challenges look alike
    for s in seen:
        attack = s.label == "takeover"
        for r in s.rows:
            counted[r, attack] = counted.get((r, attack), 0.0) + (1.0 / len(s.rows) if attack else 1.0)
    x = np.array([(1.0, *r) for r, _ in counted])
    y = np.array([float(attack) for _, attack in counted])
    share = np.array(list(counted.values()))
    mean = np.array([log((share @ y) / (share @ (1 - y))), *(before[name] for name in NAMES)])
    precision = np.array([0.0, *(1e6 if name in FIXED else sigma**-2 for name in NAMES)])

    def loss(w: Vector) -> tuple[float, Vector]:
        z = x @ w
        p = expit(z)
        away = w - mean
        value = share @ (np.logaddexp(0.0, z) - y * z) + 0.5 * precision @ away**2
        return float(value), x.T @ (share * (p - y)) + precision * away

    start = mean.copy()
    start[0] -= 4.0  # the hand-set weights alone say too much together
    sides = [(KEEP * hand, BOUND) if hand > 0 else (-BOUND, KEEP * hand) for hand in (BY_HAND[name] for name in NAMES)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), *sides], options=CONVERGED)
    if not found.success:
        raise ArithmeticError(f"the fit did not converge: {found.message}")
    return dict(zip(NAMES, found.x[1:].tolist(), strict=True))


def policy_text(f: Fitted, made: str) -> str:
    """The policy file: thresholds and weights, each beside the one it started from, under the comment ``made``. What else a policy
    overrides is not repeated: put it beside.
    """
    lines = [f"# {line}" for line in made.splitlines()]
    lines += ["", "[thresholds]", f"watch = {f.watch:.6g}", f"alert = {f.alert:.6g}", "", "[weights]"]
    lines += [f"{name} = {value}  # was {f.before[name]:g}" for name, value in f.weights.items()]
    return "\n".join(lines) + "\n"
