"""The world is the same under every view; only what the bank sees of it differs."""

from collections import Counter

import pytest

from tests.simulate.conftest import Maker
from tests.simulate.world import World

OPTIONS = {"seed": 6, "accounts": 800, "hours": 8, "prior": 0.4, "lookalikes": 0.4, "history_days": 0, "noise": True}


@pytest.fixture(scope="module")
def views(make_world: Maker) -> dict[str, World]:
    return {feeds: make_world(**OPTIONS, feeds=feeds) for feeds in ("full", "no-telephony", "probe", "app")}


def test_truth_is_the_same(views: dict[str, World]) -> None:
    truths = {(w.out / w.summary.truth).read_bytes() for w in views.values()}
    assert len(truths) == 1


def test_all_but_telephony_is_the_same_to_the_byte(views: dict[str, World]) -> None:
    others = {tuple((r.topic, r.ts, r.key, r.value) for r in w.records if r.topic != "telephony") for w in views.values()}
    assert len(others) == 1


def test_no_telephony_is_none(views: dict[str, World]) -> None:
    assert "telephony" not in views["no-telephony"].summary.records_by_topic


def test_probe_answers_what_was_asked_and_truly(views: dict[str, World], make_world: Maker) -> None:
    probe, full = views["probe"], make_world(**OPTIONS | {"noise": False, "coverage": 1.0})
    seen = probe.by_topic["telephony"]
    assert {b["type"] for b in seen} == {"call_status", "line"}
    assert {b["source"] for b in seen} == {"probe"}
    assert not any("peer" in b for b in seen)
    answers = [b for b in seen if b["type"] == "call_status" and b["on_call"] is not None]
    agree = Counter(_on_call(full, b["phone"], b["at"]) == b["on_call"] for b in answers)
    assert agree == {True: len(answers)}
    assert sum(b["on_call"] for b in answers) > 20
    for otp_id, sent in probe.dispatches.items():
        phone, at = sent[0]["phone"], sent[0]["at"]
        if phone is not None:
            assert any(0 < b["at"] - at < 1000 and b["type"] == "call_status" for b in probe.telephony[phone]), otp_id
    for entries in probe.entries.values():
        phone = probe.dispatches[entries[0]["otp_id"]][0]["phone"]
        if phone is not None:
            assert all(any(0 < e["at"] - b["at"] < 100 for b in probe.telephony[phone]) for e in entries)


def _on_call(world: World, phone: str, at: int) -> bool:
    return any(
        c["via"] == "network" and c["answered_at"] is not None and c["answered_at"] <= at < c["ended_at"] for c in world.calls[phone]
    )


def test_app_has_no_numbers_and_not_everybody(views: dict[str, World]) -> None:
    app, full = views["app"], views["full"]
    seen = app.by_topic["telephony"]
    assert {b["type"] for b in seen} == {"call"}
    assert {b["source"] for b in seen} == {"device_sdk"}
    assert not any("peer" in b or "attestation" in b for b in seen)
    assert {b["via"] for b in seen if "via" in b} == {"network", "app"}
    share = len({b["phone"] for b in seen}) / len({b["phone"] for b in full.by_topic["telephony"]})
    assert 0.5 < share < 0.72


def test_full_leaves_out_the_lines_of_carriers_that_do_not_take_part(views: dict[str, World], make_world: Maker) -> None:
    full, every = views["full"], make_world(**OPTIONS, coverage=1.0)
    phones = [{b["phone"] for b in w.by_topic["telephony"] if b["source"] == "carrier"} for w in (full, every)]
    assert phones[0] < phones[1]
    assert 0.86 < len(phones[0]) / len(phones[1]) < 0.97
    assert {b["source"] for b in full.by_topic["telephony"]} == {"carrier", "device_sdk", "bank_trunk"}


def test_states_of_a_call_follow_the_contract(stories: World) -> None:
    for calls in stories.calls.values():
        for call in calls:
            assert call["states"] in (["ringing", "answered", "ended"], ["answered", "ended"], ["ringing", "missed"], ["missed"])


def test_the_other_family_is_another_world(make_world: Maker) -> None:
    options = {"seed": 6, "accounts": 500, "hours": 6, "prior": 0.5, "history_days": 1}
    a, b = make_world(**options), make_world(**options, family="b")
    assert a.summary.parameters["family"] == "a"
    assert b.summary.parameters["family"] == "b"
    assert b.summary.stories != a.summary.stories


def test_labels_come_late_few_and_sometimes_wrong(make_world: Maker) -> None:
    world = make_world(seed=8, accounts=2500, hours=14, prior=1.0, history_days=0, feeds="no-telephony", all_labels=True)
    labelled = {b["otp_id"]: b for b in world.by_topic["dispositions"]}
    taken = world.live(label="takeover")
    found = [(c, labelled[c.truth["otp_id"]]) for c in taken if c.truth["otp_id"] in labelled]
    assert len(taken) > 150
    assert 0.6 < len(found) / len(taken) < 0.8
    assert all(b["at"] - (c.entered_at or 0) >= 600_000 for c, b in found)
    assert all((b["at"] - (c.entered_at or 0)) / 86_400_000 >= 1 for c, b in found if b["source"] in {"customer", "chargeback"})
    assert max((b["at"] - (c.entered_at or 0)) / 86_400_000 for c, b in found) > 10
    wrong = [b for _, b in found if b["verdict"] == "false_positive"]
    assert len(wrong) <= 0.05 * len(found)
    cut = make_world(seed=8, accounts=300, hours=14, prior=1.0, history_days=0, feeds="no-telephony")
    assert all(b["at"] < cut.summary.live_until for b in cut.by_topic["dispositions"])
