"""Is what would have made a finding benign true, the least, and something to ask for?"""

from itertools import combinations

import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from strategies import ACCOUNT, lives

from pipeline.core.detector import Detector, new_timeline
from pipeline.core.events import AccountEvent
from pipeline.core.exoneration import FACTS, MOST, exonerations, if_so
from pipeline.core.features import Features
from pipeline.core.model import BY_HAND, Model
from pipeline.core.outcome import Finding
from pipeline.core.policy import Policy, Thresholds
from pipeline.core.rules import hits
from tests.examples import examples

POLICY = Policy(weights=BY_HAND, thresholds=Thresholds(watch=0.05, alert=0.5))  # what is fitted may change; how it is asked does not
MODEL = Model(POLICY)
BY_NAME = {fact.name: fact for fact in FACTS}
CALL = Features(
    telephony_known=True, call_live=True, unexplained_call=True, caller_inbound=True, caller_never_seen=True,
    seconds_dispatch_to_call=8.0, new_device=True, new_network=True, entered=True, entry_method="typed", known_devices=1,
    seconds_answer_to_entry=30.0,
)  # fmt: skip


def probability(features: Features) -> float:
    return MODEL.score(features, hits(features, POLICY)).probability


def facts(features: Features) -> list[tuple[str, ...]]:
    return [e.facts for e in exonerations(features, POLICY, MODEL, POLICY.thresholds.alert)]


def test_single_facts_that_are_enough_come_first_most_telling_first() -> None:
    assert probability(CALL) >= POLICY.thresholds.alert
    found = exonerations(CALL, POLICY, MODEL, POLICY.thresholds.alert)
    assert [e.facts for e in found] == [("bank_called",), ("caller_known",), ("device_owned",)]
    assert [e.probability for e in found] == sorted(e.probability for e in found)
    assert found[0].text == "if the bank's own trunk confirmed the call"


def test_what_is_known_cannot_turn_out_otherwise() -> None:
    denied = replace(CALL, caller_is_bank=False, caller_claims_bank=True)
    assert not any({"bank_called", "caller_known"} & set(found) for found in facts(denied)), "the trunk has said that it is not ours"
    assert all("device_owned" not in found for found in facts(replace(CALL, new_device=False)))


def test_facts_are_asked_together_where_none_is_enough_alone() -> None:
    strong = replace(
        CALL, caller_is_bank=False, network_kind="hosting", login_far_from_line=True, new_country=True, hours_since_sim_swap=20.0
    )
    hopeless = replace(strong, caller_claims_bank=True, takeover_change=True, code_texted_out=True)
    assert exonerations(hopeless, POLICY, MODEL, POLICY.thresholds.alert) == (), "nothing that three questions could settle"
    (found,) = exonerations(strong, POLICY, MODEL, POLICY.thresholds.alert)
    assert 2 <= len(found.facts) <= MOST
    assert found.text.count(", and ") == len(found.facts) - 1


@given(lives(disposed=True))
@settings(deadline=None, max_examples=examples(150))
def test_what_is_said_is_true_and_the_least(events: list[AccountEvent]) -> None:
    """On random lives: each way leaves less than the threshold, no part of a joint one does, and the same finding says the same."""
    policy = Policy(thresholds=Thresholds(watch=0.001, alert=0.02))
    detector = Detector(policy)
    seen: list[tuple[Features, Finding]] = []
    t = new_timeline(ACCOUNT)
    for event in events:
        at_hand: list[Features] = []
        detector.observe = lambda _, a, at_hand=at_hand: at_hand.append(a.features)  # type: ignore[misc]
        t, out = detector.step(t, event)
        told = [o for o in out if isinstance(o, Finding) and o.activity != "close"]
        if len(told) == len(at_hand) == 1:
            seen.append((at_hand[0], told[0]))
    model = Model(policy)

    def left(features: Features, names: tuple[str, ...]) -> float:
        changed = if_so(features, *(BY_NAME[name] for name in names))
        return model.score(changed, hits(changed, policy)).probability

    for features, finding in seen:
        assert finding.benign_if == exonerations(features, policy, model, policy.thresholds.alert)
        assert len(finding.benign_if) <= MOST
        for way in finding.benign_if:
            assert all(BY_NAME[name].asked(features) for name in way.facts)
            assert way.probability == left(features, way.facts) < policy.thresholds.alert
            for part in combinations(way.facts, len(way.facts) - 1):
                assert not part or left(features, part) >= policy.thresholds.alert


@pytest.mark.parametrize("fact", FACTS, ids=lambda f: f.name)
def test_a_fact_speaks_of_features_and_is_settled_once_it_is_so(fact: object) -> None:
    assert fact in FACTS
    found = BY_NAME[fact.name]  # type: ignore[attr-defined]
    assert set(found.features) <= set(Features.__struct_fields__)
    assert not found.asked(Features(**found.features))
    assert not found.asked(Features()), "where nothing is known nothing is held against the customer"
