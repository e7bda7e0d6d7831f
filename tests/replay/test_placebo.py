"""Does moving the calls to other days tell what chance does? A takeover leaves no trace in it, a nightly coincidence does."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.__main__ import main
from pipeline.core.policy import Policy
from pipeline.replay.placebo import Experiment, TooShort, clustered
from pipeline.replay.score import wilson
from pipeline.wire.log import read_log
from pipeline.wire.pseudonym import Pseudonyms
from tests.replay.raw import DAY, PHONE, START, Log, habits, takeover

DAYS = 12


def experiment(log: Log, tmp_path: Path, **options: int) -> Experiment:
    return Experiment([log.write(tmp_path / "log.jsonl")], Policy(), Pseudonyms.for_demo(), **options)


def silent(what: str, records: int) -> object:
    return lambda done, at: None


def bank() -> Log:
    """A customer with habits, and one who logs in from new places with new devices, every day at the same hour."""
    log = Log()
    habits(log, days=DAYS)
    habits(log, "acc-2", "+447700900456", days=DAYS, until=START - 420_000)
    for day in range(4):
        at = START - day * DAY
        log.challenge("acc-2", "+447700900456", at, f"new-{day}", f"dev-{day}", asn=64600 + day, entry_s=44, kind="hosting")
    return log


def test_the_call_of_a_takeover_is_gone_when_it_is_moved(tmp_path: Path) -> None:
    log = bank()
    takeover(log, at=START - DAY + 3_600_000)
    log.call("+447700900456", START - 3 * DAY + 7_200_000, "later")  # a chance call, hours from any code
    result = experiment(log, tmp_path, warm_up=4).run(3, silent)
    assert result.call_driven_as_recorded >= 1
    assert result.coincidences == 0, "no call of that hour, on any day"
    assert result.rate == 0 < result.high
    assert result.days == DAYS + 1


def test_calls_at_the_hour_of_the_codes_are_counted_as_chance(tmp_path: Path) -> None:
    log = bank()
    for day in range(DAYS):
        log.call("+447700900456", START - day * DAY + 7_000, f"nightly-{day}", peer=f"+4477009008{day:02}")
    result = experiment(log, tmp_path, warm_up=4).run(3, silent)
    assert all(told.coincidences >= 1 for told in result.rounds)
    assert result.low > 0
    again = experiment(log, tmp_path, warm_up=4).run(3, silent)
    assert again == result, "the same seed gives the same numbers"


def test_moving_keeps_every_call_with_its_hour_and_its_number(tmp_path: Path) -> None:
    log = bank()
    for day in range(DAYS - 1):
        log.call(PHONE, START - day * DAY + 3_600_000, f"call-{day}")
    log.put("telephony", PHONE, START - DAY, type="line", phone=PHONE, change="sim_swapped")
    made = experiment(log, tmp_path)
    before = [r for r in made._cut() if r.topic == "telephony"]
    folder = tmp_path / "moved"
    folder.mkdir()
    after = [r for r in made._shifted(0, folder) if r.topic == "telephony"]
    assert len(after) == len(before)
    kept = {r.offset: r for r in before}
    shifts = set()
    for record in after:
        old, new = json.loads(kept[record.offset].value or b""), json.loads(record.value or b"")
        shift = record.ts - kept[record.offset].ts
        assert shift % DAY == 0
        if old["type"] == "line":
            assert shift == 0
            continue
        shifts.add(shift)
        assert {k: v for k, v in old.items() if k != "occurred_at"} == {k: v for k, v in new.items() if k != "occurred_at"}
        assert old["occurred_at"][10:] == new["occurred_at"][10:]
        assert old["occurred_at"] != new["occurred_at"]
    assert len(shifts - {0}) == len(shifts) <= 2, "one number of days for a phone, with those that went round the end"
    assert [r.ts for r in after] == sorted(r.ts for r in after)


def test_a_log_of_one_day_is_refused_with_a_word(tmp_path: Path) -> None:
    log = Log()
    log.challenge("acc-1", PHONE, START, "one", "dev")
    with pytest.raises(TooShort, match="needs 2 or more"):
        experiment(log, tmp_path)


def test_rounds_that_repeat_the_same_accounts_do_not_pass_for_evidence() -> None:
    codes = {f"acc-{n}": 10 for n in range(1000)}
    share, low, high, effective = clustered(codes, {"acc-1": 20}, rounds=20)
    assert share == 20 / 200_000
    assert effective < 200_000 / 15, "one account in every round is one observation, not twenty"
    assert low < share < high
    spread = clustered(codes, {f"acc-{n}": 1 for n in range(20)}, rounds=20)
    assert spread[3] > effective * 10
    assert clustered(codes, {}, rounds=20)[1:3] == wilson(0, 10_000)


def test_the_command_says_what_to_expect_and_writes_it_down(tmp_path: Path) -> None:
    log = bank()
    path, out = log.write(tmp_path / "log.jsonl"), tmp_path / "placebo.json"
    run = CliRunner().invoke(main, ["placebo", str(path), "--demo-key", "--rounds", "2", "--warm-up", "4", "--out", str(out)])
    assert run.exit_code == 0, run.output
    written = json.loads(out.read_bytes())
    assert f"{written['codes']:,} counted" in run.output
    assert "by chance" in run.output
    codes = {json.loads(r.value or b"")["otp_id"] for r in read_log(path) if r.topic == "otp-dispatches" and r.ts >= START - 8 * DAY - DAY}
    assert 0 < written["codes"] <= len(codes)
