"""The laws of the fold, as properties over random lives of an account."""

from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ACCOUNT, T0, lives

from pipeline.core import timeline as timelines
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.events import AccountEvent, LoggedIn, OtpDispatched, OtpEntered, Snoozed
from pipeline.core.outcome import Decision, Example, Finding, Late, Outcome
from pipeline.core.policy import Bounds, Policy, Thresholds
from pipeline.core.profile import Profile
from pipeline.core.timeline import Timeline
from tests.examples import examples

# low thresholds, so that random lives reach every level
POLICY = Policy(thresholds=Thresholds(watch=0.001, alert=0.02))
TIGHT = Policy(
    thresholds=Thresholds(watch=0.001, alert=0.02), bounds=Bounds(devices=1, networks=1, countries=1, peers=1, entry_times=3, settled=2)
)
FAR = T0 + 40 * 86_400_000
Final = dict[str, tuple[str, str, float]]


def lived(events: list[AccountEvent], policy: Policy = POLICY, restart: bool = False) -> tuple[Timeline, list[Outcome]]:
    """Fold a life to its end; with ``restart`` the state is encoded and decoded between every two events."""
    detector = Detector(policy)
    t = new_timeline(ACCOUNT)
    said: list[Outcome] = []
    for event in events:
        t, out = detector.step(t, event)
        said += out
        if restart:
            t = timelines.decode(timelines.encode(t))
    t, out = detector.fire(t, FAR)
    return t, said + out


def final(said: list[Outcome]) -> Final:
    """The last decision of every challenge; one that is clear and unused is as good as none."""
    last: Final = {}
    for outcome in said:
        if isinstance(outcome, Decision):
            last[outcome.otp_id] = (outcome.level, outcome.stage, round(outcome.probability, 6))
    return {k: v for k, v in last.items() if not (v[0] == "clear" and v[1] in ("before_entry", "near_miss"))}


def silenced(t: Timeline) -> dict[str, object]:
    """By what each finding that is open in the end is suppressed, if at all."""
    return {s.otp_id: s.finding.suppressed for s in t.settled if s.open and s.finding is not None}


def known(t: Timeline) -> Profile:
    return msgspec.structs.replace(t.profile, revision=0)


def shuffled(events: list[AccountEvent], shifts: list[int]) -> list[AccountEvent]:
    """Another order of delivery, disordered by less than the policy's slack."""
    keyed = [(e.arrived_at + shifts[i % len(shifts)], e.event_id, e) for i, e in enumerate(events)]
    return [e for _, _, e in sorted(keyed, key=lambda x: x[:2])]


def later(event: AccountEvent, by: int) -> AccountEvent:
    """The same event so many ms later."""
    times = {"occurred_at": event.occurred_at + by, "arrived_at": event.arrived_at + by}
    if isinstance(event, Snoozed) and event.expires_at is not None:
        times["expires_at"] = event.expires_at + by
    return msgspec.structs.replace(event, **times)


shifts = st.lists(st.integers(0, 299_000), min_size=1, max_size=12)


@given(lives(snoozed=True), shifts)
@settings(deadline=None, max_examples=examples(300))
def test_order_free(events: list[AccountEvent], by: list[int]) -> None:
    """Law 1: any delivery order within the slack ends in the same profile and the same final assessment of every challenge."""
    one, said = lived(events)
    other, said_other = lived(shuffled(events, by))
    assert known(one) == known(other)
    assert final(said) == final(said_other)
    assert silenced(one) == silenced(other)
    assert one.snoozes == other.snoozes
    assert {o.event_id for o in said if isinstance(o, Late)} == {o.event_id for o in said_other if isinstance(o, Late)}


@given(lives(), shifts)
@settings(deadline=None, max_examples=examples(150))
def test_eviction_free(events: list[AccountEvent], by: list[int]) -> None:
    """Law 4: with the smallest bounds, what is forgotten does not depend on the order of delivery."""
    one, said = lived(events, TIGHT)
    other, said_other = lived(shuffled(events, by), TIGHT)
    assert known(one) == known(other)
    assert final(said) == final(said_other)
    p = one.profile
    assert max(len(p.devices), len(p.networks), len(p.countries), len(p.peers)) <= 1
    assert len(p.entry_ms) <= 3
    assert len(one.settled) <= 2


@given(lives(disposed=True, snoozed=True), st.lists(st.integers(0, 24), max_size=8))
@settings(deadline=None, max_examples=examples(150))
def test_duplicate_free(events: list[AccountEvent], repeated: list[int]) -> None:
    """Law 2: a redelivery changes nothing and says nothing."""
    detector = Detector(POLICY)
    t = new_timeline(ACCOUNT)
    for i, event in enumerate(events):
        t, _ = detector.step(t, event)
        again, out = detector.step(t, event)
        assert [o for o in out if not isinstance(o, Late)] == []
        assert msgspec.structs.replace(again, late=0) == msgspec.structs.replace(t, late=0)
        for j in repeated:
            if j < i and events[j].occurred_at > t.sealed_to:
                again, out = detector.step(t, events[j])
                assert [o for o in out if not isinstance(o, Late)] == []
                assert again.recent == t.recent


@given(lives(disposed=True, snoozed=True))
@settings(deadline=None, max_examples=examples(150))
def test_restart_free(events: list[AccountEvent]) -> None:
    """Law 3: encoding and decoding the state between any two events changes nothing."""
    one, said = lived(events)
    other, said_other = lived(events, restart=True)
    assert said == said_other
    assert timelines.encode(one) == timelines.encode(other)


@given(lives(disposed=True, snoozed=True), st.integers(1, 400))
@settings(deadline=None, max_examples=examples(100))
def test_time_is_a_value(events: list[AccountEvent], days: int) -> None:
    """Law 5: the same life on another day gives the same decisions."""
    shift = days * 86_400_000
    moved = [later(e, shift) for e in events]
    _, said = lived(events)
    detector = Detector(POLICY)
    t = new_timeline(ACCOUNT)
    said_moved: list[Outcome] = []
    for event in moved:
        t, out = detector.step(t, event)
        said_moved += out
    _, out = detector.fire(t, FAR + shift)
    said_moved += out
    assert final(said) == final(said_moved)
    assert [type(o) for o in said if not drawn(o)] == [type(o) for o in said_moved if not drawn(o)]


def drawn(outcome: Outcome) -> bool:
    """An example of silence: which are taken goes by the id of the decision, and that by its time."""
    return isinstance(outcome, Example) and outcome.source == "unlabelled"


@given(lives(disposed=True, snoozed=True), st.integers(0, 25))
@settings(deadline=None, max_examples=examples(150))
def test_reproducible_from_the_prefix(events: list[AccountEvent], cut: int) -> None:
    """Law 6: what was said up to an event follows from the events up to it; stepping never writes to the timeline it was given."""
    detector, again = Detector(POLICY), Detector(POLICY)
    t, u = new_timeline(ACCOUNT), new_timeline(ACCOUNT)
    said: list[list[Outcome]] = []
    for event in events:
        before = timelines.encode(t)
        new, out = detector.step(t, event)
        assert timelines.encode(t) == before
        t = new
        said.append(out)
    for event, expected in zip(events[:cut], said, strict=False):
        u, out = again.step(u, event)
        assert out == expected


@given(lives(disposed=True, snoozed=True))
@settings(deadline=None, max_examples=examples(150))
def test_findings_are_told_in_sequence(events: list[AccountEvent]) -> None:
    """Every finding is created once, numbered 1, 2, 3, ..., never goes back in time, and a closed one is open before."""
    _, said = lived(events)
    by_uid: dict[str, list[Finding]] = {}
    for outcome in said:
        if isinstance(outcome, Finding):
            by_uid.setdefault(outcome.uid, []).append(outcome)
    for told in by_uid.values():
        assert [f.sequence for f in told] == list(range(1, len(told) + 1))
        assert told[0].activity == "create"
        assert all(f.activity != "create" for f in told[1:])
        assert all(not (a.activity == b.activity == "close") for a, b in pairwise(told))
        assert all(f.events for f in told)


@given(lives(disposed=True, snoozed=True))
@settings(deadline=None, max_examples=examples(100))
def test_contributions_add_up_and_levels_hold(events: list[AccountEvent]) -> None:
    """The signed contributions add up to the log-odds of the probability, and the level follows from it."""
    from math import isclose, log

    _, said = lived(events)
    for o in said:
        if isinstance(o, Decision):
            assert 0 < o.probability < 1
            assert isclose(sum(r.contribution for r in o.reasons), log(o.probability / (1 - o.probability)), abs_tol=1e-6)
            expected = "alert" if o.probability >= 0.02 else "watch" if o.probability >= 0.001 else "clear"
            assert o.level == expected


@given(lives(disposed=True, snoozed=True))
@settings(deadline=None, max_examples=examples(100))
def test_holds_begin_and_end(events: list[AccountEvent]) -> None:
    """A hold names a finding that was told before it, and after the end of time none stands."""
    from pipeline.core.outcome import Hold, HoldEnded

    _, said = lived(events)
    standing: set[str] = set()
    told: set[str] = set()
    for o in said:
        if isinstance(o, Finding):
            told.add(o.uid)
        elif isinstance(o, Hold):
            assert o.finding_uid in told
            standing.add(o.otp_id)
        elif isinstance(o, HoldEnded):
            assert o.otp_id in standing
            standing.discard(o.otp_id)
    assert standing == set()


@given(lives(disposed=True, snoozed=True))
@settings(deadline=None, max_examples=examples(150))
def test_snoozes_change_what_is_heard_and_nothing_else(events: list[AccountEvent]) -> None:
    """Without the snoozes: the same decisions, and the same findings in the end, all of them heard."""
    snoozed, said = lived(events)
    plain, said_plain = lived([e for e in events if not isinstance(e, Snoozed)])
    assert final(said) == final(said_plain)
    assert known(snoozed) == known(plain)
    assert {s.otp_id: s.open for s in snoozed.settled} == {s.otp_id: s.open for s in plain.settled}
    assert not any(isinstance(o, Finding) and o.suppressed is not None for o in said_plain)


@given(lives(disposed=True, snoozed=True))
@settings(deadline=None, max_examples=examples(150))
def test_a_suppressed_finding_neither_holds_nor_keeps_another_from_paging(events: list[AccountEvent]) -> None:
    """After every event: no hold on a suppressed finding, and none that is heard names a suppressed one as the page of its incident."""
    detector = Detector(POLICY)
    t = new_timeline(ACCOUNT)
    for event in events:
        t, _ = detector.step(t, event)
        told = {x.finding.uid: x.finding for x in (*t.tracks, *t.settled) if x.open and x.finding is not None}
        for finding in told.values():
            if finding.suppressed is None and finding.part_of in told:
                assert told[finding.part_of].suppressed is None
        for track in t.tracks:
            assert track.hold_until is None or (track.finding is not None and track.finding.suppressed is None)


def test_what_becomes_of_another_code_after_the_end_of_this_one_is_nothing_it_is_assessed_by() -> None:
    """A millisecond after the last moment that concerns an entry, a code that had been left unused is used after all."""
    base = {"account_id": ACCOUNT}
    left = OtpDispatched(
        **base, event_id="e1", occurred_at=T0, arrived_at=T0, otp_id="o1", channel="sms", purpose="login", initiated_by="customer"
    )  # type: ignore[arg-type]
    login = LoggedIn(**base, event_id="e2", occurred_at=T0, arrived_at=T0, session_id="s1", outcome="passed", flow="login")  # type: ignore[arg-type]
    entry = OtpEntered(**base, event_id="e3", occurred_at=T0 + 1, arrived_at=T0 + 1, otp_id="o2", outcome="accepted")  # type: ignore[arg-type]
    after = T0 + 2 + 1000 * POLICY.windows.after_s
    used = OtpEntered(**base, event_id="e4", occurred_at=after, arrived_at=after, otp_id="o1", outcome="accepted")  # type: ignore[arg-type]
    orders: list[list[AccountEvent]] = [[left, login, entry, used], [left, entry, login, used], [entry, left, login, used]]
    said = [[o for o in lived(events)[1] if isinstance(o, Decision) and o.otp_id == "o2"][-1] for events in orders]
    assert [made.features["abandoned_codes"] for made in said] == [1, 1, 1]
    assert len({made.decision_id for made in said}) == 1
