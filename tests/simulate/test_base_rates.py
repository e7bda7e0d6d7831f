"""Ordinary days have the rates that were measured: Hiya 2019 (calls), Ofcom 2019 (durations), Duo (codes never entered)."""

from statistics import mean, median

from tests.simulate.world import World


def live_calls(world: World) -> list[dict[str, object]]:
    return [c for calls in world.calls.values() for c in calls if c["began"] >= world.summary.live_from]


def is_inbound(call: dict[str, object]) -> bool:
    return call["direction"] == "inbound" and not call.get("peer_is_bank")


def test_calls_a_day(ordinary: World) -> None:
    inbound = [c for c in live_calls(ordinary) if is_inbound(c)]
    households = ordinary.summary.accounts - 0.4 * 2 * 0.11 * ordinary.summary.households / 2  # couples with one phone share its calls
    assert 3.3 < len(inbound) / households < 4.2


def test_share_answered(ordinary: World) -> None:
    inbound = [c for c in live_calls(ordinary) if is_inbound(c)]
    asked = [c for c in inbound if c.get("peer_is_contact") is not None]
    strangers = [c for c in asked if not c["peer_is_contact"]]
    assert 0.47 < mean(c["answered_at"] is not None for c in inbound) < 0.57
    assert 0.20 < mean(c["answered_at"] is not None for c in strangers) < 0.28
    assert 0.47 < len(strangers) / len(asked) < 0.60


def test_durations(ordinary: World) -> None:
    seconds = [(c["ended_at"] - c["answered_at"]) / 1000 for c in live_calls(ordinary) if is_inbound(c) and c["answered_at"]]  # type: ignore[operator]
    assert 0.52 < mean(s < 90 for s in seconds) < 0.68


def test_chance_of_an_answered_stranger_in_three_minutes(ordinary: World) -> None:
    answered = [c for c in live_calls(ordinary) if is_inbound(c) and c.get("peer_is_contact") is False and c["answered_at"] is not None]
    said = sum(1 for account, phones in ordinary.phones.items() if account and _told(ordinary, phones))
    windows = said * 16 * 20
    assert 0.0011 < len(answered) / windows < 0.0019


def _told(world: World, phones: set[str]) -> bool:
    return any(c.get("peer_is_contact") is not None for phone in phones for c in world.calls[phone])


def test_codes_never_entered(ordinary: World) -> None:
    cases = ordinary.live()
    assert len(cases) > 1000
    assert 0.03 < mean(not c.truth["accepted"] for c in cases) < 0.065


def test_entry_times(ordinary: World) -> None:
    typed = []
    for case in ordinary.live(story="plain"):
        delivered = [d["at"] for d in case.dispatches if d["status"] == "delivered"]
        if len(delivered) == 1 and len(case.sent) == 1 and len(case.entries) == 1 and case.entries[0]["method"] == "typed":
            typed.append((case.entries[0]["at"] - delivered[0]) / 1000)
    assert 9 < median(typed) < 18


def test_delivery_times(ordinary: World) -> None:
    waits = sorted(
        (d["at"] - c.sent_at) / 1000 for c in ordinary.live() for d in c.dispatches if d["status"] == "delivered" and len(c.sent) == 1
    )
    assert 3 < waits[len(waits) // 2] < 6.5
    assert waits[int(0.95 * len(waits))] < 40


def test_attacks_per_challenge_are_as_asked(make_world) -> None:  # type: ignore[no-untyped-def]
    world = make_world(accounts=3000, hours=12, prior=0.05, history_days=0, lookalikes=0.0, feeds="no-telephony", stories=["V1"])
    honest = len(world.live(label="benign"))
    attacks = len(world.live()) - honest
    assert 0.035 < attacks / honest < 0.065
