"""How good would the detector be on this log, with all it has and with less? Replays, joins with the truth, and measures."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from pipeline.core.events import Ms
from pipeline.core.outcome import FeatureValue
from pipeline.core.policy import Policy
from pipeline.replay.ablations import VIEWS
from pipeline.replay.card import Interval, Scorecard, Scored
from pipeline.replay.cases import read_cases
from pipeline.replay.lessons import Learning, Lesson, read_lessons
from pipeline.replay.prequential import PAST_DAYS, learning
from pipeline.replay.run import Progress, Replay
from pipeline.replay.score import Truth, read_truth
from pipeline.replay.scorecard import CUSTOMER, scorecard, summary
from pipeline.wire.log import read_log
from pipeline.wire.pseudonym import Pseudonyms

Watch = Callable[[str], Progress]  # what is run now


class Labelled(msgspec.Struct, frozen=True):
    """Logs with the truth about them and the policy to judge them by: one seed of a simulator, or a bank's own labelled month."""

    logs: tuple[Path, ...]
    truth: Path
    policy: Policy


class Evaluation(msgspec.Struct, frozen=True):
    """A scorecard for each view, the full one first; learning on beside off in the first of them, None where the logs are too short."""

    prior: float
    policy_ids: tuple[str, ...]
    views: dict[str, Scorecard]
    learning: Learning | None = None


class _Decision(msgspec.Struct, frozen=True):
    account_id: str
    otp_id: str
    probability: float
    features: dict[str, FeatureValue]


def evaluate(data: Sequence[Labelled], pseudonyms: Pseudonyms, prior: float, views: Iterable[str], watch: Watch) -> Evaluation:
    """Replay each log in each view and measure. ``views``: names of ablations.VIEWS; ``prior``: attacks per code at a bank."""
    cards: dict[str, Scorecard] = {}
    lessons: list[list[Lesson]] = []
    for view in views:
        runs = []
        for number, labelled in enumerate(data, 1):
            run_, said = run(labelled, view, pseudonyms, watch(f"{view}, log {number} of {len(data)}"), lessons=not cards)
            runs.append(run_)
            lessons += [said] if said else []
        cards[view] = scorecard(runs, prior)
    return Evaluation(prior, tuple(dict.fromkeys(d.policy.id for d in data)), cards, learning(lessons, data[0].policy))


def run(
    labelled: Labelled, view: str, pseudonyms: Pseudonyms, progress: Progress, *, lessons: bool = False
) -> tuple[list[Scored], list[Lesson]]:
    """Replay one log in one view, and join what was said with the truth; challenges of the history are left out. ``lessons``: keep what
    there is to learn too.
    """
    with tempfile.TemporaryDirectory(prefix="offhook-evaluate-") as folder:
        Replay(labelled.policy, pseudonyms, Path(folder)).run(VIEWS[view](labelled.logs), progress)
        truths = read_truth(labelled.truth)
        return joined(truths, Path(folder)), read_lessons(truths, Path(folder)) if lessons else []


def joined(truths: Iterable[Truth], folder: Path) -> list[Scored]:
    """What the outputs of a run say of each challenge that the truth names."""
    decode = msgspec.json.Decoder(_Decision).decode
    best: dict[tuple[str, str], _Decision] = {}
    for record in read_log(folder / "decisions.jsonl"):
        decision = decode(record.value or b"")
        key = (decision.account_id, decision.otp_id)
        known = best.get(key)
        if known is None or decision.probability > known.probability:
            best[key] = decision
    first: dict[tuple[str, str], Ms] = {(c.account_id, c.otp_id): c.heard.time for c in read_cases(folder) if c.heard is not None}
    scored = []
    for truth in {(t.account_id, t.otp_id): t for t in truths if not t.history}.values():
        key = (truth.account_id, truth.otp_id)
        decision_ = best.get(key)
        scored.append(
            Scored(
                truth.account_id,
                truth.otp_id,
                truth.label,
                truth.story,
                truth.has_call,
                0.0 if decision_ is None else decision_.probability,
                first.get(key),
                None if truth.entered_at is None else int(truth.entered_at.timestamp() * 1000),
                ({} if decision_ is None else decision_.features) | ({CUSTOMER: truth.segment} if truth.segment else {}),
            )
        )
    return scored


def lines(evaluation: Evaluation) -> list[str]:
    """The figures that matter most, for a terminal."""
    card = next(iter(evaluation.views.values()))
    wide = max(map(len, evaluation.views))
    out = [
        f"takeovers     {card.caught.hits} of {card.caught.n} caught: {100 * card.caught.share:.1f} % "
        f"({100 * card.caught.low:.1f} to {100 * card.caught.high:.1f}); before the entry {100 * card.lead.before_entry.share:.0f} %, "
        f"within 1 s {100 * card.lead.within_1s.share:.0f} %, within 10 s {100 * card.lead.within_10s.share:.0f} %",
        f"with a call   {card.before_entry_with_call.hits} of {card.before_entry_with_call.n} alerted before the entry",
        f"false alarms  {card.false_alarms.hits} of {card.false_alarms.n:,} benign codes: {1e4 * card.false_alarms.share:.1f} per 10,000 "
        f"({1e4 * card.false_alarms.low:.1f} to {1e4 * card.false_alarms.high:.1f})",
        "at rates      "
        + ", ".join(
            f"recall {100 * a.by_challenge:.1f} % at {a.false_positive_rate:g}" + ("" if a.resolved else " (unresolved)")
            for a in card.at_rates
        ),
        f"calibration   Brier {card.calibration.brier:.2g}, error {card.calibration.error:.2g} (at this log's prior)",
        *_learning_lines(evaluation.learning),
        "",
        f"{'view':{wide}}  " + "  ".join(summary(card)),
    ]
    for view, other in evaluation.views.items():
        cells = [f"{value:>{len(name)}.{1 if '10,000' in name else 3}f}" for name, value in summary(other).items()]
        out.append(f"{view:{wide}}  " + "  ".join(cells))
    return out


def _learning_lines(learned: Learning | None) -> list[str]:
    if learned is None:
        return [f"learning      not judged: no log spans {PAST_DAYS} days"]
    d = learned.whole
    return [
        f"learning      from day {learned.from_day} on, thresholds at {learned.allowed:g} false alarms chosen on the days before: "
        f"off {d.caught_off}, on {d.caught_on} of {d.takeovers} takeovers; false alarms off {d.false_off}, on {d.false_on} of "
        f"{d.benign:,}; average precision off {learned.average_precision_off:.3f}, on {learned.average_precision_on:.3f}",
        *([] if learned.gain.low is None else [f"              on minus off, over logs: {_gain(learned.gain)}"]),
        *(
            f"              {s.story}: off {s.caught_off}, on {s.caught_on} of {s.takeovers}"
            + ("" if s.gain.low is None else f"; {_gain(s.gain)}")
            for s in learned.stories
            if s.caught_off != s.caught_on
        ),
    ]


def _gain(gain: Interval) -> str:
    low, high = gain.low or 0.0, gain.high or 0.0
    return f"{100 * gain.mean:+.1f} points of the takeovers ({100 * low:+.1f} to {100 * high:+.1f})"
