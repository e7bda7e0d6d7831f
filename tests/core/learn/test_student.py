"""Is what is learned a function of the log? Restarts, redelivery and the moments of snapshots; and is what a snapshot says explained?"""

from math import isclose
from random import Random

import msgspec
import pytest
from nacl.signing import SigningKey

from pipeline.core import rules
from pipeline.core.features import FIELDS, Features
from pipeline.core.learn.restored import learner_of
from pipeline.core.learn.scoring import MOST_REASONS, LearnedModel
from pipeline.core.learn.shelf import SnapshotShelf, checked
from pipeline.core.learn.snapshot import Snapshot, SnapshotRefused, read_snapshot
from pipeline.core.learn.student import HOUR_MS, Student
from pipeline.core.learn.words import TEXTS, text_of
from pipeline.core.model import BY_HAND, Model
from pipeline.core.outcome import Example, Replaced
from pipeline.core.policy import Learning, Policy

KEY = SigningKey(b"\x07" * 32)
OTHER = SigningKey(b"\x08" * 32)
HAND = Policy(weights=BY_HAND)  # those that are fitted may change
POLICY = Policy(weights=BY_HAND, learning=Learning(snapshot_examples=40, snapshot_hours=24))
MINUTE = 60_000


def features(fraud: bool, random: Random) -> Features:
    """Frauds come with a stranger's call and a new device more often; much is missing."""
    p = 0.8 if fraud else 0.1
    call = random.random() < p
    return Features(
        telephony_known=True, call_live=call, unexplained_call=call, caller_inbound=True if call else None,
        caller_never_seen=True if call else None, new_device=random.random() < p, new_network=random.random() < p,
        network_kind="hosting" if random.random() < p / 2 else "residential", entered=True, purpose="login", channel="sms",
        entry_latency_s=random.uniform(5, 60), order="login>otp>call>entry" if call else "login>otp>entry",
    )  # fmt: skip


def world(count: int, seed: int = 1) -> list[Example]:
    random = Random(seed)
    found = []
    for n in range(count):
        fraud = random.random() < 0.3
        known = {k: v for k, v in msgspec.structs.asdict(features(fraud, random)).items() if v is not None}
        found.append(Example(example_id=f"d_{n}", time=1_790_000_000_000 + n * MINUTE, features=known, label=fraud, weight=1.0))
    return found


def taught(examples: list[Example], restart: bool = False, twice: bool = False) -> tuple[Student, list[bytes]]:
    """Learn examples in order; with ``restart`` whoever has written a snapshot is gone, and the next goes on from it."""
    student, written = Student(POLICY), []
    for offset, example in enumerate(examples):
        student.take(offset, example)
        if twice:
            assert not student.take(offset, example)
        if student.due:
            written.append(student.write(KEY, "test"))
            if restart:
                snapshot = read_snapshot(written[-1], KEY.verify_key)
                student = Student.after(POLICY, snapshot.content, learner_of(snapshot))  # type: ignore[arg-type]
                for again in range(max(0, student.through - 7), student.through):
                    assert not student.take(again, examples[again])
    return student, written


def test_snapshots_are_the_same_whatever_was_restarted_or_read_again() -> None:
    examples = world(200)
    student, written = taught(examples)
    assert len(written) == 5
    assert taught(examples, restart=True)[1] == written
    assert taught(examples, twice=True)[1] == written
    last = read_snapshot(written[-1], KEY.verify_key).content
    assert (last.examples, last.through, last.at, last.made) == (200, 200, examples[-1].time, "test")
    assert last.weights == Model(POLICY).weights
    assert student.examples == 200


def test_a_snapshot_is_due_after_hours_of_log_time_too() -> None:
    student = Student(POLICY)
    first, second = world(2)
    student.take(0, first)
    assert not student.due
    student.take(1, msgspec.structs.replace(second, time=first.time + 24 * HOUR_MS))
    assert student.due


def test_what_adds_nothing_is_not_learned_and_what_is_wrong_teaches_nothing() -> None:
    student = Student(POLICY)
    one = msgspec.structs.replace(world(1)[0], label=True, weight=0.3, replaces=Replaced(True, 0.9))
    assert not student.take(0, one)
    assert (student.examples, student.through) == (0, 1)
    with pytest.raises(ValueError, match="call_live"):
        student.take(1, msgspec.structs.replace(one, features={"call_live": "yes"}, replaces=None))
    assert (student.examples, student.through) == (0, 2)


def learned() -> Snapshot:
    return read_snapshot(taught(world(1500))[1][-1], KEY.verify_key)


def test_before_it_has_learned_a_model_says_what_the_policy_says() -> None:
    snapshot = read_snapshot(Student(Policy()).write(KEY), KEY.verify_key)
    model, by_hand = LearnedModel(snapshot, Policy()), Model(Policy())
    random = Random(3)
    for fraud in (True, False) * 20:
        one = features(fraud, random)
        hits = rules.hits(one, Policy())
        assert isclose(model.score(one, hits).log_odds, by_hand.score(one, hits).log_odds, abs_tol=1e-9)


def test_contributions_add_up_are_named_in_words_and_the_same_for_the_same() -> None:
    model, random = LearnedModel(learned(), Policy()), Random(4)
    moved = set()
    for n in range(60):
        one = features(n % 2 == 0, random)
        hits = rules.hits(one, Policy())
        score = model.score(one, hits)
        assert isclose(sum(r.contribution for r in score.reasons), score.log_odds, abs_tol=1e-9)
        assert len(score.reasons) <= MOST_REASONS + 2
        assert all(r.text for r in score.reasons)
        again = model.score(one, hits)
        assert (again.probability, again.log_odds, again.reasons) == (score.probability, score.log_odds, score.reasons)
        sizes = [abs(r.contribution) for r in score.reasons]
        assert sizes == sorted(sizes, reverse=True)
        moved |= {r.name for r in score.reasons}
    assert {"base_rate", "call_live", "new_device", "stranger_call_live"} <= moved, "features and the terms of people both have their say"


def test_it_has_learned_who_is_who_and_tests_are_never_alerted() -> None:
    model, random = LearnedModel(learned(), HAND), Random(5)

    def mean(fraud: bool) -> float:
        return sum(model.score(f := features(fraud, random), rules.hits(f, HAND)).log_odds for _ in range(60)) / 60

    assert mean(True) > mean(False) + 3
    test = msgspec.structs.replace(features(True, random), test_account=True)
    assert model.score(test, rules.hits(test, Policy())).probability < 1e-4


def test_every_feature_has_words() -> None:
    assert set(TEXTS) == {*FIELDS, "anomaly"}
    assert text_of("a_feature_of_tomorrow") == "a feature of tomorrow"


def test_a_shelf_takes_the_true_snapshot_among_false_ones_and_says_why_others_are_refused() -> None:
    data = Student(POLICY).write(KEY)
    true = read_snapshot(data, KEY.verify_key)
    refused: list[tuple[str, str]] = []
    shelf = SnapshotShelf(POLICY, KEY.verify_key, lambda i, e: refused.append((i, e.reason)))
    with pytest.raises(LookupError, match="no snapshot"):
        shelf.get(true.id)
    shelf.offer(true.id, data.replace(b'"examples":0', b'"examples":1'))
    shelf.offer(true.id, Student(POLICY).write(OTHER))
    shelf.offer("m_0000000000", data)
    assert refused == [(true.id, "tampered"), (true.id, "wrong_signature"), ("m_0000000000", "tampered")]
    assert shelf.get(true.id) is None
    assert shelf.knows(true.id)
    shelf.offer(true.id, data)
    model = shelf.get(true.id)
    assert model is not None
    assert model.id == true.id
    assert shelf.get("m_0000000000") is None
    with pytest.raises(SnapshotRefused, match="stands under another id"):
        checked("m_0000000000", data, KEY.verify_key)


def test_a_snapshot_over_terms_that_this_code_does_not_know_is_refused() -> None:
    student = Student(POLICY)
    student._people.weights = {"no_such_term": 1.0}
    snapshot = read_snapshot(student.write(KEY), KEY.verify_key)
    with pytest.raises(SnapshotRefused, match="no_such_term"):
        LearnedModel(snapshot, POLICY)
