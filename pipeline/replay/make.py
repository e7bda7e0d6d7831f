"""What can be learned before the first verdict? A blend taught from labelled logs, for a bank to start from.

What it is taught is each different assessment of a challenge whose truth is known, before the entry and at it, in an order that a hash
shuffles: a learner that sees one log after the other ends where the last one was. Those of a takeover share its weight. Of the plain
benign challenges a share is taken, at a weight that makes up for it. Failed attempts are left out, as in every figure. In the end the
share of attacks is set to that of the place where the model goes: logs to learn from hold far more than any bank has.
"""

import tempfile
from collections.abc import Collection, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

from pipeline.core.decision import Assessment
from pipeline.core.kept import features_of, row_of
from pipeline.core.learn.student import Student
from pipeline.core.outcome import Example
from pipeline.core.sampling import taken
from pipeline.replay.evaluate import Labelled, Watch
from pipeline.replay.run import Progress, Replay
from pipeline.replay.score import PLAIN, read_truth
from pipeline.wire.log import merge_logs
from pipeline.wire.pseudonym import Pseudonyms

LEAST = {"takeover": 10, "benign": 1000}  # challenges of each kind below which nothing is made
PLAIN_SHARE = 0.25  # of the plain benign challenges: there are 20 for each other one, and they are all alike


class TooFew(ValueError):
    """The logs hold too few challenges of one kind to learn from."""


class Lesson(msgspec.Struct, frozen=True):
    """One assessment of a challenge whose truth is known."""

    name: str
    label: bool
    weight: float
    row: bytes


class Made(msgspec.Struct, frozen=True):
    """A learner, and what it was made from."""

    student: Student
    said: str


def make(data: Sequence[Labelled], pseudonyms: Pseudonyms, *, prior: float, left_out: Collection[str], watch: Watch) -> Made:
    """Replay the logs and learn. ``prior``: attacks per code where the model goes; ``left_out``: stories not to learn from.

    Raises TooFew.
    """
    lessons: list[Lesson] = []
    counts = dict.fromkeys(LEAST, 0)
    for number, labelled in enumerate(data, 1):
        found, counted = lessons_of(labelled, number, pseudonyms, left_out, watch(f"log {number} of {len(data)}"))
        lessons += found
        counts = {label: counts[label] + counted[label] for label in counts}
    for label, least in LEAST.items():
        if counts[label] < least:
            raise TooFew(f"{counts[label]} {label} challenges with a known truth; at least {least} are needed: add logs")
    student = taught(data[0], lessons, prior, watch("learning"))
    without = f" without {', '.join(left_out)}" if left_out else ""
    said = (
        f"made from {len(data)} labelled logs{without}: {counts['takeover']} takeovers, {counts['benign']} benign challenges, "
        f"{len(lessons)} assessments; for {prior:g} attacks per code"
    )
    return Made(student, said)


def lessons_of(
    labelled: Labelled, number: int, pseudonyms: Pseudonyms, left_out: Collection[str], progress: Progress
) -> tuple[list[Lesson], dict[str, int]]:
    """Replay one log: what each challenge of its truth was assessed by, and how many challenges of each label there are."""
    truths = {
        (t.account_id, t.otp_id): t
        for t in read_truth(labelled.truth)
        if not t.history and t.label != "attempt" and t.story not in left_out
    }
    rows: dict[tuple[str, str], dict[bytes, None]] = {
        key: {} for key, t in truths.items() if t.story != PLAIN or taken(f"{number} {key}", PLAIN_SHARE)
    }

    def note(account_id: str, a: Assessment) -> None:
        found = rows.get((account_id, a.episode.challenge.otp_id))
        if found is not None:
            found[row_of(a.features)] = None

    with tempfile.TemporaryDirectory(prefix="offhook-make-") as folder:
        Replay(labelled.policy, pseudonyms, Path(folder), observe=note).run(merge_logs(labelled.logs), progress)
    lessons = []
    for key, found in rows.items():
        truth = truths[key]
        attack = truth.label == "takeover"
        weight = 1.0 / len(found) if attack and found else 1.0 / PLAIN_SHARE if truth.story == PLAIN else 1.0
        lessons += [Lesson(f"{number} {key} {n}", attack, weight, row) for n, row in enumerate(found)]
    counts = {label: sum(t.label == label for t in truths.values()) for label in LEAST}
    return lessons, counts


def taught(labelled: Labelled, lessons: Sequence[Lesson], prior: float, progress: Progress) -> Student:
    """Learn the lessons, shuffled, by the policy of a log, and assume the prior. Pure."""
    student = Student(labelled.policy)
    shuffled = sorted(lessons, key=lambda lesson: blake2b(lesson.name.encode(), digest_size=8).digest())
    for offset, lesson in enumerate(shuffled):
        student.take(
            offset, Example(example_id=lesson.name, time=0, features=features_of(lesson.row), label=lesson.label, weight=lesson.weight)
        )
        if not offset % 1000:
            progress(offset, 0)
    student.learner.assume_prior(prior)
    student.through = 0  # of the topic ``examples`` it has read nothing
    return student
