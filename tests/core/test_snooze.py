"""Which snoozes are in force for a challenge, and which findings do they silence?"""

from math import exp

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ACCOUNT, T0

from pipeline.core.decision import Assessment, assess
from pipeline.core.episode import build
from pipeline.core.events import OtpDispatched, Snoozed
from pipeline.core.model import Model, Score
from pipeline.core.outcome import Reason
from pipeline.core.policy import Policy, Snoozes
from pipeline.core.profile import DAY_MS, Profile
from pipeline.core.rules import RULES
from pipeline.core.snooze import Kept, in_force, kept, with_snooze
from pipeline.core.suppression import LASTING, snoozed, subject
from tests.examples import examples

LATENESS = 1_800_000
HOUR = 3_600_000


def snooze(scope: str = "R05", at: int = T0, until: int | None = T0 + 30 * DAY_MS, **more: object) -> Snoozed:
    base: dict[str, object] = {"event_id": f"z-{scope}-{at}", "account_id": ACCOUNT, "occurred_at": at, "arrived_at": at + 100}
    fields = {**base, "scope": scope, "status": "in_force", "expires_at": until, "reason": "confirmed", "who": "analyst-7", **more}
    return Snoozed(**fields)  # type: ignore[arg-type]


def having(*events: Snoozed, policy: Snoozes = Snoozes()) -> tuple[Kept, ...]:  # noqa: B008  # frozen
    found: tuple[Kept, ...] = ()
    for event in events:
        found = with_snooze(found, event, policy)
    return found


def scopes(found: tuple[Kept, ...], start: int, until: int | None = None) -> list[str]:
    return [s.scope for s in in_force(found, start, until or start + HOUR, LATENESS)]


def test_it_covers_codes_sent_in_its_time_and_one_that_is_open_when_it_begins() -> None:
    found = having(snooze(until=T0 + DAY_MS))
    assert scopes(found, T0 + HOUR) == ["R05"]
    assert scopes(found, T0 - 600_000) == ["R05"], "the code was open"
    assert scopes(found, T0 - 2 * HOUR) == [], "it was over"
    assert scopes(found, T0 + DAY_MS) == [], "it had expired"


def test_the_last_word_on_a_scope_counts_and_an_end_ends() -> None:
    ended = snooze(at=T0 + HOUR, status="ended", expires_at=None)
    assert scopes(having(snooze(), ended), T0 + 2 * HOUR) == []
    assert scopes(having(ended, snooze()), T0 + 2 * HOUR) == []
    assert scopes(having(snooze(), ended, snooze(at=T0 + 2 * HOUR)), T0 + 3 * HOUR) == ["R05"]
    assert scopes(having(snooze(), snooze("model"), ended), T0 + 2 * HOUR) == ["model"]


def test_an_end_that_was_said_after_a_challenge_was_over_does_not_concern_it() -> None:
    ended = snooze(at=T0 + 5 * HOUR, status="ended", expires_at=None)
    assert scopes(having(snooze(), ended), T0 + HOUR, T0 + 2 * HOUR) == ["R05"]


def test_what_comes_too_late_for_a_challenge_does_not_concern_it() -> None:
    late = snooze(arrived_at=T0 + 2 * HOUR + LATENESS + 1)
    assert scopes(having(late), T0 + HOUR, T0 + 2 * HOUR) == []
    assert scopes(having(late), T0 + 3 * HOUR) == ["R05"]


@pytest.mark.parametrize(("scope", "days"), [("R05", 90), ("sim_swapped", 90), ("model", 14), ("m_fitted3", 14)])
def test_the_policy_bounds_how_long_it_lasts(scope: str, days: int) -> None:
    assert kept(snooze(scope, until=T0 + 4000 * DAY_MS), Snoozes()).until == T0 + days * DAY_MS
    assert kept(snooze(scope, until=None), Snoozes()).until == T0 + days * DAY_MS
    assert kept(snooze(scope, until=T0 + DAY_MS), Snoozes()).until == T0 + DAY_MS


def test_a_redelivery_says_nothing_and_of_two_contents_the_first_to_arrive_stands() -> None:
    found = having(snooze())
    assert with_snooze(found, snooze(), Snoozes()) is found
    other = snooze(until=T0 + DAY_MS, arrived_at=T0 + 50)
    assert having(snooze(), other) == having(other, snooze()) == having(other)


records = st.builds(
    lambda scope, at, delay, status, until, number: snooze(
        scope, T0 + at * 60_000, T0 + until * 60_000, event_id=f"z{number}", arrived_at=T0 + (at + delay) * 60_000, status=status
    ),
    st.sampled_from(["R05", "model", "new_device"]),
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from(["in_force", "ended"]),
    st.integers(0, 120),
    st.integers(0, 9),
)


@given(st.lists(records, max_size=12, unique_by=lambda e: e.event_id), st.randoms(use_true_random=False), st.integers(1, 5))
@settings(deadline=None, max_examples=examples(200))
def test_any_order_with_anything_twice_ends_the_same(events: list[Snoozed], random: object, most: int) -> None:
    policy = Snoozes(kept=most)
    other = [*events, *events]
    random.shuffle(other)  # type: ignore[attr-defined]
    found = having(*events, policy=policy)
    assert found == having(*other, policy=policy)
    assert len(found) <= most


# --- what is silenced


def assessment(*reasons: tuple[str, float]) -> Assessment:
    """An assessment whose model says this."""
    sent = OtpDispatched(
        event_id="d1", account_id=ACCOUNT, occurred_at=T0, arrived_at=T0, otp_id="o1", channel="sms", purpose="login",
        initiated_by="customer",
    )  # fmt: skip
    episode = build((sent,), "o1", T0, Policy())
    assert episode is not None
    log_odds = sum(weight for _, weight in reasons)
    score = Score(1 / (1 + exp(-log_odds)), log_odds, lambda: tuple(Reason(name, weight) for name, weight in reasons))
    return msgspec.structs.replace(assess(episode, Profile(), Policy(), Model(Policy()), ACCOUNT), score=score)


BASE = ("base_rate", -9.0)
SWAP = (("sim_swapped", 2.6), ("sim_swapped_and_new_device", 1.5))


def by(a: Assessment, *snoozes: Snoozed) -> list[str] | None:
    found = snoozed(in_force(having(*snoozes), T0 + HOUR, T0 + 2 * HOUR, LATENESS), a, 0.5, "m_fitted3")
    return None if found is None else [s.scope for s in found.snoozes]


def test_a_finding_that_would_not_stand_without_the_subject_is_silenced() -> None:
    a = assessment(BASE, *SWAP, ("new_device", 3.0), ("new_network", 2.0))
    assert by(a, snooze()) == ["R05"]
    assert by(a, snooze("sim_swapped_and_new_device")) == ["sim_swapped_and_new_device"], "by the rule's name too"
    assert by(a, snooze("R01")) is None, "it rests on nothing of that rule"
    assert by(a) is None


def test_a_finding_that_stands_on_other_evidence_is_heard() -> None:
    assert by(assessment(BASE, *SWAP, ("new_device", 3.0), ("stranger_call_live", 6.1)), snooze()) is None


def test_evidence_against_stays_in() -> None:
    """Without the swap it stands by 0.1; with the usual contact as well it does not."""
    rest = (("new_device", 3.0), ("stranger_call_live", 6.1))
    assert by(assessment(BASE, *SWAP, *rest), snooze()) is None
    assert by(assessment(BASE, *SWAP, *rest, ("contact_on_phone", -2.5)), snooze()) == ["R05"]


def test_several_snoozes_silence_together_and_the_fewest_are_named() -> None:
    a = assessment(BASE, *SWAP, ("new_device", 3.0), ("new_network", 3.0), ("new_user_agent", 0.5))
    assert by(a, snooze("new_network")) == ["new_network"]
    heavy = assessment(BASE, *SWAP, ("new_device", 6.0), ("new_network", 3.0), ("new_user_agent", 0.5))
    assert by(heavy, snooze("new_network")) is None
    assert by(heavy, snooze("new_user_agent"), snooze("new_network"), snooze()) == ["R05", "new_network"]


@pytest.mark.parametrize("scope", ["model", "m_fitted3"])
def test_a_whole_model_is_silenced(scope: str) -> None:
    a = assessment(BASE, ("stranger_call_live", 20.0))
    assert by(a, snooze(scope)) == [scope]
    assert by(a, snooze("m_other")) is None


def test_what_lasts_is_named_as_models_name_it() -> None:
    from pipeline.core.features import FIELDS
    from pipeline.core.model import WEIGHTS

    assert LASTING.keys() <= {r.uid for r in RULES}
    assert all(name in WEIGHTS or name in FIELDS for names in LASTING.values() for name in names)
    assert subject("R05") == {"sim_swapped_and_new_device", "sim_swapped", "hours_since_sim_swap"}
    assert subject("new_device") == {"new_device"}
