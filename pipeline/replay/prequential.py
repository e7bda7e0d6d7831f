"""Would a detector that learns have done better? Predict when the decision falls, learn when the label comes, day by day over a log.

What learns is the blend that the stage ``learn`` teaches, from what detect would have kept: it begins as the policy's weights and reads
the features of a code's entry with the log-odds that were said then. It is judged beside those weights alone, which never learn. Each
day both are held to the same share of false alarms: the threshold of a day is the one that would have kept to it on the benign codes of
the days before, never on its own.

Labels come as at a bank (domain.md): 1 to 10 days after the fact, 30 % never, 3.5 % wrong; of the benign only what was alerted is looked
at, and an alert that nobody judged teaches nothing. What was not alerted and has no label after the policy's waiting time is learned as
benign, for the share and at the trust of the policy, and corrected if a verdict comes after all. Everything is seeded.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from math import inf
from typing import NamedTuple

from pipeline.core.learn.blend import Blend
from pipeline.core.learn.chance import Chance
from pipeline.core.learn.examples import Example, Replaced, learn_example, sampled
from pipeline.core.learn.measures import average_precision
from pipeline.core.learn.prediction import Scorer, logit
from pipeline.core.learn.schema import FeatureValue
from pipeline.core.learn.stack import KNOWN
from pipeline.core.learn.student import SETTINGS
from pipeline.core.learn.vocabulary import episode_schema
from pipeline.core.policy import Policy
from pipeline.core.sampling import taken
from pipeline.replay.card import Interval
from pipeline.replay.lessons import Day, Learning, Lesson, Said, StoryLearned
from pipeline.replay.scorecard import interval

DAY_MS = 86_400_000
DELAY_DAYS = (1.0, 10.0)  # from the fact to its label
NEVER = 0.3  # of frauds, and of alerts on benign codes, are never labelled (domain.md: 20 to 40 %)
WRONG = 0.035  # of the labels that come are wrong (domain.md: 2 to 5 %)
ALLOWED = 1e-3  # share of false alarms that both are held to: the highest of the rates a bank can live with that a day's codes resolve
PAST_DAYS = 7  # of benign codes that a day's threshold is chosen on


def learner() -> Blend:
    """The learner of the stage ``learn`` before its first example: it says what the policy's weights say."""
    return Blend.fresh(episode_schema(), SETTINGS)


def kept(said: Sequence[Said]) -> Said | None:
    """What detect keeps of a challenge for the day its truth comes: the decision when the code was accepted, else when it expired and
    was suspicious, else when it was refused last.
    """
    accepted = (s for s in said if s.features.get("entered") and not s.features.get("refused"))
    missed = (s for s in said if s.stage == "near_miss" and s.level != "clear")
    refused = (s for s in reversed(said) if s.features.get("entered") and s.stage != "near_miss")
    return next(chain(accepted, missed, refused), None)


def told(said: Said) -> dict[str, FeatureValue]:
    """The features of a decision with what the policy's weights said of them."""
    return {**said.features, KNOWN: said.log_odds}


def examples(lessons: Sequence[Lesson], policy: Policy, seed: int) -> list[Example]:
    """What there is to learn, in the order in which it becomes known. On a benign code somebody looks only where it was alerted."""
    out: list[Example] = []
    alert, learning = logit(policy.thresholds.alert), policy.learning
    quiet = sampled(learning.trust, learning.negatives) if learning.negatives else 0.0
    for number, lesson in enumerate(lessons):
        dice = Chance(seed * 1_000_003 + number)
        said = kept(lesson.said)
        if said is None:
            continue
        seen = max(s.log_odds for s in lesson.said)
        looked_at = lesson.label == "takeover" or seen >= alert
        delay = DELAY_DAYS[0] + (DELAY_DAYS[1] - DELAY_DAYS[0]) * dice.random()
        labelled, wrong = looked_at and dice.random() >= NEVER, dice.random() < WRONG
        truth = (lesson.label != "benign") != wrong  # an attempt that is looked at is an attack, though nobody lost anything
        id_, features, before = f"{number}", told(said), None
        unlabelled = seen < alert and (not labelled or delay > learning.wait_days)
        if quiet and unlabelled and taken(f"{seed} {number}", learning.negatives):
            due = lesson.at + learning.wait_days * DAY_MS
            out.append(Example(example_id=id_, time=due, features=features, label=False, weight=quiet))
            before = Replaced(False, quiet)
        if labelled:
            due = lesson.at + int(delay * DAY_MS)
            out.append(Example(example_id=id_, time=due, features=features, label=truth, weight=1.0, replaces=before))
    return sorted(out, key=lambda e: (e.time, e.example_id))


class Scores(NamedTuple):
    """The highest log-odds of each challenge, the threshold of each day, and how many examples were learned."""

    best: list[float]
    limits: dict[int, float]
    taught: int


def scores(lessons: Sequence[Lesson], policy: Policy, seed: int) -> tuple[Scores, Scores]:
    """What is said with learning off and with learning on. With learning on, each day begins with a snapshot of what was learned until
    then, and its threshold is chosen with that snapshot.
    """
    begin = min(x.at for x in lessons)
    by_day: dict[int, list[Lesson]] = {}
    for lesson in lessons:
        by_day.setdefault((lesson.at - begin) // DAY_MS, []).append(lesson)
    pupil = learner()
    off, on = Scores([-inf] * len(lessons), {}, 0), Scores([-inf] * len(lessons), {}, 0)
    spoken = sorted(((s.time, n, s) for n, x in enumerate(lessons) for s in x.said), key=lambda step: step[:2])
    due = iter(examples(lessons, policy, seed))
    waiting = next(due, None)
    scorer, today, taught = pupil.scorer(), -1, 0
    for time, n, said in spoken:
        day = max(0, (time - begin) // DAY_MS)
        while today < day:
            today += 1
            while waiting is not None and waiting.time <= begin + today * DAY_MS:
                taught += learn_example(pupil, waiting)
                waiting = next(due, None)
            scorer = pupil.scorer()
            past = [x.said for d in range(today - PAST_DAYS, today) for x in by_day.get(d, ()) if x.label == "benign"]
            off.limits[today] = limit([max((s.log_odds for s in each), default=-inf) for each in past])
            on.limits[today] = limit([max((asked(scorer, s) for s in each), default=-inf) for each in past])
        off.best[n] = max(off.best[n], said.log_odds)
        on.best[n] = max(on.best[n], asked(scorer, said))
    return off, on._replace(taught=taught)


def asked(scorer: Scorer, said: Said) -> float:
    """What the learned model says of a decision (log-odds)."""
    return scorer.predict(told(said)).log_odds


def limit(past: Sequence[float]) -> float:
    """The least score that keeps to the allowed share of false alarms on these benign codes; infinite without any."""
    if not past:
        return inf
    return sorted(past, reverse=True)[int(ALLOWED * len(past))] + 1e-9


class Judged(NamedTuple):
    """A challenge that counts: of which log and day, what it was, and what was said of it."""

    log: int
    day: int
    lesson: Lesson
    off: float
    on: float
    alarmed_off: bool
    alarmed_on: bool


def learning(logs: Sequence[Sequence[Lesson]], policy: Policy, seed: int = 1) -> Learning | None:
    """Learning on beside learning off, over logs that each learn by themselves; None when none of them spans the days it takes."""
    judged: list[Judged] = []
    taught = 0
    for number, lessons in enumerate(logs):
        if not lessons:
            continue
        begin = min(x.at for x in lessons)
        if (max(x.at for x in lessons) - begin) // DAY_MS < PAST_DAYS:
            continue
        off, on = scores(lessons, policy, seed)
        taught += on.taught
        for n, lesson in enumerate(lessons):
            day = (lesson.at - begin) // DAY_MS
            if lesson.label != "attempt" and day in off.limits and day > 0:
                a, b = off.best[n], on.best[n]
                judged.append(Judged(number, day, lesson, a, b, a >= off.limits[day], b >= on.limits[day]))
    if not judged:
        return None
    late = [j for j in judged if j.day >= PAST_DAYS]
    frauds = [j.lesson.label == "takeover" for j in late]
    return Learning(
        allowed=ALLOWED,
        examples=taught,
        from_day=PAST_DAYS,
        days=tuple(_day(day, [j for j in judged if j.day == day]) for day in range(1, max(j.day for j in judged) + 1)),
        whole=_day(PAST_DAYS, late),
        stories=tuple(_stories(late)),
        average_precision_off=average_precision([j.off for j in late], frauds),
        average_precision_on=average_precision([j.on for j in late], frauds),
        gain=_gains(late),
    )


def _day(day: int, judged: Sequence[Judged]) -> Day:
    taken = [j for j in judged if j.lesson.label == "takeover"]
    honest = [j for j in judged if j.lesson.label == "benign"]
    off, on = sum(j.alarmed_off for j in taken), sum(j.alarmed_on for j in taken)
    return Day(day, len(taken), off, on, len(honest), sum(j.alarmed_off for j in honest), sum(j.alarmed_on for j in honest))


def _stories(judged: Sequence[Judged]) -> Iterator[StoryLearned]:
    groups: dict[str, list[Judged]] = {}
    for j in judged:
        if j.lesson.label == "takeover":
            groups.setdefault(j.lesson.story, []).append(j)
    for story in sorted(groups, key=lambda s: (len(s), s)):
        group = groups[story]
        yield StoryLearned(story, len(group), sum(j.alarmed_off for j in group), sum(j.alarmed_on for j in group), _gains(group))


def _gains(judged: Sequence[Judged]) -> Interval:
    return interval([_gain([j for j in judged if j.log == number]) for number in sorted({j.log for j in judged})])


def _gain(judged: Sequence[Judged]) -> float:
    taken = [j for j in judged if j.lesson.label == "takeover"]
    return (sum(j.alarmed_on for j in taken) - sum(j.alarmed_off for j in taken)) / len(taken) if taken else 0.0
