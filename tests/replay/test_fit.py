"""Do fitted weights follow the labels, stay near the hand where nothing is known, and make a policy that loads?"""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.__main__ import main
from pipeline.core.model import BY_HAND, WEIGHTS
from pipeline.core.policy import Thresholds, policy_from
from pipeline.core.weights import FITTED as IN_FORCE
from pipeline.replay.fit import FIXED, KEEP, LEAST, NAMES, Seen, TooFew, fitted, policy_text
from pipeline.simulate.run import simulate

FITTED = Path(__file__).parents[2] / "deploy" / "fitted.toml"
QUIET = tuple(0.0 for _ in NAMES)


def row(*names: str) -> tuple[float, ...]:
    assert set(names) <= set(NAMES)
    return tuple(float(name in names) for name in NAMES)


def log(takeovers: int = 60) -> list[Seen]:
    """Attacks come from new devices in new networks; so does one honest code in a hundred, and autofill never is an attack."""
    attack = row("new_device", "new_network", "code_typed")
    honest = [row("known_device", "known_network", "autofill_on_known_device"), row("known_device", "new_network", "code_typed")]
    traveller = row("new_device", "new_network")
    return [
        *(Seen("takeover", "V1", (QUIET, attack)) for _ in range(takeovers)),
        *(Seen("benign", "plain", (traveller if n % 100 == 0 else honest[n % 2],)) for n in range(4000)),
    ]


def test_the_weights_are_where_pull_and_prior_balance() -> None:
    seen, sigma = log(), 1.0
    found = fitted([seen], 1e-3, sigma, BY_HAND)
    w = np.array([found.weights.get(name, BY_HAND[name]) for name in NAMES])
    rows = [(s, np.array(r)) for s in seen for r in s.rows]
    x = np.array([r for _, r in rows])
    y = np.array([s.label == "takeover" for s, _ in rows])
    share = np.array([1 / len(s.rows) if s.label == "takeover" else 1.0 for s, _ in rows])
    low, high = -40.0, 20.0
    for _ in range(200):  # the base rate that makes the expected attacks the counted ones
        base = (low + high) / 2
        p = 1 / (1 + np.exp(-(base + x @ w)))
        low, high = (base, high) if share @ (p - y) < 0 else (low, base)
    pull = x.T @ (share * (y - p))
    away = w - np.array([BY_HAND[name] for name in NAMES])
    kept = {name for name in NAMES if abs(found.weights.get(name, np.inf) - KEEP * BY_HAND[name]) < 1e-3}
    held = [i for i, name in enumerate(NAMES) if name not in FIXED and name in kept]
    free = [i for i, name in enumerate(NAMES) if name not in FIXED and name not in kept]
    assert all((pull[i] - away[i]) * BY_HAND[NAMES[i]] <= 0.02 for i in held), "it would have to give up what is kept to go on"
    assert np.allclose(pull[free], away[free] / sigma**2, atol=0.02), "rounding to three places moves the pull by less"
    assert found.weights["new_device"] != pytest.approx(BY_HAND["new_device"], abs=0.05), "and something moved"


def test_what_the_log_does_not_speak_of_stays_as_it_was() -> None:
    found = fitted([log()], 1e-3, 1.0)
    for name in ("sim_swapped", "bank_call", "code_texted_out"):
        assert found.weights[name] == pytest.approx(WEIGHTS[name], abs=1e-3)
    assert not set(FIXED) & set(found.weights)


def test_every_weight_keeps_its_share_of_what_a_person_gave_it() -> None:
    acquitted = [Seen("benign", "plain", (row("phone_changed", "new_device"),)) for _ in range(2000)]
    found = fitted([log() + acquitted], 1e-3, 10.0)
    assert found.weights["phone_changed"] == KEEP * BY_HAND["phone_changed"], "the log would have it speak for the customer"
    assert all(w / BY_HAND[name] >= KEEP - 1e-9 for name, w in found.weights.items())


def test_a_fit_starts_from_what_it_is_told() -> None:
    hand, force = fitted([log()], 1e-3, 1.0, BY_HAND), fitted([log()], 1e-3, 1.0)
    assert hand.before["weak_attestation"] == hand.weights["weak_attestation"] == BY_HAND["weak_attestation"]
    assert force.before["weak_attestation"] == force.weights["weak_attestation"] == WEIGHTS["weak_attestation"]


def test_a_narrow_prior_keeps_every_weight() -> None:
    found = fitted([log()], 1e-3, 0.01)
    assert all(abs(found.weights[name] - WEIGHTS[name]) < 0.05 for name in found.weights)


@pytest.mark.parametrize("rate", [0.0, 2e-4, 1e-3, 2e-2])
def test_the_threshold_keeps_the_false_alarms_within_the_rate(rate: float) -> None:
    found = fitted([log()], rate, 1.0)
    assert found.false_alarms <= rate * found.benign
    assert (found.benign, found.takeovers) == (4000, 60)
    assert 0 < found.watch < found.alert < 1


def test_the_threshold_is_chosen_on_logs_that_had_no_part_in_the_weights() -> None:
    """A look-alike of one log alone: weights that knew it would have put it below the threshold."""
    strange = [Seen("benign", "B9", (row("sim_swapped", "new_device", "new_network"),)) for _ in range(12)]
    apart = fitted([log(), log() + strange], 1e-3, 1.0)
    together = fitted([log() + log() + strange], 1e-3, 1.0)
    assert apart.weights == together.weights
    assert apart.logs == 2
    assert apart.alert > together.alert
    assert apart.false_alarms <= 1e-3 * apart.benign


def test_rows_of_a_takeover_count_once_together() -> None:
    once = [Seen("takeover", "V1", (row("new_device", "code_typed"),)) for _ in range(20)]
    ten = [Seen("takeover", "V1", s.rows * 10) for s in once]
    benign = [s for s in log() if s.label == "benign"]
    assert fitted([once + benign], 1e-3, 1.0).weights == pytest.approx(fitted([ten + benign], 1e-3, 1.0).weights, abs=2e-3)


def test_too_few_are_said() -> None:
    with pytest.raises(TooFew, match=f"9 takeover challenges .* at least {LEAST['takeover']}"):
        fitted([log(takeovers=9)], 1e-3, 1.0)


def test_the_file_is_a_policy() -> None:
    found = fitted([log()], 1e-3, 1.0)
    policy = policy_from(tomllib.loads(policy_text(found, "Made here.\nTwo lines.")))
    assert policy.weights == found.weights
    assert policy.thresholds.alert == pytest.approx(found.alert, rel=1e-5)
    assert policy.thresholds.watch == pytest.approx(found.watch, rel=1e-5)


def test_what_is_in_force_is_what_the_fit_made() -> None:
    policy = policy_from(tomllib.loads(FITTED.read_text()))
    assert policy.weights == IN_FORCE, "put the numbers of deploy/fitted.toml into pipeline/core/weights.py, or the reverse"
    assert policy.thresholds == Thresholds(), "and its thresholds into pipeline/core/policy.py"
    assert set(IN_FORCE) <= set(NAMES) - set(FIXED)
    assert all(w / BY_HAND[name] >= KEEP - 1e-9 for name, w in IN_FORCE.items())


@pytest.mark.slow
def test_the_command_from_a_log_to_a_policy_that_a_replay_takes(tmp_path: Path) -> None:
    made = simulate(4, 1000, 44, tmp_path, prior=0.08, history_days=1)
    log_, truth, bank = tmp_path / made.log, tmp_path / made.truth, tmp_path / made.policy
    out = tmp_path / "fitted.toml"
    given = ["--log", str(log_), "--truth", str(truth), "--policy", str(bank), "--demo-key"]
    result = CliRunner().invoke(main, ["fit", *given, "--leave-out", "V6", "--rate", "0.002", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "measure it on others" in result.output
    both = tmp_path / "both.toml"
    both.write_text(bank.read_text() + out.read_text())
    replayed = CliRunner().invoke(main, ["replay", str(log_), "--demo-key", "--policy", str(both), "--out", str(tmp_path / "said")])
    assert replayed.exit_code == 0, replayed.output
    again = CliRunner().invoke(main, ["fit", *given, "--leave-out", "V6", "--rate", "0.002", "--out", str(tmp_path / "again.toml")])
    assert again.exit_code == 0
    assert (tmp_path / "again.toml").read_text() == out.read_text(), "the same log, the same weights"
