"""Does the id of a decision name what it says? Two of one challenge that differ in anything have two ids, whatever came in between."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ACCOUNT, T0, lives

from pipeline.core.detector import Detector, new_timeline
from pipeline.core.events import AccountEvent, CallChanged, LoggedIn, OtpDispatched, OtpEntered
from pipeline.core.model import Model
from pipeline.core.outcome import Decision, Finding, Outcome
from pipeline.core.policy import Policy, Thresholds
from tests.core.test_laws import shuffled
from tests.examples import examples

POLICY = Policy(thresholds=Thresholds(watch=0.001, alert=0.02))


def folded(events: list[AccountEvent], detector: Detector) -> list[Outcome]:
    t, said = new_timeline(ACCOUNT), []
    for event in events:
        t, out = detector.step(t, event)
        said += out
    return said + detector.fire(t, T0 + 40 * 86_400_000)[1]


def decisions(said: list[Outcome]) -> list[Decision]:
    return [o for o in said if isinstance(o, Decision)]


def base(name: str, second: int) -> dict[str, object]:
    return {"event_id": name, "account_id": ACCOUNT, "occurred_at": T0 + 1000 * second, "arrived_at": T0 + 1000 * second + 200}


def call(name: str, second: int, state: str, call_id: str = "c1") -> CallChanged:
    about = {"line": "r:one", "call_id": call_id, "state": state, "direction": "inbound", "peer": ("k1:stranger",)}
    return CallChanged(**base(name, second), **about, peer_is_contact=False)  # type: ignore[arg-type]


DEVICE = {"device_id": "d9", "asn": 64499, "country": "GB"}
CODE = {"otp_id": "o1", "session_id": None}
BEFORE: list[AccountEvent] = [
    LoggedIn(**base("e0", 300), session_id="s1", outcome="passed", flow="login", asn_kind="hosting", **DEVICE),  # type: ignore[arg-type]
    OtpDispatched(**base("e1", 302), **CODE, channel="sms", purpose="login", initiated_by="customer", line="r:one"),  # type: ignore[arg-type]
    OtpEntered(**base("e2", 330), **CODE, outcome="accepted", method="typed", **DEVICE),  # type: ignore[arg-type]
]


def alarmed_for_a_moment() -> list[AccountEvent]:
    """The records of a call before the code come late: it seems to be live, until its end is read."""
    return [call("c0", -20_000, "missed", "c0"), *BEFORE, call("c1", 60, "answered"), call("c2", 80, "ended")]


def test_what_is_said_again_after_an_alarm_that_was_none_has_an_id_of_its_own() -> None:
    said = folded(alarmed_for_a_moment(), Detector(POLICY))
    first, alarm, again = (d for d in decisions(said) if d.stage == "at_entry")
    assert [o.activity for o in said if isinstance(o, Finding)] == ["create", "close"]
    assert (first.level == "alert", alarm.level, again.level == "alert") == (False, "alert", False)
    assert msgspec.structs.replace(again, decision_id=first.decision_id, finding_uid=None) == first, "nothing else is new"
    assert again.finding_uid is not None
    assert first.decision_id != again.decision_id


@pytest.mark.parametrize("change", ["champion", "challenger", "threshold"])
def test_what_another_model_says_of_the_same_has_an_id_of_its_own(change: str) -> None:
    """A model, or a threshold for it, comes into force while the alarm lasts; it weighs as the one before."""
    quiet = Policy(thresholds=Thresholds(watch=0.04, alert=0.9))  # so that no finding makes the difference
    other: Any = Renamed(Model(quiet))
    detector, t, said = Detector(quiet), new_timeline(ACCOUNT), []
    for event in alarmed_for_a_moment():
        if event.event_id == "c2":
            detector.model = other if change == "champion" else detector.model
            detector.challengers = (other,) if change == "challenger" else ()
            detector.thresholds = Thresholds(watch=0.04, alert=0.7) if change == "threshold" else quiet.thresholds
        t, out = detector.step(t, event)
        said += out
    first, moment, again = (d for d in decisions(said) if d.stage == "at_entry")
    assert (first.level, moment.level, again.level) == ("clear", "watch", "clear")
    assert (first.features, first.time, first.event_ids) == (again.features, again.time, again.event_ids)
    assert first.decision_id != again.decision_id


class Renamed:
    """The weights of the policy under the name of another model."""

    id = "m_other"

    def __init__(self, model: Model) -> None:
        self.score = model.score


@given(lives(disposed=True), st.lists(st.integers(0, 299_000), min_size=1, max_size=12))
@settings(deadline=None, max_examples=examples(300))
def test_one_id_one_content(events: list[AccountEvent], by: list[int]) -> None:
    named: dict[str, Decision] = {}
    for made in decisions(folded(shuffled(events, by), Detector(POLICY))):
        assert named.setdefault(made.decision_id, made) == made
