"""Every look-alike appears, with what makes it look bad and what tells it apart; none is labelled an attack."""

from collections import Counter
from statistics import mean

from pipeline.simulate.lookalikes import LOOKALIKES
from tests.simulate.conftest import Maker
from tests.simulate.world import Case, World, ms


def seen(world: World, story: str) -> list[Case]:
    cases = [c for c in world.live(story=story) if world.phones[c.account]]  # of others the bank knows no phone
    assert len(cases) >= 3, f"too few of {story} to look at"
    return cases


def test_every_lookalike_appears_and_is_benign(stories: World) -> None:
    found = Counter(t["story"] for t in stories.truth if t["story"].startswith("B"))
    assert set(found) == set(LOOKALIKES)
    assert all(t["label"] == "benign" for t in stories.truth if t["story"].startswith("B"))


def test_b1_customer_phoned_the_bank_and_an_agent_sent_the_code(stories: World) -> None:
    for case in seen(stories, "B1"):
        assert case.sent[0]["initiated_by"] == "agent"
        assert any(c["direction"] == "outbound" and c.get("peer_is_bank") for c in case.live_at_entry())


def test_b2_the_bank_itself_rings_and_the_device_is_known(stories: World) -> None:
    cases = seen(stories, "B2")
    for case in cases:
        assert any(
            c["direction"] == "inbound" and c.get("peer_is_bank") and c["answered_at"] < case.sent_at
            for c in case.calls(600)
            if c["answered_at"]
        )
    assert mean(c.logins[-1]["device_id"] in c.known_devices() for c in cases) > 0.8  # new customers have no known device


def test_b3_new_phone_and_sim_at_home_without_a_call(stories: World) -> None:
    for case in seen(stories, "B3"):
        assert case.logins[-1]["device_id"] not in case.known_devices()
        assert any(b["change"] == "sim_swapped" and 3_000_000 < case.sent_at - b["at"] < 25_000_000 for b in case.line_changes())


def test_b4_new_tablet_and_a_contact_on_the_line(stories: World) -> None:
    for case in seen(stories, "B4"):
        assert case.entries[-1]["device_id"] not in case.known_devices()
        assert any(c.get("peer_is_contact") in {True, None} and not c.get("peer_is_bank") for c in case.live_at_entry())


def test_b5_roaming_where_the_login_is(stories: World) -> None:
    for case in seen(stories, "B5"):
        roaming = [b for b in case.line_changes() if b["change"] == "roaming_on"]
        assert case.logins[-1]["country"] in {b["country"] for b in roaming}


def test_b6_filled_in_within_seconds(stories: World) -> None:
    for case in seen(stories, "B6"):
        assert case.entries[0]["method"] == "autofill"
        delivered = [d["at"] for d in case.dispatches if d["status"] == "delivered"]
        assert not delivered or (case.entered_at or 0) - delivered[0] < 4500


def test_b7_sent_four_times(stories: World) -> None:
    for case in seen(stories, "B7"):
        assert len(case.sent) == 4
        assert case.entered_at is not None
        assert case.entered_at - case.sent_at > 60_000


def test_b8_a_strangers_call_meets_the_code(stories: World) -> None:
    cases = seen(stories, "B8")
    assert all(any(c["answered_at"] and c["direction"] == "inbound" for c in case.calls(60, 60)) for case in cases)
    assert mean(bool(c.live_at_entry()) for c in cases if c.entered_at) > 0.5


def test_b9_telemarketer_is_not_answered(stories: World) -> None:
    for case in seen(stories, "B9"):
        assert any(c["answered_at"] is None and c.get("attestation") in {"B", "C"} for c in case.calls(30, 60))


def test_b9_telemarketers_of_a_shift_share_a_number(stories: World) -> None:
    numbers = [c["peer"] for case in seen(stories, "B9") for c in case.calls(30, 60) if c["answered_at"] is None and c.get("peer")]
    assert len(set(numbers)) < 0.8 * len(numbers)


def test_b10_call_began_long_before(stories: World) -> None:
    cases = seen(stories, "B10")
    assert all(case.sent_at - ms(case.truth["call_answered_at"]) > 500_000 for case in cases)
    visible = [[c for c in case.live_at_entry() if case.sent_at - c["answered_at"] > 500_000] for case in cases if case.entered_at]
    assert mean(bool(calls) for calls in visible) > 0.5
    assert {c["via"] for calls in visible for c in calls} == {"network", "app"}


def test_b11_accountant_came_before_from_a_data_centre(stories: World) -> None:
    for case in seen(stories, "B11"):
        assert case.logins[-1]["asn_kind"] == "hosting"
        assert case.live_at_entry()
    assert mean(c.logins[-1]["device_id"] in c.known_devices() for c in stories.live(story="B11")) > 0.85


def test_b12_forwarded_since_long_ago(stories: World) -> None:
    for case in seen(stories, "B12"):
        assert any(b["change"] == "forwarding_on" and case.sent_at - b["at"] > 30 * 86_400_000 for b in case.line_changes())


def test_b13_calls_come_late_and_out_of_order(make_world: Maker) -> None:
    world = make_world(accounts=600, hours=10, prior=0.0, lookalikes=0.9, stories=["B13"], noise=True, coverage=1.0, history_days=0)
    live = [b for b in world.by_topic["telephony"] if b["at"] >= world.summary.live_from and b["type"] == "call"]
    delays = [b["arrived_at"] - b["at"] for b in live]
    assert len(world.live(story="B13")) > 50
    assert sum(60_000 < d < 2_400_000 for d in delays) > 40


def test_b14_new_sim_within_the_hour_on_a_known_device(stories: World) -> None:
    cases = seen(stories, "B14")
    for case in cases:
        assert any(b["change"] == "sim_swapped" and 0 < case.sent_at - b["at"] < 3_700_000 for b in case.line_changes())
    assert mean(c.logins[-1]["device_id"] in c.known_devices() for c in cases) > 0.8


def test_b15_slow_with_errors(stories: World) -> None:
    for case in seen(stories, "B15"):
        assert case.truth["segment"] == "older"
        assert case.entries[0]["outcome"] in {"rejected", "expired"}
        assert (case.entered_at or 0) - case.sent_at > 50_000


def test_b16_looks_like_an_attack_and_is_disposed_as_test(stories: World) -> None:
    disposed = {b["otp_id"]: b["verdict"] for b in stories.by_topic["dispositions"]}
    for case in seen(stories, "B16"):
        assert case.live_at_entry()
        assert disposed.get(case.truth["otp_id"], "test") == "test"  # those near the end come after it
    assert "test" in disposed.values()


def test_b17_the_code_is_the_call(stories: World) -> None:
    for case in seen(stories, "B17"):
        assert case.sent[0]["channel"] == "voice"
        spoken = [c for c in case.calls(0, 30) if c.get("peer_is_bank") and c["direction"] == "inbound" and c["answered_at"]]
        assert spoken
        assert case.sent[0]["sender"] in {None, spoken[0]["peer"]}


def test_b18_a_chance_call_after_the_codes_text(stories: World) -> None:
    for case in seen(stories, "B18"):
        assert case.sent[0]["channel"] == "sms"
        assert any(c["answered_at"] and c["began"] > case.sent_at for c in case.calls(0, 900))
        assert any(b["type"] == "sms" and b["peer"] == "EXAMPLEBANK" for b in stories.telephony[case.sent[0]["phone"]])
