"""Every attack variant appears, with the signature that the log would show."""

from collections import Counter
from collections.abc import Callable
from statistics import mean

import pytest

from pipeline.simulate.attacks import ATTACKS
from tests.simulate.world import Case, World, ms


def taken(world: World, story: str) -> list[Case]:
    cases = [c for c in world.live(story=story, label="takeover") if world.phones[c.account]]  # of others the bank knows no phone
    assert len(cases) >= 3, f"too few takeovers of {story} to look at"
    return cases


def answered_by_attacker(case: Case) -> int:
    """When the call began that the code was told in, ms."""
    at = case.truth["call_answered_at"]
    assert at is not None
    call = next(c for c in case.calls(3600) if c["answered_at"] is not None and _same(c["answered_at"], at))
    return int(call["answered_at"])


def _same(instant: int, text: str) -> bool:
    return instant == ms(text)


def test_every_variant_appears_and_most_attempts_fail(stories: World) -> None:
    by_story = Counter(c.truth["story"] for c in stories.live() if c.truth["label"] != "benign")
    assert set(by_story) == set(ATTACKS)
    labels = Counter(c.truth["label"] for c in stories.live() if c.truth["label"] != "benign")
    assert labels["attempt"] > labels["takeover"] > 0.15 * labels.total()
    assert all(c.truth["accepted"] == (c.truth["label"] == "takeover") for c in stories.live() if c.truth["label"] != "benign")


def test_no_attack_in_history(stories: World) -> None:
    assert all(t["label"] == "benign" for t in stories.truth if t["history"])


def test_the_thief_is_unknown_except_when_patient(stories: World) -> None:
    for case in stories.live(label="takeover"):
        known = case.entries[-1]["device_id"] in case.known_devices()
        assert known == (case.truth["story"] == "V12")


def called_between_code_and_entry(case: Case) -> None:
    assert case.entered_at is not None
    assert case.sent_at - 2000 < answered_by_attacker(case) < case.entered_at


def test_v1_call_after_the_code_and_live_at_entry(stories: World) -> None:
    cases = taken(stories, "V1")
    for case in cases:
        called_between_code_and_entry(case)
        assert [b["outcome"] for b in case.logins if b["at"] <= case.sent_at][-1] == "passed"
    assert mean(bool(c.live_at_entry()) for c in cases) > 0.55


def test_v2_call_before_the_code(stories: World) -> None:
    for case in taken(stories, "V2"):
        assert answered_by_attacker(case) < case.sent_at


def test_v3_long_call_with_several_codes(stories: World) -> None:
    cases = taken(stories, "V3")
    for case in cases:
        call = next(c for c in case.calls(3600) if c["answered_at"] == answered_by_attacker(case))
        assert call["ended_at"] - call["answered_at"] >= 170_000
    assert max(Counter((c.account, c.session) for c in cases).values()) >= 2


def test_v4_caller_id_is_vouched_for(stories: World) -> None:
    for case in taken(stories, "V4"):
        call = next(c for c in case.calls(3600) if c["answered_at"] == answered_by_attacker(case))
        assert call["attestation"] == "A"
        assert not call.get("peer_is_contact")


def test_v5_answered_by_text(stories: World) -> None:
    for case in taken(stories, "V5"):
        texts = case.texts(60, 600)
        answers = [t for t in texts if t["direction"] == "outbound" and t["at"] < (case.entered_at or 0)]
        assert any(a["peer"] == t["peer"] and t["at"] < a["at"] for a in answers for t in texts if t["direction"] == "inbound")
    assert mean(c.truth["has_call"] for c in taken(stories, "V5")) < 0.1


def test_v6_text_then_ring_outs_then_a_call(stories: World) -> None:
    for case in taken(stories, "V6"):
        texts = [t for t in case.texts(150, 0) if t["direction"] == "inbound"]
        missed = [c for c in case.calls(60) if c["answered_at"] is None and c["began"] < answered_by_attacker(case)]
        assert texts
        assert missed
        assert texts[0]["at"] < min(c["began"] for c in missed)


def test_v7_many_codes_before_the_call(stories: World) -> None:
    for case in taken(stories, "V7"):
        low = case.sent_at - 900_000
        codes = [
            d["at"]
            for d in stories.by_topic["otp-dispatches"]
            if d["session_id"] == case.session and d["status"] == "sent" and d["at"] >= low
        ]
        assert len(codes) >= 4


def test_v8_sim_swapped_and_no_call(stories: World) -> None:
    for case in taken(stories, "V8"):
        assert any(b["change"] == "sim_swapped" and 0 < case.sent_at - b["at"] < 86_400_000 for b in case.line_changes())
    assert mean(c.truth["has_call"] for c in taken(stories, "V8")) < 0.1


def test_v9_forwarded_voice_code_and_a_silent_phone(stories: World) -> None:
    for case in taken(stories, "V9"):
        assert case.sent[0]["channel"] == "voice"
        assert any(b["change"] == "forwarding_on" and 0 < case.sent_at - b["at"] < 2 * 86_400_000 for b in case.line_changes())
        assert not [c for c in case.calls(0, 60) if c.get("peer_is_bank")]


def test_v10_no_login(stories: World) -> None:
    for case in taken(stories, "V10"):
        assert case.sent[0]["session_id"] is None
        assert case.sent[0]["purpose"] in {"wallet_provisioning", "payment"}
        called_between_code_and_entry(case)


def test_v11_password_reset(stories: World) -> None:
    for case in taken(stories, "V11"):
        assert case.sent[0]["purpose"] == "password_reset"
        assert case.logins[-1]["flow"] == "password_reset"
        called_between_code_and_entry(case)


def test_v12_the_machine_came_days_ago_by_the_own_provider(stories: World) -> None:
    for case in taken(stories, "V12"):
        machine = case.entries[-1]["device_id"]
        earlier = [b for b in stories.logins[case.account] if b["device_id"] == machine and b["at"] < case.sent_at - 20 * 3_600_000]
        assert earlier
        own = {b["asn"] for b in stories.logins[case.account] if b["device_id"] != machine and b["asn_kind"] == "residential"}
        assert not own or case.logins[-1]["asn"] in own
        called_between_code_and_entry(case)


def test_v13_the_network_sees_no_call(stories: World) -> None:
    cases = taken(stories, "V13")
    assert all(c.truth["has_call"] for c in cases)
    assert mean(bool([k for k in c.live_at_entry() if k["via"] == "network"]) for c in cases) < 0.1


def test_v14_no_call_and_a_customers_pace(stories: World) -> None:
    cases = taken(stories, "V14")
    assert mean(c.truth["has_call"] for c in cases) < 0.15
    assert 6 < mean(((c.entered_at or 0) - c.sent_at) / 1000 for c in cases) < 60


def test_most_takeovers_are_plundered_within_minutes(stories: World) -> None:
    def plundered(case: Case) -> bool:
        at = case.entered_at or 0
        return any(b["session_id"] == case.session and 0 <= b["at"] - at <= 900_000 for b in stories.changes[case.account])

    assert 0.6 < mean(plundered(c) for c in stories.live(label="takeover")) < 0.95
    assert mean(plundered(c) for c in stories.live(story="plain") if c.truth["accepted"]) < 0.2


def test_campaigns_use_one_number_on_many_accounts_within_the_hour(stories: World) -> None:
    by_number: dict[str, list[tuple[int, str]]] = {}
    for phone, calls in stories.calls.items():
        for call in calls:
            if (
                call["direction"] == "inbound"
                and call.get("peer")
                and not call.get("peer_is_bank")
                and call.get("peer_line") != "toll_free"
            ):
                by_number.setdefault(call["peer"], []).append((call["began"], phone))

    def most(calls: list[tuple[int, str]]) -> int:
        return max(len({phone for at, phone in calls if 0 <= at - first < 3_600_000}) for first, _ in calls)

    assert max(most(calls) for calls in by_number.values()) >= 3


def test_campaigns_work_from_a_few_addresses_and_others_do_not(stories: World) -> None:
    attacks = [c for label in ("takeover", "attempt") for c in stories.live(label=label)]
    from_one: dict[str, set[str]] = {}
    for case in attacks:
        for login in case.logins:
            if login["asn_kind"] in ("hosting", "proxy"):
                from_one.setdefault(login["ip"], set()).add(case.account)
    assert max(len(accounts) for accounts in from_one.values()) >= 3
    assert mean(len(accounts) == 1 for accounts in from_one.values()) > 0.5


@pytest.mark.parametrize("pick", [min, max])
def test_timing_varies_so_that_attacks_and_customers_overlap(stories: World, pick: Callable[[list[float]], float]) -> None:
    def latency(cases: list[Case]) -> list[float]:
        found = sorted(((c.entered_at or 0) - c.sent_at) / 1000 for c in cases if c.entered_at is not None)
        return found[len(found) // 10 : -len(found) // 10]

    thieves, customers = latency(stories.live(label="takeover")), latency(stories.live(label="benign"))
    assert min(customers) < pick(thieves) < max(customers) * 4
    assert max(customers) > min(thieves)
