"""What is a surge of codes worth? An attack at scale and a rush of customers on a simulated bank, beside a baseline of its own past.

The figures are printed with ``-s``. A surge says when, not who: customers who log in meanwhile have it too, and a rush has it as well.
"""

import tomllib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from pipeline.core.learn.measures import roc_auc
from pipeline.core.policy import Policy, policy_from
from pipeline.core.surge import LEAST_Z
from pipeline.replay.baselines import baselines_of
from pipeline.replay.run import Replay
from pipeline.simulate.run import START, simulate
from pipeline.wire.log import merge_logs, read_log
from pipeline.wire.pseudonym import Pseudonyms

ACCOUNTS = 1500
WEEKS = 22 * 24.0  # hours: three whole weeks and what is cut
DAY = 24.0
AT = 6.0  # hours in: 14:00

Final = dict[tuple[str, str], tuple[float, float | None]]  # by challenge: the last surge that was seen, and that at the entry


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy with the baselines of three weeks without a wave."""
    past = tmp_path_factory.mktemp("past")
    simulate(761, ACCOUNTS, WEEKS, past, start=START - timedelta(hours=WEEKS), history_days=0)
    return Policy(baselines=baselines_of([past / "log.jsonl"], Policy(), "", lambda _: lambda *_: None).baselines)


def day(folder: Path, usual: Policy, **what: float) -> tuple[Final, dict[tuple[str, str], str]]:
    """A day of the bank: what was seen of each challenge that was decided on, and the truth."""
    simulate(761, ACCOUNTS, DAY, folder, history_days=7, **what)  # type: ignore[arg-type]
    tests = policy_from(tomllib.loads((folder / "policy.toml").read_text())).test_accounts
    Replay(msgspec.structs.replace(usual, test_accounts=tests), Pseudonyms.for_demo(), folder).run(merge_logs([folder / "log.jsonl"]))
    seen: Final = {}
    for record in read_log(folder / "decisions.jsonl"):
        made = msgspec.json.decode(record.value or b"")
        key, z = (made["account_id"], made["otp_id"]), made["features"].get("code_surge_z")
        if z is None:  # the entry of a code of whose dispatch nobody tells
            continue
        at_entry = seen[key][1] if key in seen else None
        seen[key] = (z, z if at_entry is None and made["stage"] == "at_entry" else at_entry)
    lines = (msgspec.json.decode(line) for line in (folder / "truth.jsonl").read_bytes().splitlines())
    return seen, {(t["account_id"], t["otp_id"]): t["label"] for t in lines if not t["history"]}


def surges(zs: Sequence[float]) -> int:
    return sum(z >= LEAST_Z for z in zs)


@pytest.mark.slow
def test_a_wave_is_seen_at_the_entry_and_a_rush_looks_the_same(usual: Policy, tmp_path: Path) -> None:
    calm, truth = day(tmp_path / "calm", usual)
    waved, with_wave = day(tmp_path / "wave", usual, wave_hour=AT)
    rushed, with_rush = day(tmp_path / "rush", usual, rush_hour=AT)
    attacks = [waved[k] for k in waved if k in with_wave and k not in truth]
    others = [waved[k][0] for k in waved if with_wave.get(k) == "benign"]
    rush = [rushed[k][0] for k in rushed if k in with_rush and k not in truth]
    at_entry = [z for _, z in attacks if z is not None]
    ended, ordinary = [z for z, _ in attacks], [z for z, _ in calm.values()]
    separated = roc_auc([*ended, *others], [True] * len(ended) + [False] * len(others))
    print(
        f"\n{len(attacks)} attacks in 20 minutes: AUC {separated:.3f} beside {len(others):,} other codes of the day; a surge at "
        f"{surges(at_entry)} of {len(at_entry)} entries, in the end at {surges(ended)} attacks and at {surges(others)} other codes; on a "
        f"day without, at {surges(ordinary)} of {len(ordinary):,}; of {len(rush)} codes of a rush at {surges(rush)}"
    )
    assert len(attacks) > 40
    assert separated > 0.85
    assert surges(at_entry) > 0.6 * len(at_entry)
    assert surges(ordinary) < 0.01 * len(ordinary)
    assert surges(rush) > 0.8 * len(rush), "it tells when, and not of what"
