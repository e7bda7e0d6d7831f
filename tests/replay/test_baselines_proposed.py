"""Do the baselines that are proposed say what honest customers do, whoever else is in the log and in whatever order it comes?"""

import math
import tomllib
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median

import msgspec
import pytest
from click.testing import CliRunner, Result

from pipeline.__main__ import main
from pipeline.core.baselines import MOST_AGENTS
from pipeline.core.policy import Policy, policy_from
from pipeline.core.surge import LEAST_Z, STRETCH_MS, excess, usual_at
from pipeline.replay.baselines import LEAST_LOGINS, NoBaselines, Proposal, baselines_of, codes_of, latency_of, median_of, proposed
from pipeline.replay.honest import LEAST_ACCOUNTS, Counted
from pipeline.replay.run import Replay
from pipeline.simulate.identifiers import AGENTS
from pipeline.simulate.run import simulate
from pipeline.wire.canonical import user_agent_digest
from pipeline.wire.log import LogRecord, merge_logs, read_log
from pipeline.wire.pseudonym import Pseudonyms
from tests.replay.raw import DAY, PHONE, START, TOOL, Log, code, verdict

ENV = {"OFFHOOK_POLICY_FILE": None, "OFFHOOK_PSEUDONYM_KEY_FILE": None}


def bank(accounts: int = 50, days: int = 20) -> Log:
    """So many customers with a code each day, entered after 8 to 16 seconds, half of them within 12."""
    log = Log()
    for n in range(accounts):
        for day in range(days):
            code(log, f"acc-{n}", START + day * DAY + n * 60_000, f"{n}-{day}", 8 + (7 * n + 13 * day) % 81 / 10)
    return log


def attacks(log: Log, count: int, seconds: float = 300.0) -> list[str]:
    """So many accounts are entered with a tool, slowly; the names of the codes."""
    names = [f"bad-{n}" for n in range(count)]
    for n, name in enumerate(names):
        code(log, f"acc-{n % 50}", START + DAY + n * 60_000 + 30_000, name, seconds, TOOL)
    return names


def asked(*options: object) -> Result:
    return CliRunner().invoke(main, ["baselines", *map(str, options)], env=ENV)


# --- what is made of it


def test_the_median_is_that_of_the_values_written_out() -> None:
    for values in ([5], [1, 9], [3, 3, 3, 8], [1, 2, 2, 50, 60], list(range(100))):
        assert median_of(Counter(values).items()) == median(values)
    with pytest.raises(ValueError, match="nothing"):
        median_of([])


def test_unknown_attacks_move_the_baseline_little_and_known_ones_not_at_all(tmp_path: Path) -> None:
    def of(log: Log) -> Proposal:
        return baselines_of([log.write(tmp_path / "log.jsonl")], Policy(), "", lambda _: lambda *_: None)

    honest, attacked, told = bank(), bank(), bank()
    attacks(attacked, 100)
    for n, name in enumerate(attacks(told, 100)):
        verdict(told, f"acc-{n % 50}", "true_positive", otp_id=f"o-{name}")
    clean, moved, known = of(honest), of(attacked), of(told)
    assert known.baselines == clean.baselines
    before, after = clean.baselines.entry_latency["sms"], moved.baselines.entry_latency["sms"]
    assert before.median_s == pytest.approx(12.0, abs=0.2)
    assert before.median_s < after.median_s < before.median_s + 0.5, "one entry in eleven takes 300 s"
    assert before.spread < after.spread < 1.3 * before.spread
    assert moved.baselines.user_agents[user_agent_digest(TOOL)] == pytest.approx(100 / 1100, abs=1e-4)


def test_a_channel_with_one_latency_only_has_some_spread_all_the_same() -> None:
    assert (
        latency_of({7000: 400})
        == policy_from({"baselines": {"entry_latency": {"sms": {"median_s": 7.0, "spread": 0.1}}}}).baselines.entry_latency["sms"]
    )
    assert latency_of({0: 400}).median_s == 0.001


def browsers(logins: dict[str, int], accounts: int = LEAST_ACCOUNTS) -> Counted:
    users = {str(n) for n in range(accounts)}
    return Counted(logins=Counter(logins), users=dict.fromkeys(logins, users), days={date(2026, 1, 1)})


def test_only_what_many_logins_of_many_accounts_have_is_listed() -> None:
    some = {"common_____": 5000, "seldom_____": LEAST_LOGINS, "rare_______": LEAST_LOGINS - 1}
    found = proposed(browsers(some))
    assert list(found.baselines.user_agents) == ["common_____", "seldom_____"]
    assert found.baselines.user_agents["seldom_____"] == found.baselines.user_agent_floor
    assert "user agents: 1 with 99 of 5,199 logins" in found.left[0]
    with pytest.raises(NoBaselines, match="too short for any baseline: user agents: 3 with"):
        proposed(browsers(some, LEAST_ACCOUNTS - 1))
    with pytest.raises(NoBaselines, match="of 1,000"):
        proposed(browsers({"common_____": 999}))
    with pytest.raises(NoBaselines, match="holds no honest entry or login"):
        proposed(Counted())


def test_a_list_that_is_cut_has_the_first_left_out_for_its_floor() -> None:
    found = proposed(browsers({f"{n:011}": 10_000 - n for n in range(MOST_AGENTS + 100)}))
    listed = found.baselines.user_agents
    assert list(listed) == [f"{n:011}" for n in range(MOST_AGENTS)]
    assert found.baselines.user_agent_floor == pytest.approx(9500 / found.all_logins, rel=1e-3)
    assert found.baselines.user_agent_floor <= min(listed.values())
    assert policy_from({"baselines": msgspec.to_builtins(found.baselines)}).baselines == found.baselines


# --- the command


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log with attacks, a sixth of which somebody has found out."""
    folder = tmp_path_factory.mktemp("world")
    simulate(7, 250, 6, folder, history_days=14, prior=0.1)
    return folder


def test_the_command_proposes_a_policy_whose_decisions_have_the_features(world: Path, tmp_path: Path) -> None:
    log = world / "log.jsonl"
    said = asked("--log", log)
    assert said.exit_code == 0, said.output
    assert said.output.startswith("# Proposed by `offhook baselines`. Nothing is in force")
    policy = policy_from(tomllib.loads(said.output))
    assert set(policy.baselines.entry_latency) >= {"sms"}
    assert set(policy.baselines.user_agents) <= {user_agent_digest(agent) for agent in AGENTS}
    assert msgspec.structs.replace(policy, baselines=Policy().baselines) == Policy(), "nothing else is proposed"
    Replay(policy, Pseudonyms.for_demo(), tmp_path).run(merge_logs([log]))
    beside = [msgspec.json.decode(r.value or b"") for r in read_log(tmp_path / "decisions.jsonl")]
    by_sms = [d for d in beside if d["features"].get("channel") == "sms" and d["stage"] == "at_entry"]
    assert len(by_sms) > 100
    assert all("entry_latency_channel_z" in d["features"] for d in by_sms)
    assert all(("user_agent_rarity" in d["features"]) == ("reset_flow" in d["features"]) for d in beside), "wherever there is a login"
    assert abs(median(d["features"]["entry_latency_channel_z"] for d in by_sms)) < 0.2


def test_the_same_log_gives_the_same_bytes_and_names_nobody(world: Path, tmp_path: Path) -> None:
    log = world / "log.jsonl"
    printed = asked("--log", log).output
    said = asked("--log", log, "--out", tmp_path / "new" / "baselines.toml")
    assert said.exit_code == 0, said.output
    assert (tmp_path / "new" / "baselines.toml").read_text() == printed
    assert "sms" in said.output
    assert "nothing is in force until OFFHOOK_POLICY_FILE" in said.output
    parts = []
    for topic in {r.topic for r in read_log(log)}:  # a file for each topic, the feeds of later letters first
        part = tmp_path / f"{topic}.jsonl"
        part.write_bytes(b"".join(line for line in log.read_bytes().splitlines(keepends=True) if f'"topic":"{topic}"'.encode() in line))
        parts += ["--log", part]
    assert asked(*parts).output == printed, "however the log is cut into files"
    secrets = set(AGENTS) | {"Mozilla", "+4477", "acct", PHONE}
    for record in read_log(log):
        value = msgspec.json.decode(record.value) if record.topic == "logins" and record.value and record.value[:1] == b"{" else {}
        secrets |= {
            str(value[name]) for name in ("account_id", "session_id", "device_id", "ip") if isinstance(value, dict) and value.get(name)
        }
    assert [secret for secret in secrets if secret in printed or secret in said.output] == []


def test_what_cannot_be_done_is_said_with_exit_code_2(tmp_path: Path) -> None:
    log = Log()
    for n in range(3):
        code(log, f"acc-{n}", START + n, str(n), 9)
    path = log.write(tmp_path / "log.jsonl")
    for options, why in (
        (("--log", path), "channel sms: 3 honest entries of 3 accounts (100 of 20 are needed)"),
        (("--log", path, "--prefix", "bank."), "no record of bank.logins, bank.otp-dispatches, bank.otp-entries"),
        (("--log", tmp_path / "nowhere.jsonl"), "does not exist"),
        ((), "Missing option '--log'"),
    ):
        said = asked(*options)
        assert (said.exit_code, why in said.output) == (2, True), said.output
    (tmp_path / "bad.jsonl").write_text("no envelope\n")
    said = asked("--log", tmp_path / "bad.jsonl")
    assert (said.exit_code, "bad.jsonl:1: not a record" in said.output) == (2, True)


# --- codes by hour of the week

MONDAY = 1_772_409_600_000  # 2026-03-02, 00:00 UTC
HOUR_MS = 3_600_000


def weeks(days: int, usual: Callable[[int, int], int]) -> dict[int, int]:
    """So many accounts in every five minutes of a day and an hour, in turn one more and one less."""
    return {
        at: usual(at // DAY % 7, at // HOUR_MS % 24) + (1 if n % 2 else -1)
        for n, at in enumerate(range(MONDAY, MONDAY + days * DAY, STRETCH_MS))
    }


def test_the_usual_of_an_hour_is_its_median_by_day_of_the_week() -> None:
    counted = weeks(22, lambda day, hour: 1000 + 10 * day + hour)
    for at in range(MONDAY + 8 * DAY, MONDAY + 8 * DAY + HOUR_MS, STRETCH_MS):
        counted[at] = 50_000  # a surge of one hour is not the usual
    found = codes_of(counted)
    assert found is not None
    for day in range(7):
        for hour in range(24):
            at = MONDAY + day * DAY + hour * HOUR_MS
            assert usual_at(found, at) == pytest.approx(1000 + 10 * (at // DAY % 7) + hour, abs=1.1)
    assert found.spread == 0.1, "one more or less of a thousand: no bank is steadier than the floor"
    assert found.share == pytest.approx(200 / 1084, rel=0.01)
    wild = codes_of({at: n * (2 if at // STRETCH_MS % 4 < 2 else 1) for at, n in weeks(22, lambda *_: 400).items()})
    assert wild is not None
    assert wild.spread == pytest.approx(1.4826 * math.log(2) / 2, rel=0.2), "half of the time twice as many"


def test_less_than_three_weeks_propose_no_usual_of_codes() -> None:
    assert codes_of({}) is None
    assert codes_of(weeks(20, lambda *_: 5)) is None
    whole = codes_of(weeks(21, lambda *_: 5))
    assert whole is not None
    assert whole.share == 1.0, "where few are sent codes all are counted"


def test_a_night_without_a_code_is_a_night_with_none() -> None:
    found = codes_of({at: n for at, n in weeks(22, lambda *_: 8).items() if at // HOUR_MS % 24 >= 6})
    assert found is not None
    assert {found.accounts[day][3] for day in range(7)} == {0.0}
    assert {found.accounts[day][12] for day in range(7)} == {8.0}


def round_the_clock(days: int) -> Log:
    """The bank, with a code every six hours of some nights and evenings too."""
    log = bank(50, days)
    for at in range(START, START + (days - 1) * DAY, DAY // 4):
        code(log, "acc-1", at + DAY // 8, f"between-{at}", 9)
    return log


def test_a_hole_in_the_log_is_no_quiet_time() -> None:
    whole, hole = weeks(29, lambda *_: 40), (MONDAY + 9 * DAY, MONDAY + 11 * DAY)
    holed = {at: n for at, n in whole.items() if not hole[0] <= at < hole[1]}
    quiet = codes_of({at: n if at in holed else 0 for at, n in whole.items()})
    found = codes_of(holed)
    assert found is not None
    assert quiet is not None
    assert {n for hours in found.accounts for n in hours} <= {39.0, 40.0, 41.0}, "three other Wednesdays and Thursdays are there"
    assert found.spread == 0.1
    assert min(quiet.accounts[2]) < 40.0, "taken for quiet they change what is usual"
    short = {at: n for at, n in weeks(22, lambda *_: 40).items() if not hole[0] <= at < hole[1]}
    assert codes_of(short) is None, "two are too few"


def test_days_that_differ_are_a_spread_and_the_mornings_of_one_day_are_not() -> None:
    """Whole days are busier or quieter, by a fifth up or down: each is held beside the others, not beside itself."""
    factor = {day: 1.2 if day % 2 else 1 / 1.2 for day in range(22)}
    found = codes_of({at: round(1000 * factor[(at - MONDAY) // DAY]) for at in weeks(22, lambda *_: 1000)})
    assert found is not None
    assert found.spread > 2 * math.log(1.2), "each weekday has one day unlike the others"


@pytest.mark.parametrize(("by", "most"), [(0.0, 0.01), (0.1, 0.05), (0.2, 0.05)])
def test_an_ordinary_day_is_seldom_a_surge(by: float, most: float) -> None:
    """Three weeks say what is usual, in ten banks whose days are by so much busier or quieter, of the three weeks after."""
    codes = surging = 0
    for bank_ in range(10):
        random = Random(f"bank {bank_} {by}")
        days = [random.gauss(1.0, by) for _ in range(42)]
        counted = {
            at: max(0, round(random.gauss(n := 1000 * days[(at - MONDAY) // DAY] * DAY_SHAPE[at // HOUR_MS % 24], n**0.5 if n > 0 else 0)))
            for at in range(MONDAY, MONDAY + 42 * DAY, STRETCH_MS)
        }
        found = codes_of(dict(list(counted.items())[: 21 * DAY // STRETCH_MS]))
        assert found is not None
        for at in range(MONDAY + 21 * DAY, MONDAY + 42 * DAY, STRETCH_MS):
            z = excess(counted[at], at, found)
            codes, surging = codes + counted[at], surging + (counted[at] if z >= LEAST_Z else 0)
    print(f"days that vary by {by:.0%}: {surging / codes:.1%} of codes")
    assert surging < most * codes


DAY_SHAPE = (0.1, 0.05, 0.05, 0.05, 0.05, 0.1, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 0.9, 0.9, 0.9, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.2)  # of a bank


def test_two_fortnights_with_two_months_between_are_four_weeks(tmp_path: Path) -> None:
    log = round_the_clock(15)
    for r in round_the_clock(15).records:
        log.records.append(LogRecord(r.topic, r.partition, r.offset + 100_000, r.ts + 77 * DAY, r.key, moved(r.value, 77)))
    said = asked("--log", log.write(tmp_path / "log.jsonl"))
    codes = policy_from(tomllib.loads(said.output)).baselines.codes
    assert codes is not None
    assert {hours[START % DAY // HOUR_MS] for hours in codes.accounts} == {5.0}


def test_a_log_of_dispatches_alone_proposes_codes(tmp_path: Path) -> None:
    log = round_the_clock(23)
    log.records = [record for record in log.records if record.topic == "otp-dispatches"]
    said = asked("--log", log.write(tmp_path / "log.jsonl"))
    assert said.exit_code == 0, said.output
    assert policy_from(tomllib.loads(said.output)).baselines.codes is not None
    assert "From 2026-11-22 to 2026-12-14" in said.output


def moved(value: bytes | None, days: int) -> bytes:
    fields = msgspec.json.decode(value or b"")
    at = datetime.fromisoformat(fields["occurred_at"]) + timedelta(days=days)
    return msgspec.json.encode({**fields, "occurred_at": at.isoformat(), "event_id": "later-" + fields["event_id"]})


def test_the_command_counts_accounts_not_codes_and_none_twice(tmp_path: Path) -> None:
    log = round_the_clock(23)
    said = asked("--log", log.write(tmp_path / "log.jsonl"))
    assert said.exit_code == 0, said.output
    codes = policy_from(tomllib.loads(said.output)).baselines.codes
    assert codes is not None
    begin = START % DAY // HOUR_MS
    assert {hours[begin] for hours in codes.accounts} == {5.0}, "one a minute"
    assert "# accounts that are sent a code in five minutes" in said.output
    assert "]  # Monday" not in said.output
    assert "],  # Monday" in said.output
    for n in range(50):  # each of them is sent three more, and everything comes twice
        for day in range(23):
            for k in range(3):
                code(log, f"acc-{n}", START + day * DAY + n * 60_000 + 1000 * k, f"{n}-{day}-{k}", 9)
    log.records += log.records
    twice = asked("--log", log.write(tmp_path / "twice.jsonl"))
    assert policy_from(tomllib.loads(twice.output)).baselines.codes == codes


def test_a_short_log_says_that_three_weeks_are_needed(tmp_path: Path) -> None:
    said = asked("--log", round_the_clock(20).write(tmp_path / "log.jsonl"))
    assert said.exit_code == 0, said.output
    assert "stretches of five minutes with any (3 days with each hour of the week are needed: three weeks without a hole)" in said.output
    assert "[baselines.codes]" not in said.output
