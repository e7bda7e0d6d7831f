"""Is a surge of codes seen as what it is, whatever the order, twice, over restarts, and however many accounts there are?"""

from math import log1p

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import T0

from pipeline.core.baselines import Baselines, Codes
from pipeline.core.campaign import joined, short_name
from pipeline.core.events import AccountEvent, CampaignMark, CodesSurged, OtpDispatched, OtpEntered
from pipeline.core.gatherer import Gatherer, slot_of
from pipeline.core.outcome import Decision, Finding, Outcome, Sighting
from pipeline.core.partition import Partition
from pipeline.core.policy import Bounds, Campaigns, Policy, Thresholds, Windows, policy_from
from pipeline.core.surge import (
    LEAST_Z,
    NAMES,
    STRETCH_MS,
    Surge,
    around,
    counts,
    entity_of,
    estimated,
    forget,
    hear,
    level,
    stretch_of,
    usual_at,
)
from tests.core import town as town_
from tests.core.test_campaign_laws import shuffled
from tests.examples import examples

HOUR = 3_600_000
BEGIN = stretch_of(T0) + STRETCH_MS


def flat(usual: float, share: float = 1.0, spread: float = 0.1) -> Codes:
    """So many accounts at any hour."""
    return Codes(share, spread, ((usual,) * 24,) * 7)


QUIET = Policy(baselines=Baselines(codes=flat(1.0)), thresholds=Thresholds(watch=0.001, alert=0.02))
MANY = 40  # accounts of a town: as many in one stretch are 4 spreads above one


def names(n: int) -> tuple[str, ...]:
    return tuple(sorted(short_name(f"acct-{i}") for i in range(n)))


def mark(n: int, at: int = T0) -> tuple[CampaignMark, ...]:
    return (CampaignMark(stretch_of(at), names(n)[:NAMES]),)


# --- how many there were


def test_few_accounts_are_counted_and_many_are_known_to_six_percent() -> None:
    assert [estimated(names(n)) for n in (0, 1, 17, NAMES - 1)] == [0, 1, 17, NAMES - 1]
    errors = []
    for n in (300, 1_000, 3_000, 10_000, 40_000):
        for town in range(6):
            kept = sorted(short_name(f"{town}.{i}") for i in range(n))[:NAMES]
            errors.append(estimated(tuple(kept)) / n - 1)
    rms = (sum(e * e for e in errors) / len(errors)) ** 0.5
    assert 0.02 < rms < 0.09, "1 / sqrt(254) is 0.063"
    assert abs(sum(errors) / len(errors)) < 0.03, "and neither too many nor too few"


@given(st.lists(st.integers(0, 2_000), max_size=600), st.integers(0, 2_000))
def test_what_is_said_of_a_stretch_only_grows(accounts: list[int], one: int) -> None:
    some = tuple(sorted({short_name(f"acct-{n}") for n in accounts})[:NAMES])
    more = joined((CampaignMark(T0, some),), (CampaignMark(T0, (short_name(f"acct-{one}"),)),), NAMES)[0].accounts
    assert estimated(more) >= estimated(some)
    assert level((CampaignMark(T0, more),), flat(20)) >= level((CampaignMark(T0, some),), flat(20))


def test_a_level_is_the_spreads_above_the_usual_in_half_ones() -> None:
    usual = flat(100.0, spread=0.2)
    spread = (0.2**2 + 1 / 101) ** 0.5
    for n in (0, 50, 100, 130, 150, 200, 250):
        z = (log1p(n) - log1p(100)) / spread
        assert level(mark(n), usual) == (0.0 if z < LEAST_Z else z // 0.5 * 0.5), n
    assert level((), usual) == 0.0
    assert [level(mark(n), flat(0.0)) > 0.0 for n in range(4, 9)] == [False, False, False, True, True], "ln(1 + n) above 2"
    assert [level(mark(n), flat(0.0, share=0.01)) > 0.0 for n in range(1, 7)] == [False] * 4 + [True] * 2, "four counted are chance"
    assert level(mark(250), flat(1.0)) == pytest.approx(6.5, abs=0.5), "few are usual: chance has the greater part"
    assert level(mark(250), flat(0.0, share=0.01)) == 10.0, "no more than ten"


def test_a_sample_says_of_the_whole_what_the_sample_allows() -> None:
    """A tenth of 2,000 usual accounts: a doubling is as clear as the sample lets it be, a night of few is not."""
    day, night = flat(2_000.0, share=0.1), flat(20.0, share=0.1)
    twice = [f"acct-{n}" for n in range(4_000) if counts(f"acct-{n}", T0, day)]
    assert len(twice) == pytest.approx(400, abs=60)
    kept = tuple(sorted(short_name(who) for who in twice)[:NAMES])
    assert 3.5 <= level((CampaignMark(T0, kept),), day) <= 6.0
    assert level((CampaignMark(T0, kept[:4]),), night) == 0.0, "4 counted where 2 are usual"
    other = {f"acct-{n}" for n in range(4_000) if counts(f"acct-{n}", T0 + STRETCH_MS, day)}
    assert len(other & set(twice)) < 100, "in the next stretch other accounts are counted"


def test_the_usual_is_that_of_the_hour_of_the_week() -> None:
    week = tuple(tuple(float(100 * day + hour) for hour in range(24)) for day in range(7))
    codes = Codes(1.0, 0.1, week)
    assert usual_at(codes, 1_795_342_530_400) == 610.0, "2026-11-22, a Sunday, 10:15 UTC"
    assert usual_at(codes, 1_795_342_530_400 + 14 * HOUR) == 0.0, "Monday, 00:15"
    assert usual_at(codes, 0) == 300.0, "1970-01-01, a Thursday"


# --- what a partition knows


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([2.0, 2.5, 4.0, 10.0])), max_size=12),
    st.randoms(use_true_random=False),
)
def test_what_is_heard_in_any_order_and_twice_is_the_same(said: list[tuple[int, int, float]], random: st.DataObject) -> None:
    news = [CodesSurged(at=BEGIN + n * STRETCH_MS, arrived_at=BEGIN + n * STRETCH_MS + late, z=z) for n, late, z in said]
    again = [*news, *news]
    random.shuffle(again)  # type: ignore[attr-defined]  # hypothesis hands in a random.Random
    one: dict[int, Surge] = {}
    other: dict[int, Surge] = {}
    for table, told in ((one, news), (other, again)):
        for each in told:
            hear(table, each)
    assert one == other
    for n in range(7):
        most = max((z for k, _, z in said if k in (n, n - 1)), default=None)
        when = [e.arrived_at for e in news if e.z == most and e.at in (BEGIN + n * STRETCH_MS, BEGIN + (n - 1) * STRETCH_MS)]
        assert around(one, BEGIN + n * STRETCH_MS + 1) == (Surge(min(when), most) if most is not None else None)


def test_a_surge_is_remembered_while_a_code_of_it_may_be_open() -> None:
    table = {stretch_of(T0): Surge(T0, 3.0)}
    assert around(table, T0) == around(table, T0 + STRETCH_MS) == Surge(T0, 3.0)
    assert around(table, T0 + 2 * STRETCH_MS) is None
    assert around(table, T0 - STRETCH_MS) is None
    forget(table, T0 + QUIET.retain_ms, QUIET)
    assert table
    forget(table, T0 + QUIET.retain_ms + 4 * STRETCH_MS, QUIET)
    assert not table


def test_the_campaign_stage_keeps_no_more_names_than_it_counts_by() -> None:
    fold = Gatherer(QUIET)
    sent = [Sighting(entity=entity_of(T0), account_id=f"acct-{n}", occurred_at=T0 + n, arrived_at=T0 + n) for n in range(3 * NAMES)]
    news = [fold.fold(offset, sighting) for offset, sighting in enumerate(sent)]
    zs = [said.z for said in news if isinstance(said, CodesSurged)]
    assert zs == sorted(set(zs)), "said when it has grown, and then only"
    assert LEAST_Z <= zs[0] < zs[-1] == level(mark(3 * NAMES), flat(1.0))
    state = fold.encoded(slot_of(entity_of(T0)))
    assert state is not None
    assert 12 * NAMES < len(state) < 15 * NAMES
    again = Gatherer(QUIET)
    told = [again.fold(n, Sighting(entity=entity_of(T0), account_id="acct-1", occurred_at=T0, arrived_at=T0)) for n in range(100)]
    assert told == [None] * 100, "one account with a hundred codes is no surge"


# --- the whole loop: accounts, the campaign stage, and accounts again


def lived(events: list[AccountEvent], policy: Policy = QUIET, restart: bool = False) -> list[Outcome]:
    """In two partitions."""
    said, folds = town_.lived(events, policy, restart, partitions=2)
    assert not any(fold.detector.campaigns for fold in folds), "only surges are told"
    return said


def final(said: list[Outcome]) -> dict[tuple[str, str], tuple[object, ...]]:
    """The last decision on each code that was entered."""
    return {
        (o.account_id, o.otp_id): (o.level, o.stage, o.probability, o.features.get("code_surge_z"))
        for o in said
        if isinstance(o, Decision) and o.stage != "before_entry"
    }


@st.composite
def towns(draw: st.DrawFn) -> list[AccountEvent]:
    """Up to forty accounts that are sent a code within a quarter of an hour, most of which enter it, in order of arrival."""
    events: list[AccountEvent] = []
    for n in range(draw(st.integers(MANY // 2, MANY))):
        at = T0 + 1000 * draw(st.integers(0, 900))
        late = draw(st.sampled_from([0, 0, 300, 60_000, 1_700_000]))
        account = f"acct-{n}"
        base = {"event_id": f"{n}.d", "account_id": account, "occurred_at": at, "arrived_at": at + late}
        events.append(OtpDispatched(**base, otp_id="o", channel="sms", purpose="login", initiated_by="customer"))  # type: ignore[arg-type]
        if draw(st.sampled_from([True, True, False])):
            entered = at + 1000 * draw(st.integers(5, 200))
            base = {"event_id": f"{n}.e", "account_id": account, "occurred_at": entered, "arrived_at": entered + draw(st.integers(0, 2000))}
            events.append(OtpEntered(**base, otp_id="o", outcome="accepted"))  # type: ignore[arg-type]
    return sorted(events, key=lambda e: (e.arrived_at, e.event_id))


@given(towns(), st.lists(st.integers(0, 299_000), min_size=1, max_size=12))
@settings(deadline=None, max_examples=examples(40))
def test_order_free(events: list[AccountEvent], by: list[int]) -> None:
    """Law 1, over accounts and partitions: any delivery order within the slack ends in the same final assessments."""
    assert final(lived(events)) == final(lived(shuffled(events, by)))


@given(towns())
@settings(deadline=None, max_examples=examples(20))
def test_duplicate_free(events: list[AccountEvent]) -> None:
    """Law 2: everything delivered twice says the same."""
    assert lived(events) == lived([e for event in events for e in (event, event)])


@given(towns())
@settings(deadline=None, max_examples=examples(10))
def test_restart_free(events: list[AccountEvent]) -> None:
    """Law 3: the states of detect and of the campaign stage through bytes between every two records: the same outcomes."""
    assert lived(events) == lived(events, restart=True)


def town(seconds: int, accounts: int = MANY, begin: int = BEGIN) -> list[AccountEvent]:
    """So many accounts, each sent a code at its second and entering it ten later."""
    events: list[AccountEvent] = []
    for n in range(accounts):
        at = begin + n * 1000 * seconds
        base = {"account_id": f"acct-{n}", "occurred_at": at, "arrived_at": at + 100, "event_id": f"{n}.d"}
        events.append(OtpDispatched(**base, otp_id="o", channel="sms", purpose="login", initiated_by="customer"))  # type: ignore[arg-type]
        base |= {"occurred_at": at + 10_000, "arrived_at": at + 10_100, "event_id": f"{n}.e"}
        events.append(OtpEntered(**base, otp_id="o", outcome="accepted"))  # type: ignore[arg-type]
    return sorted(events, key=lambda e: (e.arrived_at, e.event_id))


def test_who_comes_late_in_a_surge_is_told_at_once_and_who_came_first_at_the_end() -> None:
    said = lived(town(7))
    by_account: dict[str, list[float]] = {}
    for o in said:
        if isinstance(o, Decision):
            by_account.setdefault(o.account_id, []).append(float(o.features["code_surge_z"]))
    assert by_account["acct-39"][0] >= 3.0
    assert by_account["acct-0"][0] == 0.0
    assert by_account["acct-0"][-1] == by_account["acct-39"][-1] >= 3.0, "the last word is of the whole stretch"
    calm = lived(town(120))
    assert {o.features["code_surge_z"] for o in calm if isinstance(o, Decision)} == {0.0}


def test_without_a_baseline_nothing_is_counted_and_nothing_told() -> None:
    bare = msgspec.structs.replace(QUIET, baselines=Baselines())
    said = lived(town(7), bare)
    assert not [o for o in said if isinstance(o, Sighting)]
    assert not [o for o in said if isinstance(o, Decision) and "code_surge_z" in o.features]
    tests = msgspec.structs.replace(QUIET, test_accounts=frozenset(f"acct-{n}" for n in range(MANY)))
    assert not [o for o in lived(town(7), tests) if isinstance(o, Sighting)], "test accounts are none of the bank's customers"


def test_an_alert_tells_of_the_surge_beside_what_is_usual() -> None:
    eager = msgspec.structs.replace(QUIET, thresholds=Thresholds(watch=1e-9, alert=1e-8))
    findings = [o for o in lived(town(7), eager) if isinstance(o, Finding) and o.account_id == "acct-39"]
    shown = findings[-1].data["code_surge_z"]
    assert isinstance(shown, dict)
    assert shown["usual_accounts"] == 1.0
    assert shown["value"] >= 3.0
    assert f"unusually many customers: {shown['value']:g} spreads above the usual 1 in five minutes." in findings[-1].story
    calm = [o for o in lived(town(120), eager) if isinstance(o, Finding)]
    assert calm[-1].data["code_surge_z"] == 0.0
    assert "unusually many" not in calm[-1].story


def test_where_the_hour_has_just_changed_no_usual_is_named() -> None:
    """The surge may be that of the five minutes before, of which another number is usual."""
    eager = msgspec.structs.replace(QUIET, thresholds=Thresholds(watch=1e-9, alert=1e-8))
    hour = (BEGIN // HOUR + 1) * HOUR
    said = lived(town(7, begin=hour - STRETCH_MS) + [later(e) for e in town(60, 1, hour + 1000)], eager)
    last = [o for o in said if isinstance(o, Finding) and o.account_id == "new"][-1]
    z = last.data["code_surge_z"]
    assert isinstance(z, float)
    assert z >= 3.0
    assert f"{z:g} spreads above the usual in five minutes." in last.story


def later(event: AccountEvent) -> AccountEvent:
    return msgspec.structs.replace(event, account_id="new", event_id="new" + event.event_id)


def test_while_a_surge_fades_nothing_is_decided_anew() -> None:
    """Of two stretches the greater one counts, and when that was known: what is added to the other is no news."""
    said = [o for o in lived(town(7) + town(20, 15, BEGIN + STRETCH_MS)) if isinstance(o, Decision)]
    seen: set[tuple[object, ...]] = set()
    for made in said:
        content = (made.account_id, made.otp_id, made.stage, made.level, tuple(sorted(made.features.items())), made.event_ids)
        assert content not in seen, made
        seen.add(content)


def test_where_nobody_tells_of_dispatches_it_is_missing_and_not_zero() -> None:
    said = lived([e for e in town(7) if isinstance(e, OtpEntered)])
    made = [o for o in said if isinstance(o, Decision)]
    assert len(made) == MANY
    assert all("code_surge_z" not in o.features for o in made)


def test_a_receipt_or_a_resend_counts_no_account_again() -> None:
    at, said = T0, []
    partition = Partition(QUIET)
    for n, status in enumerate(("sent", "delivered", "sent")):
        event = OtpDispatched(
            event_id=str(n), account_id="a", occurred_at=at + n, arrived_at=at + n, otp_id="o", channel="sms", purpose="login",
            initiated_by="customer", status=status,  # type: ignore[arg-type]
        )  # fmt: skip
        said += partition.fold(n, event)
    told = [(o.entity, o.account_id) for o in said if isinstance(o, Sighting)]
    assert told == [(entity_of(at), "a")] * 2, "the stage counts the name once"


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ({"share": 0.0, "spread": 0.2, "accounts": [[1.0] * 24] * 7}, "share"),
        ({"share": 1.0, "spread": 0.01, "accounts": [[1.0] * 24] * 7}, "spread"),
        ({"share": 1.0, "spread": 0.2, "accounts": [[1.0] * 24] * 6}, "accounts"),
        ({"share": 1.0, "spread": 0.2, "accounts": [[1.0] * 23] * 7}, "accounts"),
        ({"share": 1.0, "spread": 0.2, "accounts": [[-1.0] * 24] * 7}, "accounts"),
        ({"share": 1.0, "spread": 0.2}, "missing required field `accounts`"),
    ],
)
def test_what_is_no_baseline_of_codes_is_refused(codes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        policy_from({"baselines": {"codes": codes}})


def test_a_code_stays_open_for_longer_than_its_stretch() -> None:
    for short in (Bounds(slack_s=299), None):
        with pytest.raises(ValueError, match=r"baselines\.codes needs bounds\.slack_s and windows\.after_s of 300 s"):
            Policy(
                baselines=QUIET.baselines,
                bounds=short or Bounds(),
                windows=Windows() if short else Windows(after_s=200),
                campaigns=Campaigns(step_s=100),
            )
