"""Is an entry held beside the channel and a browser beside all logins only where the policy has a baseline, and in bounds?"""

import tomllib
from math import log1p
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ACCOUNT, T0, lives

from pipeline.commands.inspect import toml_lines
from pipeline.core.baselines import LEAST_SHARE, MOST_AGENTS, MOST_Z, Baselines, EntryLatency, channel_z, rarity
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.events import AccountEvent
from pipeline.core.outcome import Decision, Example, Finding, Outcome
from pipeline.core.policy import Learning, Policy, Thresholds, policy_from
from pipeline.wire.canonical import user_agent_digest
from tests.examples import examples
from tests.stories import Run, findings, play, stories

OURS = frozenset(("entry_latency_channel_z", "user_agent_rarity"))
SMS = EntryLatency(median_s=12.0, spread=0.5)
COMMON, RARE = user_agent_digest("the customer's browser"), user_agent_digest("a browser of few")
TABLE: dict[str, Any] = {
    "entry_latency": {"sms": {"median_s": 12.0, "spread": 0.5}},
    "user_agent_floor": 0.0001,
    "user_agents": {COMMON: 0.5, RARE: 0.001},
}


def told(name: str, **baselines: Any) -> tuple[Run, Policy]:
    """A story of tests/scenarios under a policy with these baselines."""
    story = next(s for s in stories() if s.name == name)
    story = msgspec.structs.replace(story, policy={**story.policy, "baselines": baselines} if baselines else story.policy)
    return play(story), story.rules


def decisions(run: Run, otp_id: str = "otp-1") -> list[Decision]:
    return [o for _, o in run.said if isinstance(o, Decision) and o.otp_id == otp_id]


def test_without_a_baseline_they_are_missing() -> None:
    assert channel_z(Baselines(), "sms", 12.0) is None
    assert rarity(Baselines(), COMMON) is None
    run, _ = told("fraud/r01_hits_stranger_on_the_line")
    assert decisions(run)
    assert all(OURS.isdisjoint(made.features) for made in decisions(run))


def test_one_table_alone_gives_one_feature() -> None:
    assert channel_z(Baselines(entry_latency={"sms": SMS}), "voice", 12.0) is None, "another channel"
    run, _ = told("fraud/r01_hits_stranger_on_the_line", entry_latency=TABLE["entry_latency"])
    assert decisions(run)[-1].features.keys() & OURS == {"entry_latency_channel_z"}
    run, _ = told("fraud/r01_hits_stranger_on_the_line", user_agent_floor=0.0001, user_agents={RARE: 0.001})
    assert decisions(run)[-1].features.keys() & OURS == {"user_agent_rarity"}


def test_an_episode_is_held_beside_both() -> None:
    run, _ = told("fraud/r01_hits_stranger_on_the_line", **TABLE)
    features = decisions(run)[-1].features
    assert features["entry_latency_channel_z"] == pytest.approx((log1p(54) - log1p(12)) / 0.5, abs=1e-6), "sent at 1 s, entered at 55 s"
    assert features["user_agent_rarity"] == 4.0, "the attacker's browser is not listed"
    before = [made.features for made in decisions(run) if made.stage == "before_entry"]
    assert all("entry_latency_channel_z" not in f for f in before)
    assert all(f["user_agent_rarity"] == 4.0 for f in before)
    bystander = decisions(run, "otp-9")[-1].features
    assert bystander["user_agent_rarity"] == pytest.approx(0.30103)
    assert bystander["entry_latency_channel_z"] == pytest.approx((log1p(11) - log1p(12)) / 0.5, abs=1e-6)


def test_the_channel_is_that_of_the_code_that_was_entered() -> None:
    """Sent by text first and read out by voice later: the entry is measured from the call, and beside calls."""
    story = next(s for s in stories() if s.name == "fraud/r01_hits_stranger_on_the_line")
    again = {"at": 35, "topic": "otp-dispatches", "channel": "voice"}
    policy = {"baselines": {"entry_latency": {"voice": {"median_s": 30.0, "spread": 0.3}}}}
    run = play(msgspec.structs.replace(story, records=(*story.records, again), policy=policy))
    features = decisions(run)[-1].features
    assert features["channel"] == "sms"
    assert features["entry_latency_s"] == 20.0
    assert features["entry_latency_channel_z"] == pytest.approx((log1p(20) - log1p(30)) / 0.3, abs=1e-6)


@given(st.floats(0.001, 86_400), st.floats(0.1, 5), st.floats(0, 1e7), st.floats(0, 1e7))
def test_slow_is_above_zero_and_fast_below_within_bounds(median_s: float, spread: float, one: float, other: float) -> None:
    baselines = Baselines(entry_latency={"sms": EntryLatency(median_s, spread)})
    z = [channel_z(baselines, "sms", s) for s in sorted((one, other))]
    assert z[0] is not None
    assert z[1] is not None
    assert -MOST_Z <= z[0] <= z[1] <= MOST_Z
    for s, found in zip(sorted((one, other)), z, strict=True):
        assert found <= 0 if s <= median_s else found >= 0
    assert channel_z(baselines, "sms", median_s) == 0.0


shares = st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True), st.floats(LEAST_SHARE, 1.0 / 40), min_size=1, max_size=40)


@given(shares, st.floats(0, 1))
def test_the_rarer_the_higher_within_bounds(listed: dict[str, float], part: float) -> None:
    floor = max(LEAST_SHARE, part * min(listed.values()))
    baselines = Baselines(user_agent_floor=floor, user_agents=listed)
    found = {agent: rarity(baselines, agent) for agent in listed}
    unknown = rarity(baselines, "not listed")
    assert unknown is not None
    for agent, one in found.items():
        assert one is not None
        assert 0.0 <= one <= unknown <= 7.0
        assert all(one <= other for a, other in found.items() if other is not None and listed[a] < listed[agent])
    assert str(rarity(Baselines(user_agent_floor=0.5, user_agents={COMMON: 1.0}), COMMON)) == "0.0", "and not minus nothing"


@pytest.mark.parametrize(
    ("baselines", "why"),
    [
        ({"user_agents": {COMMON: 0.5}}, r"go together - at `\$\.baselines`"),
        ({"user_agent_floor": 0.5}, "go together"),
        ({"user_agent_floor": 0.2, "user_agents": {COMMON: 0.5, RARE: 0.1}}, "a share lies below baselines.user_agent_floor"),
        ({"user_agent_floor": 0.2, "user_agents": {COMMON: 0.6, RARE: 0.5}}, "come to more than 1"),
        ({"user_agent_floor": 0.2, "user_agents": {COMMON: 1.5}}, r"<= 1\.0"),
        ({"user_agent_floor": 0.2, "user_agents": {COMMON: float("nan")}}, "user_agents"),
        ({"user_agent_floor": 0.0, "user_agents": {COMMON: 0.5}}, r"1e-07 - at `\$\.baselines\.user_agent_floor`"),
        ({"user_agent_floor": 0.2, "user_agents": {"Mozilla/5.0 (X11; Linux)": 0.5}}, "at `key` in"),
        ({"user_agent_floor": 1e-5, "user_agents": {f"{n:011}": 1e-4 for n in range(MOST_AGENTS + 1)}}, "of length <= 500"),
        ({"entry_latency": {"fax": {"median_s": 12.0, "spread": 0.5}}}, "fax"),
        ({"entry_latency": {"sms": {"median_s": 0.0, "spread": 0.5}}}, "median_s"),
        ({"entry_latency": {"sms": {"median_s": float("inf"), "spread": 0.5}}}, "median_s"),
        ({"entry_latency": {"sms": {"median_s": 12.0, "spread": 0.01}}}, r"spread"),
        ({"entry_latency": {"sms": {"median_s": 12.0}}}, "missing required field `spread`"),
        ({"entry_latency": {"sms": {"median_s": 12.0, "spread": 0.5, "mean": 1}}}, "unknown field `mean`"),
        ({"speed": 1}, "unknown field `speed`"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(baselines: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        policy_from({"baselines": baselines})
    assert "Mozilla" not in str(refused.value), "a message never holds a user agent"


def test_a_policy_with_none_is_the_policy_it_was() -> None:
    without = msgspec.to_builtins(Policy(), order="deterministic")
    without.pop("baselines")
    assert Policy().id == policy_from({"baselines": {}}).id == policy_from({"baselines": {"user_agents": {}}}).id
    assert policy_from(without).id == Policy().id
    assert policy_from({"baselines": TABLE}).id not in (Policy().id, policy_from({"baselines": {**TABLE, "entry_latency": {}}}).id)
    assert policy_from({"budget": {"alerts_per_day": 5}}).id != Policy().id


def test_what_policy_show_prints_is_read_again() -> None:
    for policy in (Policy(), policy_from({"baselines": TABLE})):
        lines = toml_lines(msgspec.to_builtins(policy, order="deterministic"))
        assert policy_from(tomllib.loads("\n".join(lines))) == policy


LOW = Policy(thresholds=Thresholds(watch=0.001, alert=0.02), learning=Learning(negatives=1.0, trust=1.0, control=0.5))
WITH = msgspec.structs.replace(
    LOW,
    baselines=Baselines({"sms": SMS, "voice": EntryLatency(30.0, 0.3)}, 0.001, {"ua1________": 0.9}),
)


def lived(events: list[AccountEvent], policy: Policy) -> list[Outcome]:
    detector, t, said = Detector(policy), new_timeline(ACCOUNT), []
    for event in events:
        t, out = detector.step(t, event)
        said += out
    return said + detector.fire(t, T0 + 20 * 86_400_000)[1]


def bare(outcome: Outcome) -> object:
    """An outcome without what baselines may add to it."""
    if isinstance(outcome, Decision):
        left = {name: value for name, value in outcome.features.items() if name not in OURS}
        return msgspec.structs.replace(outcome, decision_id="", policy_id="", features=left)
    if isinstance(outcome, Example):
        left = {name: value for name, value in outcome.features.items() if name not in OURS}
        return msgspec.structs.replace(outcome, example_id="", features=left)
    if isinstance(outcome, Finding):
        return msgspec.structs.replace(outcome, policy_id="", story="", data={})
    return outcome


@given(lives(disposed=True))
@settings(deadline=None, max_examples=examples(150))
def test_a_baseline_adds_features_and_changes_nothing_else(events: list[AccountEvent]) -> None:
    """Nothing weighs them: level, probability, reasons, findings and what is taught are those of the policy without them."""
    without, beside = lived(events, LOW), lived(events, WITH)
    assert [bare(o) for o in beside] == [bare(o) for o in without]
    for made in (o for o in without if isinstance(o, Decision)):
        assert OURS.isdisjoint(made.features)
    for made in (o for o in beside if isinstance(o, Decision)):
        latency = made.features.get("entry_latency_s")
        assert latency is not None or "entry_latency_channel_z" not in made.features


def test_an_alert_shows_what_is_usual_on_the_channel_beside_the_customers_own() -> None:
    run, _ = told("fraud/r01_hits_stranger_on_the_line", **TABLE)
    finding = findings([o for _, o in run.said], "otp-1")[-1]
    shown = finding.data["entry_latency_s"]
    assert isinstance(shown, dict)
    assert (shown["value"], shown["usual"], shown["usual_on_channel"]) == (54.0, 12.0, 12.0)
    assert "The customer usually enters a code after 12 s" in finding.story
    assert "Customers usually" not in finding.story, "who has a usual of their own is held beside it"


def test_of_a_customer_of_whom_too_little_is_known_the_channels_usual_is_told() -> None:
    story = next(s for s in stories() if s.name == "fraud/r01_hits_stranger_on_the_line")
    new = msgspec.structs.replace(story, history=None, policy={"baselines": TABLE, "thresholds": {"watch": 0.001, "alert": 0.002}})
    finding = findings([o for _, o in play(new).said], "otp-1")[-1]
    assert finding.data["entry_latency_s"] == {"value": 54.0, "usual_on_channel": 12.0}
    assert "Customers usually enter a code sent this way after 12 s." in finding.story
    unknown = msgspec.structs.replace(new, policy={"thresholds": {"watch": 0.001, "alert": 0.002}})
    finding = findings([o for _, o in play(unknown).said], "otp-1")[-1]
    assert finding.data["entry_latency_s"] == 54.0
    assert "usually" not in finding.story
