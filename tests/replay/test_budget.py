"""Does the threshold that is proposed keep to the budget, and is it the lowest that does? And does it say what it rests on?"""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.__main__ import main
from pipeline.core.decision import finding_uid
from pipeline.core.episode import named
from pipeline.core.policy import Budget, Policy, policy_from
from pipeline.replay.budget import STEP, NoThreshold, Past, Proposal, policy_text, propose
from pipeline.wire.log import LogRecord, encode_line

DAY_MS = 86_400_000
T0 = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1000)


def decision(day: int, number: int, probability: float, incident: str = "", second: int = 0) -> bytes:
    value = {
        "account_id": f"acct-{number}",
        "otp_id": f"otp-{day}-{number}",
        "incident_id": incident or f"i-{day}-{number}",
        "time": T0 + day * DAY_MS + number * 1000 + second * 1000,
        "probability": probability,
        "policy_id": "p_1",
        "model_id": "m_1",
    }
    return json.dumps(value).encode()


def past(*days: list[float]) -> Past:
    """Incidents of each day, by their highest probability."""
    found = Past()
    for day, peaks in enumerate(days):
        for number, peak in enumerate(peaks):
            found.decision(decision(day, number, peak / 2))
            found.decision(decision(day, number, peak, second=1))
    return found


def disposition(number: int, verdict: str, at: str = "2026-03-09T10:00:00Z", **about: str) -> bytes:
    value = {"event_id": f"ev-{at}", "occurred_at": at, "account_id": f"acct-{number}", "verdict": verdict, "source": "analyst", **about}
    return json.dumps(value).encode()


def test_it_is_chosen_on_the_first_days_and_shown_on_the_next() -> None:
    found = propose(past([0.9, 0.8, 0.7], [0.95, 0.6], [0.99, 0.85, 0.75, 0.65]), Policy(), 2)
    assert found.threshold == pytest.approx(0.7 + STEP)
    assert (len(found.chosen_on), len(found.shown_on)) == (2, 1)
    assert found.chosen.per_day == (2, 1)
    assert found.shown.per_day == (3,), "the next day did not keep to it, and that is said"
    assert found.chosen_now.per_day == (3, 2)


peaks = st.lists(st.integers(60_000, 999_990).map(lambda n: n / 1e6), max_size=8)


@given(st.lists(peaks, min_size=2, max_size=5).filter(all), st.integers(1, 4), st.sampled_from([0.5, 1.0]))
def test_no_lower_threshold_keeps_to_the_budget(days: list[list[float]], budget: int, met: float) -> None:
    policy = Policy()
    found = propose(past(*days), policy, budget, met=met)

    def kept(threshold: float) -> bool:
        over = sum(sum(p >= threshold for p in day) > budget for day in days[: len(found.chosen_on)])
        return over <= len(found.chosen_on) * (1 - met) + 1e-9

    assert kept(found.threshold)
    assert found.threshold > policy.thresholds.watch
    assert found.threshold <= policy.thresholds.watch + 2 * STEP or not kept(found.threshold - 2 * STEP)


def test_several_codes_of_an_incident_are_one_alert() -> None:
    found = Past()
    for number in range(5):
        found.decision(decision(0, number, 0.9, incident="i-same"))
        found.decision(decision(1, number, 0.9))
    proposal = propose(found, Policy(), 1, chosen_days=1)
    assert proposal.chosen.per_day == (1,)
    assert proposal.shown.per_day == (5,)


def test_where_too_many_are_as_good_as_certain_no_threshold_is_proposed() -> None:
    with pytest.raises(NoThreshold, match="as good as certain"):
        propose(past([1.0, 1.0, 1.0], [0.5]), Policy(), 1)


@pytest.mark.parametrize(("days", "chosen"), [([[0.5]], None), ([[0.5], [0.5]], 2), ([], None)])
def test_days_to_show_it_on_are_needed(days: list[list[float]], chosen: int | None) -> None:
    with pytest.raises(NoThreshold, match="day"):
        propose(past(*days), Policy(), 1, chosen_days=chosen)


def test_what_is_known_is_counted_whatever_a_disposition_names() -> None:
    found = past([0.9, 0.8, 0.7, 0.3], [0.2])
    found.incidents["i-0-2"].challenges.add(("acct-2", "otp-other"))
    found.disposition(disposition(0, "false_positive", otp_id="otp-0-0"))
    found.disposition(disposition(0, "true_positive", at="2026-03-10T10:00:00Z", otp_id="otp-0-0"))
    found.disposition(disposition(1, "false_positive", finding_uid=finding_uid("acct-1", "otp-0-1")))
    session = named("i_", "acct-9", "session", "s-9")
    found.decision(decision(0, 9, 0.6, incident=session))
    found.disposition(disposition(9, "true_positive", session_id="s-9"))
    found.disposition(disposition(3, "true_positive", otp_id="otp-0-3"))
    found.disposition(disposition(2, "suspicious", otp_id="otp-0-2"))
    found.disposition(b"no record")
    found.know()
    proposal = propose(found, Policy(), 4, chosen_days=1)
    assert proposal.chosen.per_day == (4,)
    assert (proposal.chosen.caught, proposal.chosen.frauds, proposal.chosen.false_alarms) == (2, 3, 1)


def test_the_proposal_is_a_policy_with_its_evidence(tmp_path: Path) -> None:
    found = propose(past([0.9, 0.8], [0.9, 0.7]), Policy(), 1)
    text = policy_text(found)
    assert "Nothing is in force" in text
    assert "shown on" in text
    made = policy_from(tomllib.loads(text))
    assert made.thresholds.alert == found.threshold
    assert made.budget.alerts_per_day == 1


def test_several_models_are_pointed_out() -> None:
    found = past([0.9], [0.8])
    found.models.add("m_2")
    assert "several models" in policy_text(propose(found, Policy(), 1))


def proposal_of(output: str) -> float:
    return float(output.split("threshold", maxsplit=1)[1].split(maxsplit=1)[0])


def test_the_command_reads_replays_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "replayed"
    folder.mkdir()
    values = [decision(day, n, p) for day, peaks in enumerate([[0.9, 0.8], [0.7, 0.6], [0.95, 0.85]]) for n, p in enumerate(peaks)]
    lines = [encode_line(LogRecord("decisions", 0, n, T0, b"k", value)) for n, value in enumerate(values)]
    (folder / "decisions.jsonl").write_bytes(b"".join(lines))
    known = encode_line(LogRecord("dispositions", 0, 0, T0, b"k", disposition(0, "true_positive", otp_id="otp-2-0")))
    (tmp_path / "dispositions.jsonl").write_bytes(known)
    runner = CliRunner()
    env = {"OFFHOOK_POLICY_FILE": None}
    out = tmp_path / "proposed" / "policy.toml"
    said = runner.invoke(
        main,
        ["budget", str(folder), "--alerts-per-day", "1", "--dispositions", str(tmp_path / "dispositions.jsonl"), "--out", str(out)],
        env=env,
    )
    assert said.exit_code == 0, said.output
    assert proposal_of(said.output) == pytest.approx(0.800001)
    assert "1 of 1 frauds" in said.output
    assert policy_from(tomllib.loads(out.read_text())).thresholds.alert == pytest.approx(0.800001)
    assert sorted(p.name for p in folder.iterdir()) == ["decisions.jsonl"]
    said = runner.invoke(main, ["budget", str(folder)], env=env)
    assert said.exit_code == 2
    assert "states no budget" in said.output
    (tmp_path / "with.toml").write_text("[budget]\nalerts_per_day = 1\n")
    said = runner.invoke(main, ["budget", str(folder), "--policy", str(tmp_path / "with.toml")], env=env)
    assert proposal_of(said.output) == pytest.approx(0.800001)
    said = runner.invoke(main, ["budget", str(tmp_path), "--alerts-per-day", "1"], env=env)
    assert said.exit_code == 2
    assert "folder of a replay" in said.output


def test_a_budget_alone_changes_no_decision() -> None:
    assert Policy(budget=Budget(5)).thresholds == Policy().thresholds
    assert isinstance(propose(past([0.9], [0.8]), Policy(budget=Budget(5)), 5), Proposal)
