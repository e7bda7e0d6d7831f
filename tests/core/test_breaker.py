"""Is a flood of the detector's own alerts capped, without hiding the strongest, and the same however the partition is carried?"""

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.breaker import Breaker, Raised
from pipeline.core.events import AnyEvent, Beat, LoggedIn, Mark, OtpDispatched, OtpEntered
from pipeline.core.outcome import Decision, Finding, Hold, Outcome
from pipeline.core.partition import Partition
from pipeline.core.policy import Flood, Policy, Thresholds
from pipeline.core.timeline import decode, encode, read_marks
from tests.examples import examples

T0 = 1_790_000_000_000
WINDOW_S = 600
POLICY = Policy(thresholds=Thresholds(watch=0.00005, alert=0.0001), flood=Flood(findings=5, window_s=WINDOW_S, per_account=2))


def beat(at: int) -> Beat:
    return Beat(arrived_at=at, marks={"logins/0": Mark(at, at)}, partitions={"logins": 1})


def code(number: int, at: int, purpose: str = "login", hosting: bool = False, account: str | None = None) -> list[AnyEvent]:
    """A login and its code; the purpose and the network set how suspicious it is."""
    account = account or f"acct-{number}"
    base = {"account_id": account, "occurred_at": at, "arrived_at": at}
    session = f"s-{number}"
    login = LoggedIn(
        event_id=f"l{number}", session_id=session, outcome="passed", flow="login", asn_kind="hosting" if hosting else None, **base
    )
    sent = OtpDispatched(
        event_id=f"d{number}", otp_id=f"o{number}", session_id=session, channel="sms", purpose=purpose, initiated_by="customer", **base
    )  # type: ignore[arg-type]
    return [login, sent]


def crowd(count: int, every_ms: int = 10_000, strong: int | None = None) -> list[AnyEvent]:
    """Weak findings in a row, a beat before each; the one numbered ``strong`` is more probable than all others."""
    events: list[AnyEvent] = []
    for n in range(count):
        at = T0 + n * every_ms
        events += [beat(at), *code(n, at, "password_reset", hosting=n == strong)]
    return events


def folded(events: list[AnyEvent], policy: Policy = POLICY) -> tuple[list[tuple[int, Outcome]], Partition]:
    partition = Partition(policy)
    return [(offset, o) for offset, event in enumerate(events) for o in partition.fold(offset, event)], partition


def created(said: list[tuple[int, Outcome]]) -> list[Finding]:
    return [o for _, o in said if isinstance(o, Finding) and o.activity == "create"]


def test_what_comes_beyond_the_bound_is_written_and_not_heard() -> None:
    said, partition = folded(crowd(12))
    findings = created(said)
    assert len(findings) == 12, "each is written"
    assert [f.suppressed is None for f in findings] == [True] * 5 + [False] * 7
    assert {f.suppressed.cause for f in findings if f.suppressed} == {"flood"}
    held = {o.otp_id for _, o in said if isinstance(o, Hold)}
    assert held == {f.otp_id for f in findings if f.suppressed is None}
    assert partition.flooded


def test_a_flood_of_weak_findings_does_not_hide_a_stronger_one() -> None:
    said, _ = folded(crowd(30, strong=25))
    by_otp = {f.otp_id: f for f in created(said)}
    assert by_otp["o24"].suppressed is not None
    assert by_otp["o25"].suppressed is None
    assert by_otp["o25"].probability > by_otp["o24"].probability
    assert any(isinstance(o, Hold) and o.otp_id == "o25" for _, o in said)


def test_it_closes_by_itself_when_the_window_has_passed() -> None:
    events = crowd(12)
    later = T0 + 11 * 10_000 + 1000 * WINDOW_S + 1
    said, partition = folded([*events, beat(later), *code(99, later, "password_reset")])
    assert not partition.flooded
    assert created(said)[-1].otp_id == "o99"
    assert created(said)[-1].suppressed is None


def test_no_single_account_makes_a_flood() -> None:
    events: list[AnyEvent] = []
    for n in range(12):
        at = T0 + n * 10_000
        events += [beat(at), *code(n, at, "password_reset", account="acct-loud")]
    said, partition = folded(events)
    assert len(created(said)) == 12
    assert not partition.flooded
    assert all(f.suppressed is None for f in created(said))


def test_a_silenced_finding_whose_evidence_grows_is_heard() -> None:
    events = crowd(12)
    at = T0 + 120_000
    entered = OtpEntered(
        event_id="e11", account_id="acct-11", occurred_at=at, arrived_at=at, otp_id="o11", session_id="s-11", outcome="accepted",
        method="typed", ip="203.0.113.9", device_id="d-1",
    )  # fmt: skip
    said, _ = folded([*events, beat(at), entered])
    told = [o for _, o in said if isinstance(o, Finding) and o.otp_id == "o11"]
    assert told[0].suppressed is not None
    assert told[-1].probability > told[0].probability
    assert told[-1].suppressed is None


def test_a_finding_that_was_heard_is_not_silenced_later() -> None:
    events = crowd(12)
    at = T0 + 120_000
    entered = OtpEntered(
        event_id="e0", account_id="acct-0", occurred_at=at, arrived_at=at, otp_id="o0", session_id="s-0", outcome="accepted"
    )
    said, partition = folded([*events, beat(at), entered])
    assert partition.flooded
    assert all(o.suppressed is None for _, o in said if isinstance(o, Finding) and o.otp_id == "o0")


def test_decisions_know_nothing_of_a_flood() -> None:
    events = crowd(30, strong=25)
    decisions = [o for _, o in folded(events)[0] if isinstance(o, Decision)]
    calm = msgspec.structs.replace(POLICY, flood=Flood(findings=1000))
    others = [o for _, o in folded(events, calm)[0] if isinstance(o, Decision)]
    assert [(d.otp_id, d.level, d.probability) for d in decisions] == [(d.otp_id, d.level, d.probability) for d in others]


def restored(kept: dict[str, bytes], clock: bytes) -> Partition:
    partition = Partition(POLICY, cached=1)
    for account, state in kept.items():
        partition.restore(account, state)
    if clock:
        partition.restore_clock(clock)
    return partition


@given(st.integers(0, 2**32), st.integers(1, 9), st.booleans())
@settings(deadline=None, max_examples=examples(40))
def test_a_restart_or_a_crash_before_the_clock_is_durable_changes_nothing(seed: int, most: int, crash: bool) -> None:
    """The accounts of a batch are durable, all or some of them; its clock is or is not; what is delivered again says what it said."""
    random = Random(seed)
    events = crowd(25, every_ms=random.choice((10_000, 60_000, 200_000)), strong=random.choice((None, 13, 20)))
    whole, _ = folded(events)
    kept: dict[str, bytes] = {}
    clock, at = b"", 0
    said: list[tuple[int, Outcome]] = []
    while at < len(events):
        batch = list(enumerate(events))[at : at + random.randint(1, most)]
        partition = restored(kept, clock)
        spoken = [(offset, o) for offset, event in batch for o in partition.fold(offset, event)]
        if crash:  # some of the accounts are durable, the clock is not
            changes = partition.changes()
            durable = {account: state for account, state in changes.items() if random.random() < 0.5}
            kept |= durable
            partition = restored(kept, clock)
            again = [(offset, o) for offset, event in batch for o in partition.fold(offset, event)]
            assert again == [(offset, o) for offset, o in spoken if o.account_id not in durable]
        said += spoken
        kept |= partition.changes()
        clock = partition.clock()
        at += len(batch)
    assert said == whole


def test_what_an_account_raised_is_read_without_unpacking() -> None:
    _, partition = folded(crowd(3))
    for account in partition.accounts():
        state = partition.encoded(account)
        timeline = partition.timeline(account)
        assert state is not None
        assert timeline is not None
        assert read_marks(state).raised == timeline.raised != ()
        assert decode(state) == timeline
        quiet = msgspec.structs.replace(timeline, raised=())
        assert read_marks(encode(quiet)).raised == ()


def test_what_is_taken_back_does_not_count() -> None:
    _, partition = folded(crowd(5))
    events = [beat(T0 + 60_000), *code(5, T0 + 60_000, "password_reset")]
    offset = 3 * 5
    for event in events:
        partition.fold(offset, event)
        offset += 1
    partition.undo("acct-5")
    partition.fold(offset, beat(T0 + 61_000))
    assert partition.flooded, "five are left"
    _, partition = folded(crowd(4))
    partition.fold(12, beat(T0 + 60_000))
    for n, event in enumerate(code(5, T0 + 60_000, "password_reset")):
        partition.fold(13 + n, event)
    partition.undo("acct-5")
    partition.fold(15, beat(T0 + 61_000))
    assert not partition.flooded, "the fifth was taken back"


raised = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.sampled_from([0.1, 0.5, 0.9])), max_size=6).map(
    lambda found: tuple(Raised(o, T0 + 60_000 * at, p) for o, at, p in sorted(found))
)


@given(st.lists(st.tuples(st.sampled_from("abc"), raised), max_size=12), st.integers(0, 45), st.integers(0, 35))
@settings(deadline=None, max_examples=examples(300))
def test_the_window_is_what_the_accounts_say_and_nothing_else(told: list[tuple[str, tuple[Raised, ...]]], offset: int, minute: int) -> None:
    """Whatever was said before: the last word of each account counts, as far as it is of earlier records and within the window."""
    breaker = Breaker(Flood(findings=3, window_s=WINDOW_S))
    last: dict[str, tuple[Raised, ...]] = {}
    for account, found in told:
        found = tuple(dict.fromkeys(found))  # noqa: PLW2901
        breaker.note(account, found)
        last[account] = found
    breaker.offset, breaker.at = offset, T0 + 60_000 * minute
    counts = [r for found in last.values() for r in found if r.offset < offset and r.at > breaker.at - 1000 * WINDOW_S]
    assert breaker.is_open == (len(counts) >= 3)
    for probability in (0.05, 0.1, 0.5, 0.9, 0.95):
        assert breaker.passes(probability) == (len(counts) < 3 or sum(r.probability >= probability for r in counts) < 3)
