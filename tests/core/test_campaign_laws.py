"""The laws of campaigns, as properties: what several accounts met comes to the same in any order, told twice, and over restarts."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import T0

from pipeline.core.campaign import Known, forget, hear, joined, met_around, runs, short_name
from pipeline.core.events import AccountEvent, CallChanged, CampaignMark, CampaignSeen, MessageSeen, OtpDispatched, OtpEntered
from pipeline.core.gatherer import Gatherer, slot_of
from pipeline.core.outcome import Decision, Outcome, Sighting
from pipeline.core.partition import Partition
from pipeline.core.policy import Campaigns, Policy, Thresholds
from tests.core import town
from tests.examples import examples

# low thresholds and two accounts, so that random lives reach every level and make campaigns
POLICY = Policy(thresholds=Thresholds(watch=0.001, alert=0.02), campaigns=Campaigns(accounts=2, most=3))
STEP = 1000 * POLICY.campaigns.step_s

names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
marks = st.lists(
    st.builds(
        CampaignMark,
        st.integers(0, 15).map(lambda n: T0 + n * STEP),
        st.lists(names, max_size=3, unique=True).map(lambda found: tuple(sorted(found))),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda mark: mark.at,
).map(lambda found: joined((), found, 3))
entities = st.sampled_from(["caller:k1:x", "caller:k1:y", "device:d1"])
sightings = st.lists(
    st.builds(
        lambda entity, account, minute, delay, exempt: Sighting(
            entity=entity, account_id=account, occurred_at=T0 + minute * 60_000, arrived_at=T0 + minute * 60_000 + delay, exempt=exempt
        ),
        entities, names, st.integers(0, 150), st.sampled_from([0, 3_000, 1_700_000]), st.sampled_from([False, False, False, True]),
    ),
    max_size=20,
)  # fmt: skip


@given(marks, marks, marks)
def test_marks_are_a_set(a: tuple[CampaignMark, ...], b: tuple[CampaignMark, ...], c: tuple[CampaignMark, ...]) -> None:
    most = 3
    assert joined(a, b, most) == joined(b, a, most)
    assert joined(joined(a, b, most), c, most) == joined(a, joined(b, c, most), most)
    assert joined(a, a, most) == a
    assert joined(joined(a, b, most), b, most) == joined(a, b, most)


@given(st.lists(st.tuples(st.integers(0, 150), names), max_size=30), st.integers(0, 150), names)
def test_what_is_left_out_changes_no_count(met: list[tuple[int, str]], minute: int, account: str) -> None:
    """Kept are as many names in a stretch as are counted; the count is that of all, up to the bound."""
    every: tuple[CampaignMark, ...] = ()
    kept: tuple[CampaignMark, ...] = ()
    for at, who in met:
        mark = CampaignMark((T0 + at * 60_000) // STEP * STEP, (short_name(who),))
        every, kept = joined(every, (mark,), 1000), joined(kept, (mark,), POLICY.campaigns.most)
    moment = T0 + minute * 60_000
    end = moment // STEP * STEP
    others = {who for at, who in met if end - 3_600_000 <= (T0 + at * 60_000) // STEP * STEP <= end} - {account}
    assert met_around(kept, moment, account, POLICY) == min(POLICY.campaigns.most, len(others) + 1)
    assert runs(kept, POLICY) == runs(every, POLICY)


def gathered(said: list[Sighting], restart: bool = False) -> dict[str, CampaignSeen]:
    """The last word on each entity; with ``restart`` the state goes through bytes between every two sightings."""
    fold, kept = Gatherer(POLICY), dict[str, bytes]()
    last: dict[str, CampaignSeen] = {}
    for offset, sighting in enumerate(said):
        seen = fold.fold(offset, sighting)
        if seen is not None:
            last[seen.entity] = seen
        if restart:
            fold = town.restarted(fold, Gatherer(POLICY), kept)
            assert fold.fold(offset, sighting) is None, "a sighting that was folded says nothing again"
    return last


@given(sightings, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_sightings_in_any_order_and_twice_end_in_the_same_word(said: list[Sighting], random: st.DataObject) -> None:
    again = [*said, *said]
    random.shuffle(again)  # type: ignore[attr-defined]  # hypothesis hands in a random.Random
    first, second = gathered(said), gathered(again)
    assert {entity: seen.marks for entity, seen in first.items()} == {entity: seen.marks for entity, seen in second.items()}


@given(sightings)
@settings(deadline=None)
def test_a_restart_between_every_two_sightings_changes_nothing(said: list[Sighting]) -> None:
    assert gathered(said) == gathered(said, restart=True)


@given(sightings)
@settings(deadline=None)
def test_a_crash_before_the_state_is_durable_says_the_same_again(said: list[Sighting]) -> None:
    """Told and not written down, told again: detect hears nothing new."""
    one, other = Gatherer(POLICY), Gatherer(POLICY)
    first = [one.fold(offset, sighting) for offset, sighting in enumerate(said)]
    assert first == [other.fold(offset, sighting) for offset, sighting in enumerate(said)]
    once: dict[str, Known] = {}
    twice: dict[str, Known] = {}
    for seen in first:
        if seen is not None:
            assert hear(once, seen, POLICY)
            hear(twice, seen, POLICY)
            assert not hear(twice, seen, POLICY)
    assert once == twice


def test_old_meetings_are_forgotten_and_the_slot_with_them_stays_small() -> None:
    fold, hours = Gatherer(POLICY), 3_600_000
    for n in range(600):
        at = T0 + n * hours // 10
        fold.fold(n, Sighting(entity=f"caller:k1:{n}", account_id="a", occurred_at=at, arrived_at=at))
    kept = sum(state.count(b"caller:k1:") for slot in fold.accounts() if (state := fold.encoded(slot)) is not None)
    assert len(fold) <= 256
    assert kept < 600
    table = {"caller:k1:x": Known(T0, (CampaignMark(T0, ("a", "b")),))}
    forget(table, T0 + POLICY.retain_ms, POLICY)
    assert table, "a challenge of then may still be open"
    forget(table, T0 + POLICY.retain_ms + 2 * hours, POLICY)
    assert not table
    assert slot_of("caller:k1:x") == slot_of("caller:k1:x") != slot_of("caller:k1:y")


# --- the whole loop: accounts, the campaign stage, and accounts again


Final = dict[tuple[str, str], tuple[str, str, float, object, object]]


def lived(events: list[AccountEvent], policy: Policy = POLICY, restart: bool = False) -> tuple[list[Outcome], Partition]:
    said, (partition,) = town.lived(events, policy, restart)
    return said, partition


def final(said: list[Outcome]) -> Final:
    last: Final = {}
    for o in said:
        if isinstance(o, Decision):
            campaign = (o.features.get("same_caller_accounts"), o.features.get("same_sender_accounts"))
            last[o.account_id, o.otp_id] = (o.level, o.stage, round(o.probability, 6), *campaign)
    return {k: v for k, v in last.items() if not (v[0] == "clear" and v[1] in ("before_entry", "near_miss"))}


delays = st.sampled_from([0, 300, 60_000, 1_700_000])
crooks = st.sampled_from([("k1:crook",), ("k1:crook",), ("k1:other",), ("k2:crook", "k1:crook")])


@st.composite
def towns(draw: st.DrawFn) -> list[AccountEvent]:
    """An hour and a half of four accounts that are sent codes while the same few people ring and text, in order of arrival."""
    events: list[AccountEvent] = []
    for account in ("acct-1", "acct-2", "acct-3", "acct-4"):
        for n in range(draw(st.integers(0, 2))):
            start = draw(st.integers(0, 5_400)) * 1000 + T0
            times = [start, *(start + 1000 * draw(st.integers(-400, 700)) for _ in range(draw(st.integers(1, 3))))]
            for k, at in enumerate(times):
                arrived = at + draw(delays)
                base = {"event_id": f"{account}.{n}.{k}", "account_id": account, "occurred_at": at, "arrived_at": arrived}
                if k == 0:
                    sent = {"otp_id": f"o{n}", "channel": draw(st.sampled_from(["sms", "sms", "voice"])), "purpose": "login"}
                    agent = draw(st.sampled_from(["customer"] * 5 + ["agent"]))
                    events.append(OtpDispatched(**base, **sent, initiated_by=agent))  # type: ignore[arg-type]
                    continue
                what = draw(st.sampled_from(["call", "call", "text", "entry"]))
                if what == "entry":
                    events.append(OtpEntered(**base, otp_id=f"o{n}", outcome=draw(st.sampled_from(["accepted", "rejected"]))))  # type: ignore[arg-type]
                    continue
                line = {"line": f"r:{account}", "direction": "inbound", "peer": draw(crooks)}
                if what == "text":
                    events.append(MessageSeen(**base, **line, has_code=draw(st.sampled_from([False, None]))))  # type: ignore[arg-type]
                else:
                    state = draw(st.sampled_from(["ringing", "answered", "missed"]))
                    bank = draw(st.sampled_from([None] * 12 + [True]))
                    events.append(CallChanged(**base, **line, call_id=f"c{n}{k}", state=state, peer_is_bank=bank))  # type: ignore[arg-type]
    return sorted(events, key=lambda e: (e.arrived_at, e.event_id))


shifts = st.lists(st.integers(0, 299_000), min_size=1, max_size=12)


def shuffled(events: list[AccountEvent], by: list[int]) -> list[AccountEvent]:
    keyed = [(e.arrived_at + by[i % len(by)], e.event_id, e) for i, e in enumerate(events)]
    return [e for _, _, e in sorted(keyed, key=lambda x: x[:2])]


def met(said: list[Outcome]) -> set[tuple[str, str, int, bool]]:
    return {(o.account_id, o.entity, o.occurred_at // STEP, o.exempt) for o in said if isinstance(o, Sighting)}


@given(towns(), shifts)
@settings(deadline=None, max_examples=examples(200))
def test_order_free(events: list[AccountEvent], by: list[int]) -> None:
    """Law 1, over accounts: any delivery order within the slack ends in the same meetings and the same final assessments."""
    one, _ = lived(events)
    other, _ = lived(shuffled(events, by))
    assert met(one) == met(other)
    assert final(one) == final(other)


@given(towns())
@settings(deadline=None, max_examples=examples(100))
def test_duplicate_free(events: list[AccountEvent]) -> None:
    """Law 2: everything delivered twice says the same, and no meeting is told twice."""
    one, _ = lived(events)
    other, _ = lived([e for event in events for e in (event, event)])
    told = [o for o in other if isinstance(o, Sighting)]
    assert [o for o in one if isinstance(o, Sighting)] == told
    assert final(one) == final(other)


@given(towns())
@settings(deadline=None, max_examples=examples(100))
def test_restart_free(events: list[AccountEvent]) -> None:
    """Law 3: the state of detect through bytes between every two events, the index of meetings made anew: the same bytes."""
    one, partition = lived(events)
    other, again = lived(events, restart=True)
    assert one == other
    assert partition.detector.campaigns == again.detector.campaigns


def call(account: str, second: int, state: str = "missed", **more: object) -> CallChanged:
    base = {"event_id": f"{account}.c{second}{state}", "account_id": account, "occurred_at": T0 + 1000 * second}
    base |= {"arrived_at": T0 + 1000 * second + 300, "line": f"r:{account}", "call_id": "c", "state": state, "direction": "inbound"}
    return CallChanged(**base, **{"peer": ("k1:crook",), **more})  # type: ignore[arg-type]


def code(account: str, second: int, **more: object) -> OtpDispatched:
    base = {"event_id": f"{account}.d{second}", "account_id": account, "occurred_at": T0 + 1000 * second, "otp_id": f"o-{account}"}
    base |= {"arrived_at": T0 + 1000 * second + 300, "channel": "sms", "purpose": "login", "initiated_by": "customer"}
    return OtpDispatched(**base | more)  # type: ignore[arg-type]


STRICT = Policy(thresholds=Thresholds(watch=0.0001, alert=0.9))


def seen_by(said: list[Outcome], account: str) -> object:
    return next(
        (o.features.get("same_caller_accounts") for o in reversed(said) if isinstance(o, Decision) and o.account_id == account), None
    )


def test_news_of_a_campaign_reaches_a_code_that_is_open_at_once() -> None:
    """The third victim's own call makes the campaign; the second, whose code is still open, hears of it without an event of its own."""
    events: list[AccountEvent] = [code("a", 0), call("a", 5), code("b", 100), call("b", 105), code("c", 160), call("c", 165)]
    said, _ = lived(events, STRICT)
    assert seen_by(said, "c") == 3
    assert seen_by(said, "b") == 3
    decided = [o.account_id for o in said if isinstance(o, Decision) and o.stage == "before_entry"]
    assert {"b", "c"} <= set(decided)


def test_an_own_number_of_the_institution_is_no_campaign_whoever_says_so_first() -> None:
    quiet: list[AccountEvent] = [code("a", 0), call("a", 5), code("b", 100), call("b", 105), code("c", 160), call("c", 165)]
    for told in (call("a", 4, "ringing", peer_is_bank=True), call("c", 170, "ringing", peer_is_bank=True)):
        events = sorted([*quiet, told], key=lambda e: e.arrived_at)
        assert seen_by(lived(events, STRICT)[0], "c") is None
    agent: list[AccountEvent] = [code("a", 0, initiated_by="agent"), *quiet[1:]]
    assert seen_by(lived(agent, STRICT)[0], "c") is None


def test_a_usual_contact_and_a_test_account_make_no_meeting() -> None:
    events: list[AccountEvent] = [
        e for who, at in (("a", 0), ("b", 100), ("c", 160)) for e in (code(who, at), call(who, at + 5, peer_is_contact=True))
    ]
    assert not met(lived(events, STRICT)[0])
    events = [code("a", 0), call("a", 5)]
    assert met(lived(events, STRICT)[0])
    assert not met(lived(events, msgspec.structs.replace(STRICT, test_accounts=frozenset(["a"])))[0])
