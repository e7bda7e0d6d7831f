"""What was found out of the account before (A5): is it what was known when the code was sent, in whatever order it is told?"""

from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ACCOUNT, T0

from pipeline.core.decision import finding_uid
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.events import AccountEvent, Disposed, OtpDispatched, OtpEntered, Verdict
from pipeline.core.outcome import Decision, FeatureValue
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS, VERDICTS, Profile, with_verdict
from pipeline.core.tell import judged
from tests.examples import examples

NAMES = ("takeover_before", "hours_since_takeover", "false_alarms_90d")
YESTERDAY = T0 - DAY_MS
AFTER = T0 + DAY_MS  # all is settled
CODE: tuple[AccountEvent, ...] = (
    OtpDispatched(
        event_id="d", account_id=ACCOUNT, otp_id="o", session_id="s", occurred_at=T0, arrived_at=T0, channel="sms", purpose="login",
        initiated_by="customer",
    ),
    OtpEntered(event_id="e", account_id=ACCOUNT, otp_id="o", session_id="s", occurred_at=T0 + 9_000, arrived_at=T0 + 9_000,
        outcome="accepted"),
)  # fmt: skip


def verdict(event_id: str, at: int, what: Verdict, *, otp: str | None = "before", session: str | None = None, told: int = 0) -> Disposed:
    return Disposed(
        event_id=event_id, account_id=ACCOUNT, occurred_at=at, arrived_at=at + told, verdict=what, source="analyst", otp_id=otp,
        session_id=session,
    )  # fmt: skip


def last_word(*events: AccountEvent, read_to: int | None = None) -> dict[str, FeatureValue]:
    """What the last decision on the code says of earlier verdicts, once all is settled; the events are told in this order.

    ``read_to``: while other feeds are read up to there only (ms), nothing later is settled.
    """
    detector, t, said = Detector(Policy()), new_timeline(ACCOUNT), []
    detector.read_to = read_to
    for event in events:
        t, out = detector.step(t, event)
        said += out
    said += detector.fire(t, AFTER)[1]
    last = [o for o in said if isinstance(o, Decision) and o.otp_id == "o"][-1]
    return {name: last.features[name] for name in NAMES if name in last.features}


def by_arrival(*events: AccountEvent) -> list[AccountEvent]:
    return sorted(events, key=lambda e: (e.arrived_at, e.event_id))


TAKEN = {"takeover_before": True, "hours_since_takeover": 24.0, "false_alarms_90d": 0}


def test_nothing_is_said_while_no_verdict_is_known() -> None:
    assert last_word(*CODE) == {}
    assert last_word(verdict("v", YESTERDAY, "insufficient_data"), *CODE) == {}
    assert last_word(verdict("v", YESTERDAY, "true_positive"), *CODE) == TAKEN


@pytest.mark.parametrize("otp", ["before", "o", "another"])
@pytest.mark.parametrize("what", ["true_positive", "false_positive"])
def test_a_verdict_that_comes_after_the_code_changes_nothing(otp: str, what: Verdict) -> None:
    later = verdict("w", T0 + 5_000, what, otp=otp)
    assert last_word(*by_arrival(verdict("v", YESTERDAY, "true_positive"), *CODE, later)) == TAKEN


def test_nor_do_eight_of_them() -> None:
    later = [verdict(f"w{n}", T0 + 1_000 + n, "false_positive", otp=f"o{n}") for n in range(8)]
    assert last_word(*by_arrival(verdict("v", YESTERDAY, "true_positive"), *CODE, *later)) == TAKEN


def test_one_that_is_told_after_the_code_could_matter_no_more_does_not_count() -> None:
    """It occurred before the code, but whoever assessed the code in time could not know it."""
    told = verdict("v", YESTERDAY, "true_positive", told=2 * DAY_MS)
    assert last_word(*CODE, told) == last_word(*CODE, told, read_to=T0 + 10_000) == {}
    in_time = verdict("v", YESTERDAY, "true_positive", told=DAY_MS + 60_000)
    assert last_word(*CODE, in_time) == TAKEN, "while the code is not settled"


def test_the_order_of_what_is_told_within_the_slack_does_not_show() -> None:
    events = [verdict("v", YESTERDAY, "true_positive", told=DAY_MS), *CODE, verdict("w", T0 + 2, "true_positive")]
    assert {msgspec.json.encode(last_word(*order)) for order in permutations(events)} == {msgspec.json.encode(TAKEN)}


def test_the_last_word_on_each_challenge_counts() -> None:
    wrong = verdict("v", YESTERDAY, "true_positive")
    for what, said in (("false_positive", 1), ("benign", 0), ("suspicious", 0)):
        corrected = last_word(wrong, verdict("w", YESTERDAY + 1, what), *CODE)  # type: ignore[arg-type]
        assert corrected == {"takeover_before": False, "false_alarms_90d": said}
    assert last_word(wrong, verdict("w", YESTERDAY + 1, "duplicate"), *CODE) == TAKEN, "it says nothing"
    found = msgspec.structs.replace(verdict("w", YESTERDAY + 1, "benign", otp=None), finding_uid=finding_uid(ACCOUNT, "before"))
    assert last_word(wrong, found, *CODE) == {"takeover_before": False, "false_alarms_90d": 1}, "a finding that was none is a false alarm"


def test_a_session_and_its_code_are_one_thing() -> None:
    whole = verdict("v", YESTERDAY, "false_positive", otp=None, session="s0")
    assert last_word(whole, verdict("w", YESTERDAY + 1, "false_positive", session="s0"), *CODE)["false_alarms_90d"] == 1
    assert last_word(whole, verdict("w", YESTERDAY + 1, "true_positive", session="s0"), *CODE)["false_alarms_90d"] == 0
    assert last_word(whole, verdict("w", YESTERDAY + 1, "false_positive", session="s1"), *CODE)["false_alarms_90d"] == 2


def test_false_alarms_are_forgotten_after_90_days_and_takeovers_are_not() -> None:
    old = T0 - 91 * DAY_MS
    said = last_word(verdict("v", old, "true_positive", otp="a"), verdict("w", old, "false_positive", otp="b"), *CODE)
    assert said == {"takeover_before": True, "hours_since_takeover": 91 * 24.0, "false_alarms_90d": 0}


verdicts = st.builds(
    lambda n, at, what, otp: verdict(f"v{n}", T0 + at, what, otp=otp),
    st.integers(0, 30),
    st.integers(0, 5),
    st.sampled_from(["true_positive", "false_positive", "benign", "test"]),
    st.sampled_from(["a", "b", "c"]),
)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(verdicts, max_size=3 * VERDICTS, unique_by=lambda v: v.event_id), st.randoms(use_true_random=False))
def test_what_is_remembered_is_bounded_and_knows_no_order(told: list[Disposed], dice: object) -> None:
    def remembered(events: list[Disposed]) -> Profile:
        profile = Profile()
        for event in events:
            profile = with_verdict(profile, event, judged(event))
        return profile

    one, shuffled = remembered(told), [*told, *told]
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert remembered(shuffled).verdicts == one.verdicts
    assert len(one.verdicts) == min(VERDICTS, sum(v.verdict != "test" for v in told))
    for event in told:
        assert with_verdict(one, event, judged(event)) is one, "what is told again changes nothing, not even the revision"
