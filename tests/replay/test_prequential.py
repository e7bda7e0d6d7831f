"""Does learning start as the policy's model, use no label before it came, and find an attack that the policy does not know?"""

from math import inf

import pytest

from pipeline.core.policy import Learning, Policy
from pipeline.replay.lessons import Lesson, Said
from pipeline.replay.page import page
from pipeline.replay.prequential import (
    ALLOWED,
    DAY_MS,
    DELAY_DAYS,
    NEVER,
    WRONG,
    examples,
    kept,
    learner,
    learning,
    limit,
    told,
)
from pipeline.replay.scorecard import scorecard

BEGIN = 1_772_438_400_000
POLICY = Policy(learning=Learning(negatives=1.0))
WAIT_DAYS, TRUST = POLICY.learning.wait_days, POLICY.learning.trust
ORDINARY = {"entered": True, "new_device": False, "entry_latency_s": 14.0, "entry_method": "typed"}
UNKNOWN = {"entered": True, "new_device": True, "entry_latency_s": 3.0, "entry_method": "pasted"}  # what nobody's weights speak of


def lesson(label: str, day: float, log_odds: float, features: dict[str, object], story: str = "plain") -> Lesson:
    at = BEGIN + int(day * DAY_MS)
    return Lesson(label, story, at, (Said(at, log_odds, features),))  # type: ignore[arg-type]


def bank(days: int = 20, new_from: int = 5) -> list[Lesson]:
    """200 honest codes a day at scores from -9 to -4, an attack a day that the policy knows, later four it does not."""
    out = []
    for day in range(days):
        out += [lesson("benign", day + n / 200, -9 + 5 * n / 200, ORDINARY) for n in range(200)]
        out.append(lesson("takeover", day + 0.501, 2.0, {**ORDINARY, "new_device": True}, "V1"))
        if day >= new_from:
            out += [lesson("takeover", day + 0.1 + n / 10, -6.0, UNKNOWN, "V15") for n in range(4)]
    return out


def test_the_pupil_begins_as_the_policy() -> None:
    scorer = learner().scorer()
    for log_odds in (-12.0, -3.0, 1.5):
        assert scorer.predict(told(Said(BEGIN, log_odds, UNKNOWN))).log_odds == pytest.approx(log_odds)


def test_what_is_learned_of_a_code_is_the_decision_at_its_entry() -> None:
    before = Said(BEGIN, -5.0, {"call_live": True})
    refused, accepted, after = (
        Said(BEGIN + n, -4.0 + n, {"entered": True, "refused": n == 1, "changes_after": int(n == 3)}) for n in (1, 2, 3)
    )
    assert kept([before]) is None
    assert kept([before, refused]) is refused
    assert kept([before, refused, accepted, after]) is accepted
    said = (before, refused, accepted, after)
    (taught,) = examples([Lesson("benign", "plain", BEGIN, said)], POLICY, seed=1)
    assert taught.features == {**accepted.features, "known": accepted.log_odds}
    assert examples([Lesson("takeover", "V1", BEGIN, (before,))], POLICY, seed=1) == [], "nobody entered it, and it was not suspicious"
    missed = Said(BEGIN + 9, -2.0, {"call_live": True}, "near_miss", "watch")
    assert kept([before, missed]) is missed
    assert kept([before, refused, missed]) is missed
    assert kept([before, missed, accepted]) is accepted
    assert kept([before, refused, Said(BEGIN + 9, -9.0, refused.features, "near_miss")]) is refused, "it was not suspicious"


def test_of_what_nobody_looked_at_the_share_is_learned_that_the_policy_says() -> None:
    quiet = [lesson("benign", 0, -8.0, ORDINARY)] * 4000
    sampled = examples(quiet, Policy(learning=Learning(negatives=0.05)), seed=1)
    assert len(sampled) / 4000 == pytest.approx(0.05, abs=0.01)
    assert {e.weight for e in sampled} == {TRUST / 0.05}
    assert examples(quiet, Policy(learning=Learning(negatives=0.0)), seed=1) == []


def test_labels_come_late_some_never_and_some_wrong() -> None:
    frauds = [lesson("takeover", 0, 3.0, UNKNOWN, "V1") for _ in range(4000)]
    taught = examples(frauds, POLICY, seed=3)
    first = {e.example_id: e for e in taught}
    assert len(taught) / 4000 == pytest.approx(1 - NEVER, abs=0.03)
    assert sum(not e.label for e in first.values()) / len(first) == pytest.approx(WRONG, abs=0.01)
    waits = [(e.time - BEGIN) / DAY_MS for e in taught]
    assert DELAY_DAYS[0] <= min(waits) < 1.1
    assert 9.9 < max(waits) <= DELAY_DAYS[1]
    assert [e.time for e in taught] == sorted(e.time for e in taught)
    assert examples(frauds, POLICY, seed=3) == taught, "seeded"


def test_what_nobody_looks_at_is_benign_after_a_while_and_a_late_verdict_corrects_it() -> None:
    quiet = examples([lesson("benign", 0, -8.0, ORDINARY)] * 50, POLICY, seed=1)
    assert {(e.time - BEGIN) / DAY_MS for e in quiet} == {WAIT_DAYS}
    assert {(e.label, e.weight, e.replaces) for e in quiet} == {(False, TRUST, None)}
    missed = examples([lesson("takeover", 0, -8.0, UNKNOWN)] * 400, POLICY, seed=1)
    by_id: dict[str, list[bool]] = {}
    for e in missed:
        by_id.setdefault(e.example_id, []).append(e.label)
        assert (e.replaces is None) == (len(by_id[e.example_id]) == 1)
    assert [False, True] in by_id.values()
    assert [True] in by_id.values()
    alerted = examples([lesson("benign", 0, 1.0, ORDINARY)] * 400, POLICY, seed=1)
    assert len(alerted) / 400 == pytest.approx(1 - NEVER, abs=0.08), "an alert that nobody judged teaches nothing"


def test_the_threshold_keeps_to_the_share_on_the_days_before() -> None:
    past = [n / 1000 for n in range(10_000)]
    assert sum(x >= limit(past) for x in past) == ALLOWED * len(past)
    assert limit([]) == inf


def test_learning_finds_the_attack_that_the_policy_does_not_know_and_not_before_its_labels() -> None:
    found = learning([bank()], POLICY)
    assert found is not None
    new = next(s for s in found.stories if s.story == "V15")
    assert new.caught_off == 0
    assert new.caught_on > new.takeovers / 2
    known = next(s for s in found.stories if s.story == "V1")
    assert known.caught_on == known.caught_off == known.takeovers
    assert found.whole.false_on <= max(3, 3 * ALLOWED * found.whole.benign)
    assert found.average_precision_on > found.average_precision_off
    early = [d for d in found.days if d.day in (5, 6)]
    assert all(d.caught_on == d.caught_off for d in early), "no label of the new attack is there yet"
    assert learning([bank()], POLICY) == found, "the same log, the same figures"


def test_a_log_of_two_days_is_not_judged_and_the_page_shows_what_is() -> None:
    assert learning([bank(days=2)], POLICY) is None
    assert learning([], POLICY) is None
    card = scorecard([[]], 1e-4)
    shown = page("Evaluation", [], {"all feeds": card}, learning([bank(days=12)], POLICY))
    assert "Learning on and off" in shown
    assert shown.count("<svg") == 5
    assert "Learning on and off" not in page("Evaluation", [], {"all feeds": card}, None)
