"""What was said of each challenge, and when, and what is learned from that: the values of the prequential evaluation, and their reading."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from pipeline.core.events import Ms
from pipeline.core.outcome import FeatureValue, Level, Stage
from pipeline.replay.card import Interval
from pipeline.replay.score import Truth
from pipeline.wire.log import read_log


class Said(msgspec.Struct, frozen=True):
    """One decision: when (ms), the log-odds of the policy's model, the features it had, its stage and its level."""

    time: Ms
    log_odds: float
    features: dict[str, FeatureValue]
    stage: Stage = "at_entry"
    level: Level = "clear"


class Lesson(msgspec.Struct, frozen=True):
    """One challenge with its truth; ``at``: when it was over (ms), from which the delay of its label counts."""

    label: Literal["takeover", "attempt", "benign"]
    story: str
    at: Ms
    said: tuple[Said, ...]


class Day(msgspec.Struct, frozen=True):
    """One day, counted from the first of a log: takeovers and benign codes, and how many of each alarmed with learning off and on."""

    day: int
    takeovers: int
    caught_off: int
    caught_on: int
    benign: int
    false_off: int
    false_on: int


class StoryLearned(msgspec.Struct, frozen=True):
    """Takeovers of one story, how many alarmed with learning off and on, and the difference as a share of them, over the logs."""

    story: str
    takeovers: int
    caught_off: int
    caught_on: int
    gain: Interval


class Learning(msgspec.Struct, frozen=True):
    """Learning off and on, by day and from ``from_day`` on (``whole``, ``stories``, average precision).

    ``allowed``: share of false alarms the threshold of each day was chosen for; ``examples``: lessons learned; ``gain``: share of takeovers
    caught with learning on minus that with it off, over the logs.
    """

    allowed: float
    examples: int
    from_day: int
    days: tuple[Day, ...]
    whole: Day
    stories: tuple[StoryLearned, ...]
    average_precision_off: float
    average_precision_on: float
    gain: Interval


class _Reason(msgspec.Struct, frozen=True):
    contribution: float


class _Decision(msgspec.Struct, frozen=True):
    account_id: str
    otp_id: str
    time: Ms
    features: dict[str, FeatureValue]
    reasons: list[_Reason]
    stage: Stage
    level: Level


def read_lessons(truths: Iterable[Truth], folder: Path) -> list[Lesson]:
    """What a run said of each challenge that the truth names, history left out; the log-odds of a decision are the sum of its reasons."""
    decode = msgspec.json.Decoder(_Decision).decode
    said: dict[tuple[str, str], list[Said]] = {}
    for record in read_log(folder / "decisions.jsonl"):
        d = decode(record.value or b"")
        one = Said(d.time, sum(r.contribution for r in d.reasons), d.features, d.stage, d.level)
        said.setdefault((d.account_id, d.otp_id), []).append(one)
    lessons = []
    for truth in {(t.account_id, t.otp_id): t for t in truths if not t.history}.values():
        spoken = tuple(sorted(said.get((truth.account_id, truth.otp_id), ()), key=lambda s: s.time))
        over = truth.entered_at or truth.dispatched_at
        at = int(over.timestamp() * 1000) if over is not None else spoken[0].time if spoken else None
        if at is not None:
            lessons.append(Lesson(truth.label, truth.story, at, spoken))
    return lessons
