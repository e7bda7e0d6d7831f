"""Do the variants that no choice was made for look like their stories, and leave everything else as it was where they are not asked for?"""

from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean, median

import pytest
from click.testing import CliRunner

from pipeline.commands.logs import simulate as command
from pipeline.simulate.attacks import ATTACKS
from pipeline.simulate.emerging import STORY as EMERGING
from pipeline.simulate.unseen import UNSEEN
from tests.simulate.conftest import Maker
from tests.simulate.world import Body, Case, World, ms

HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def unseen(make_world: Maker) -> World:
    """Only the three, often, with every carrier taking part."""
    return make_world(accounts=1500, hours=40, prior=3.0, lookalikes=0.0, coverage=1.0, stories=[], unseen=True)


def taken(world: World, story: str) -> list[Case]:
    cases = [c for c in world.live(story=story, label="takeover") if world.phones[c.account]]  # of others the bank knows no phone
    assert len(cases) >= 10, f"too few takeovers of {story} to look at"
    return cases


def told(cases: list[Case]) -> list[tuple[Case, Body]]:
    """Give the call that the code was told in beside each case, but for the few on a second line that the bank does not know."""
    found = [(case, call) for case in cases for call in case.calls(3600) if call["answered_at"] == ms(case.truth["call_answered_at"])]
    assert len(found) > 0.9 * len(cases)
    return found


def test_they_are_none_of_the_others() -> None:
    assert set(UNSEEN) == {"V16", "V17", "V18"}
    assert not set(UNSEEN) & {*ATTACKS, EMERGING}


def test_all_are_made_and_many_fail(unseen: World) -> None:
    labels = Counter((c.truth["story"], c.truth["label"]) for c in unseen.live() if c.truth["label"] != "benign")
    assert {story for story, _ in labels} == set(UNSEEN)
    for story in UNSEEN:
        tried, won = labels[story, "attempt"], labels[story, "takeover"]
        assert 0.1 < won / (tried + won) < 0.8, story
    for case in unseen.live():
        if case.truth["story"] in UNSEEN:
            assert case.truth["label"] != "benign"
            assert case.truth["accepted"] == (case.truth["label"] == "takeover")


def test_no_attack_in_history(unseen: World) -> None:
    assert all(t["label"] == "benign" for t in unseen.truth if t["history"])


def test_the_thief_is_unknown_and_plunders_mostly_within_the_hour(unseen: World) -> None:
    def plundered(case: Case) -> bool:
        at = case.entered_at or 0
        return any(b["session_id"] == case.session and 0 <= b["at"] - at <= HOUR for b in unseen.changes[case.account])

    cases = [case for story in UNSEEN for case in taken(unseen, story)]
    assert not any(case.entries[-1]["device_id"] in case.known_devices() for case in cases)
    assert 0.6 < mean(plundered(case) for case in cases) < 0.95


def test_v16_the_customer_rings_the_number_of_a_text(unseen: World) -> None:
    cases = taken(unseen, "V16")
    for case, call in told(cases):
        assert case.truth["has_call"]
        assert call["direction"] == "outbound"
        assert call["peer"]
        assert not call.get("peer_is_bank")
        assert not call.get("peer_is_contact")
        assert call["answered_at"] < case.sent_at < (case.entered_at or 0) < call["ended_at"]
        assert any(  # the text before it; some show the bank's own name
            b["type"] == "sms" and b["direction"] == "inbound" and not b["has_code"] and 0 < call["began"] - b["at"] <= 3 * HOUR
            for b in unseen.telephony[call["phone"]]
        )
    assert 120 < median((call["ended_at"] - call["answered_at"]) / 1000 for _, call in told(cases)) < 900


def test_v16_one_number_for_the_texts_of_a_campaign(unseen: World) -> None:
    accounts: dict[str, set[str]] = defaultdict(set)
    for case, call in told(taken(unseen, "V16")):
        accounts[call["peer"]].add(case.account)
    shared = [number for number, rung_by in accounts.items() if len(rung_by) > 1]
    assert shared
    assert len(shared) < len(accounts) / 2


def test_v17_nobody_answers_the_spoken_code(unseen: World) -> None:
    cases = taken(unseen, "V17")
    for case in cases:
        assert case.sent[0]["channel"] == "voice"
        spoken = [c for c in case.calls(0, 60) if c.get("peer_is_bank")]
        assert spoken
        assert all(c["answered_at"] is None for c in spoken)
        assert min(c["ended_at"] for c in spoken) < (case.entered_at or 0) < case.sent_at + 300_000
        assert not any(b["change"] == "forwarding_on" and 0 < case.sent_at - b["at"] < 2 * DAY for b in case.line_changes())
    assert mean(c.truth["has_call"] for c in cases) < 0.15
    assert mean((c.sent_at // HOUR) % 24 < 7 for c in cases) > 0.3  # at night, in Greenwich at least


def test_v17_often_after_calls_that_nobody_answered_or_a_code_as_always(unseen: World) -> None:
    cases = taken(unseen, "V17")
    probed = [[c for c in case.calls(300, 0) if c["answered_at"] is None and not c.get("peer_is_bank")] for case in cases]
    assert 0.4 < mean(bool(calls) for calls in probed) < 0.95
    codes = Counter(b["session_id"] for b in unseen.by_topic["otp-dispatches"] if b["status"] == "sent")
    assert 0.2 < mean(codes[case.session] > 1 for case in cases) < 0.9


def test_v18_no_stranger_any_more(unseen: World) -> None:
    cases = taken(unseen, "V18")
    before = []
    for case, call in told(cases):
        assert case.truth["has_call"]
        assert call["direction"] == "inbound"
        assert call["answered_at"] < case.sent_at < (case.entered_at or 0) < call["ended_at"]
        met = [c for c in unseen.calls[call["phone"]] if c.get("peer") == call["peer"] and c["began"] < call["began"] - 12 * HOUR]
        assert any(c["answered_at"] is not None and c["direction"] == "inbound" for c in met)
        assert all(call["began"] - c["began"] < 8 * DAY for c in met)
        before.append(met)
    assert mean(len(met) >= 2 for met in before) > 0.5
    assert any(c["direction"] == "outbound" for met in before for c in met)
    assert 0.1 < mean(call.get("peer_is_contact") is True for _, call in told(cases)) < 0.6


def test_they_come_only_when_asked_for_and_leave_the_others_as_they_were(make_world: Maker) -> None:
    """Truth, codes, entries and what is found out are the same for everybody else, but for the running numbers in event ids."""
    plain, world = (make_world(accounts=200, hours=30, prior=0.5, unseen=on) for on in (False, True))
    assert "unseen" not in plain.summary.parameters
    assert world.summary.parameters["unseen"] is True
    assert not set(UNSEEN) & set(plain.summary.stories)
    others = [t for t in world.truth if t["story"] not in UNSEEN]
    fields = ("account_id", "otp_id", "label", "story", "dispatched_at", "entered_at", "accepted", "segment", "history")
    assert sorted([t[f] for f in fields] for t in others) == sorted([t[f] for f in fields] for t in plain.truth)
    theirs = {t["otp_id"] for t in world.truth if t["story"] in UNSEEN}
    for topic in ("otp-dispatches", "otp-entries", "dispositions"):
        kept = [{**b, "event_id": ""} for b in world.by_topic[topic] if b["otp_id"] not in theirs]
        assert sorted(kept, key=repr) == sorted(({**b, "event_id": ""} for b in plain.by_topic[topic]), key=repr)


@pytest.mark.parametrize("family", ["b", "c"])
def test_they_come_in_the_other_families_too(make_world: Maker, family: str) -> None:
    world = make_world(accounts=400, hours=40, prior=3.0, stories=[], lookalikes=0.0, family=family, unseen=True)
    assert {c.truth["story"] for c in world.live(label="takeover")} == set(UNSEEN)


def test_the_command_says_so(tmp_path: Path) -> None:
    arguments = ["--accounts", "60", "--hours", "24", "--prior", "1", "--unseen", "--out", str(tmp_path)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert b'"unseen": true' in (tmp_path / "about.json").read_bytes()
