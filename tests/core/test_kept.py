"""What is kept of a decision until its truth comes, and what becomes an example of it? Under redelivery, restart, corrections and time."""

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ACCOUNT, T0, lives

from pipeline.core import kept
from pipeline.core import timeline as timelines
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.errors import UnsupportedState
from pipeline.core.events import AccountEvent, CallChanged, Disposed, DispositionSource, OtpDispatched, OtpEntered, Verdict
from pipeline.core.features import as_dict
from pipeline.core.features.vector import FIELDS, Features
from pipeline.core.kept_words import WORDS
from pipeline.core.outcome import Decision, Example, Outcome, Replaced
from pipeline.core.policy import Bounds, Learning, Policy, Thresholds
from pipeline.core.profile import DAY_MS
from pipeline.core.timeline import Timeline
from tests.examples import examples

ALL = Policy(learning=Learning(negatives=1.0, control=1.0))
NONE = Policy(learning=Learning(negatives=0.0, control=0.0))


def code(number: int, at: int) -> list[AccountEvent]:
    """A code that is sent and entered."""
    same = {"account_id": ACCOUNT, "otp_id": f"o{number}", "session_id": f"s{number}"}
    return [
        OtpDispatched(
            event_id=f"d{number}", occurred_at=at, arrived_at=at, channel="sms", purpose="login", initiated_by="customer", **same
        ),
        OtpEntered(event_id=f"e{number}", occurred_at=at + 8_000, arrived_at=at + 8_100, outcome="accepted", **same),
    ]


def verdict(event_id: str, at: int, what: Verdict, source: DispositionSource = "analyst", otp_id: str | None = "o1") -> Disposed:
    return Disposed(event_id=event_id, account_id=ACCOUNT, occurred_at=at, arrived_at=at, verdict=what, source=source, otp_id=otp_id)


def lived(events: list[AccountEvent], policy: Policy, until: int | None = None) -> tuple[Timeline, list[Outcome]]:
    detector, t, said = Detector(policy), new_timeline(ACCOUNT), []
    for event in events:
        t, out = detector.step(t, event)
        said += out
    if until is not None:
        t, out = detector.fire(t, until)
        said += out
    return t, said


def lessons(said: list[Outcome]) -> list[Example]:
    return [o for o in said if isinstance(o, Example)]


def decisions(said: list[Outcome]) -> list[Decision]:
    return [o for o in said if isinstance(o, Decision)]


def test_every_feature_has_a_place_in_kept_state_and_keeps_it() -> None:
    """A new feature is appended to ``kept.STORED``, wherever it stands in Features; then the digest changes with it."""
    assert set(FIELDS) <= set(kept.STORED), f"append to kept.STORED: {sorted(set(FIELDS) - set(kept.STORED))}"
    assert hashlib.sha256(" ".join(kept.STORED[:71]).encode()).hexdigest()[:12] == "d92bd7419ca9"
    assert hashlib.sha256(WORDS).hexdigest()[:12] == "da575feb4699"


@given(
    st.builds(
        Features,
        entry_latency_s=st.one_of(st.none(), st.floats(-1e6, 1e6)),
        known_devices=st.integers(0, 9),
        hour_share=st.floats(0, 1),
        order=st.sampled_from([None, "login>otp"]),
        call_live=st.sampled_from([None, True, False]),
    )
)
@settings(deadline=None)
def test_features_come_back_as_the_decision_had_them(features: Features) -> None:
    assert kept.features_of(kept.row_of(features)) == as_dict(features)


def test_what_is_damaged_is_refused() -> None:
    with pytest.raises(UnsupportedState, match="damaged"):
        kept.unpack(b"\x00 no block")


def test_a_verdict_teaches_the_features_of_the_decisions_time() -> None:
    _, said = lived([*code(1, T0), verdict("v1", T0 + DAY_MS, "true_positive", "chargeback")], NONE)
    (lesson,), made = lessons(said), decisions(said)[0]
    assert lesson == Example(
        example_id=made.decision_id, time=T0 + DAY_MS, features=made.features, label=True, weight=1.0, account_id=ACCOUNT,
        source="chargeback", decided_at=made.time, model_id=made.model_id, probability=round(made.probability, 6), level=made.level,
    )  # fmt: skip


def test_a_verdict_names_a_challenge_by_code_session_or_finding() -> None:
    codes = [*code(1, T0), *code(2, T0 + 3_600_000)]
    ids = {made.otp_id: made.decision_id for made in decisions(lived(codes, NONE)[1])}
    late = T0 + DAY_MS
    by_session = msgspec.structs.replace(verdict("v1", late, "benign", otp_id=None), session_id="s2")
    from pipeline.core.decision import finding_uid

    by_finding = msgspec.structs.replace(verdict("v2", late, "benign", otp_id=None), finding_uid=finding_uid(ACCOUNT, "o1"))
    assert [e.example_id for e in lessons(lived([*codes, by_session], NONE)[1])] == [ids["o2"]]
    assert [e.example_id for e in lessons(lived([*codes, by_finding], NONE)[1])] == [ids["o1"]]
    assert lessons(lived([*codes, verdict("v3", late, "benign", otp_id="o9")], NONE)[1]) == []


def test_a_later_verdict_replaces_an_earlier_one_in_whatever_order_they_come() -> None:
    first, last = verdict("v1", T0 + DAY_MS, "benign"), verdict("v2", T0 + 2 * DAY_MS, "true_positive", "customer")
    told = lessons(lived([*code(1, T0), first, last], NONE)[1])
    assert [(e.label, e.weight, e.replaces) for e in told] == [(False, 0.95, None), (True, 0.9, Replaced(False, 0.95))]
    old = msgspec.structs.replace(first, arrived_at=last.arrived_at + 5)
    told = lessons(lived([*code(1, T0), last, old], NONE)[1])
    assert [(e.label, e.replaces) for e in told] == [(True, None)]


def test_the_same_verdict_once_more_teaches_only_what_it_adds() -> None:
    base = [*code(1, T0), verdict("v1", T0 + DAY_MS, "benign", "automatic")]
    again = [verdict("v2", T0 + 2 * DAY_MS, "benign", "automatic"), verdict("v3", T0 + 3 * DAY_MS, "benign", "analyst")]
    told = lessons(lived([*base, *again], NONE)[1])
    assert [(e.weight, e.replaces) for e in told] == [(0.3, None), (0.95, Replaced(False, 0.3))]
    assert lessons(lived([*code(1, T0), verdict("v1", T0 + DAY_MS, "insufficient_data")], NONE)[1]) == []


def test_what_nobody_labelled_is_benign_after_the_waiting_time_and_what_was_is_not() -> None:
    over = T0 + 7 * DAY_MS
    t, said = lived(code(1, T0), ALL, over - 1)
    assert lessons(said) == []
    assert t.teach_at == t.deadline == over
    _, said = lived(code(1, T0), ALL, over + 5 * DAY_MS)
    (lesson,) = lessons(said)
    assert (lesson.label, lesson.weight, lesson.source, lesson.time) == (False, ALL.learning.trust, "unlabelled", over)
    _, said = lived([*code(1, T0), verdict("v1", T0 + DAY_MS, "true_positive")], ALL, over + 1)
    assert [e.source for e in lessons(said)] == ["analyst"]
    t, said = lived(code(1, T0), ALL, over)
    _, out = Detector(ALL).step(t, verdict("v1", over + 1, "true_positive"))
    assert [(e.label, e.replaces) for e in lessons(out)] == [(True, Replaced(False, ALL.learning.trust))]


def test_negatives_are_a_share_that_a_hash_decides_and_weigh_its_inverse() -> None:
    half = Policy(learning=Learning(negatives=0.5))
    told = [lessons(lived(code(n, T0), half, T0 + 8 * DAY_MS)[1]) for n in range(200)]
    assert 70 < sum(map(len, told)) < 130
    assert {e.weight for each in told for e in each} == {2 * half.learning.trust}


def test_an_alert_that_nobody_closed_is_nobodys_verdict() -> None:
    low = msgspec.structs.replace(ALL, thresholds=Thresholds(watch=1e-9, alert=1e-8))
    _, said = lived(code(1, T0), low, T0 + 30 * DAY_MS)
    assert {made.level for made in decisions(said)} == {"alert"}
    assert all(made.control for made in decisions(said))
    assert lessons(said) == []


def test_a_challenge_that_alarms_after_its_entry_is_nobodys_verdict_either() -> None:
    """The decision at the entry was no alert; the call that comes to be known after it makes one, and nobody closes it."""
    call = CallChanged(
        event_id="c1", account_id=ACCOUNT, occurred_at=T0 - 20_000, arrived_at=T0 + 60_000, line="l", call_id="c", state="answered",
        direction="inbound", source="carrier", peer=("p",), peer_is_contact=False,
    )  # fmt: skip
    detector, t, seen = Detector(ALL), new_timeline(ACCOUNT), []
    detector.observe = lambda _, a: seen.append(a.score.probability)
    for event in (*code(1, T0), call):
        t, _ = detector.step(t, event)
    at_entry, after = seen[-2:]
    assert at_entry < after
    between = msgspec.structs.replace(ALL, thresholds=Thresholds(watch=1e-9, alert=(at_entry + after) / 2))
    t, said = lived([*code(1, T0), call], between, T0 + 30 * DAY_MS)
    _, first, second = decisions(said)
    assert (first.level, second.level, second.control) == ("watch", "alert", True)
    assert lessons(said) == []
    assert (t.teach_at, t.deadline) == (None, None), "nothing is waited for"
    _, out = Detector(between).step(t, verdict("v1", T0 + 31 * DAY_MS, "false_positive"))
    (lesson,) = lessons(out)
    assert (lesson.example_id, lesson.features) == (first.decision_id, first.features), "what was known at the entry"
    assert (lesson.level, lesson.control) == ("alert", True)


def test_a_challenge_that_has_alarmed_before_its_entry_is_nobodys_verdict_whatever_the_entry_says() -> None:
    _, said = lived(code(1, T0), ALL)
    (made,) = decisions(said)
    assert made.level == "clear"
    for alarmed in (False, True):
        raw, due = kept.remembered(b"", made, Features(), "s1", T0, ALL, alarmed)
        (k,) = kept.unpack(raw)
        assert (k.pending, due is not None, k.level, k.control) == (not alarmed, not alarmed, "alert" if alarmed else "clear", alarmed)


def test_at_most_so_many_and_none_older_than_the_policy_says() -> None:
    policy = Policy(bounds=Bounds(settled=3), learning=Learning(negatives=0.0))
    t, _ = lived([e for n in range(6) for e in code(n, T0 + n * 3_600_000)], policy)
    assert [k.otp_id for k in kept.unpack(t.kept)] == ["o3", "o4", "o5"]
    late = T0 + 46 * DAY_MS
    assert lessons(lived([*code(1, T0), verdict("v1", late, "true_positive")], NONE)[1]) == []
    t, _ = lived([*code(1, T0), *code(2, late)], NONE)
    assert [k.otp_id for k in kept.unpack(t.kept)] == ["o2"]


LOW = Policy(thresholds=Thresholds(watch=0.001, alert=0.02), learning=Learning(negatives=0.5, control=0.5), bounds=Bounds(settled=3))


@given(lives(disposed=True), st.booleans())
@settings(deadline=None, max_examples=examples(150))
def test_examples_are_free_of_restarts_and_redelivery(events: list[AccountEvent], twice: bool) -> None:
    """Whatever a life is: encoding the state between any two events, or folding each event twice, teaches the same."""
    end = T0 + 20 * DAY_MS
    once = lessons(lived(events, LOW, end)[1])
    detector, t, said = Detector(LOW), new_timeline(ACCOUNT), []
    for event in events:
        for _ in range(1 + twice):
            t, out = detector.step(t, event)
            t = timelines.decode(timelines.encode(t))
            said += out
    t, out = detector.fire(t, end)
    assert lessons(said + out) == once
    assert len({(e.example_id, e.label, e.weight, e.replaces, e.time) for e in once}) == len(once)
    made = {d.decision_id: d for d in decisions(said + out)}
    assert all(e.features == made[e.example_id].features for e in once)
    assert len(kept.unpack(t.kept)) <= 3
