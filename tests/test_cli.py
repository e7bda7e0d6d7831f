"""Does the command line say what to do when something is wrong, and is it quick?"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pipeline.__main__ import main
from pipeline.settings import SETTINGS
from pipeline.wire.log import read_log
from tests.replay.raw import START, story


def offhook(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    clean = dict.fromkeys(("OFFHOOK_PSEUDONYM_KEY_FILE", "OFFHOOK_PSEUDONYM_KEY", "OFFHOOK_POLICY_FILE"), None)
    result = CliRunner().invoke(main, [str(a) for a in arguments], env={**clean, **(env or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception  # no traceback for a user's mistake
    return result


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return story().write(tmp_path / "log.jsonl")


def test_help_is_quick_and_loads_neither_faust_nor_river() -> None:
    probe = (
        "import sys, runpy; sys.argv = ['offhook', '--help']\n"
        "try: runpy.run_module('pipeline', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'faust', 'mode', 'river', 'rich', 'aiokafka', 'kafka', 'numpy', 'msgspec'}))"
    )
    took = []
    for _ in range(3):
        began = time.perf_counter()
        said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60).stdout
        took.append(time.perf_counter() - began)
    assert said.splitlines()[-1] == "[]"
    assert "replay" in said
    assert min(took) < 0.3 * 3  # 0.3 s on an idle machine; three times that where tests run side by side


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help(command: str) -> None:
    said = offhook(command, "--help")
    assert said.exit_code == 0
    assert len(said.output) > 100


def commands(group: click.Group = main) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else (command,)


def helps(command: click.Command) -> dict[str, str]:
    """What a command says of each of its options, and of itself."""
    return {p.opts[0]: p.help or "" for p in command.params if isinstance(p, click.Option)} | {"": command.help or ""}


def test_help_names_settings_that_exist_and_the_same_ones_for_the_same_option() -> None:
    said = [helps(command) for command in commands()]
    named = {name for one in said for text in one.values() for name in re.findall(r"\bOFFHOOK_[A-Z_]+[A-Z]\b", text)}
    assert named
    assert named <= {setting.variable for setting in SETTINGS}
    assert len([one["--pseudonyms"] for one in said if "--pseudonyms" in one]) > 3
    (pseudonyms,) = {one["--pseudonyms"] for one in said if "--pseudonyms" in one}
    assert set(re.findall(r"OFFHOOK_[A-Z_]+", pseudonyms)) == {"OFFHOOK_PSEUDONYM_KEY_FILE", "OFFHOOK_PSEUDONYM_KEY"}


def test_replay_prints_what_it_found_and_where_it_is(tmp_path: Path, log: Path) -> None:
    said = offhook("replay", log, "--demo-key", "--out", tmp_path / "out")
    assert said.exit_code == 0
    for words in ("Alerts (1 finding", "acc-1", "1 finding in", "records/s", "alerts.jsonl"):
        assert words in said.output
    assert "acc-1" in (tmp_path / "out" / "alerts.jsonl").read_text()


def test_replay_and_score_against_the_truth(tmp_path: Path, log: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    truth.write_text(
        '{"account_id":"acc-1","otp_id":"o-acc-1-bad","label":"takeover","story":"V1","entered_at":"2026-11-22T08:00:46Z","has_call":true}\n'
        '{"account_id":"acc-2","otp_id":"o-acc-2-today","label":"benign","story":"plain","entered_at":"2026-11-22T08:01:14Z","has_call":false}\n'
    )
    said = offhook("replay", log, "--demo-key", "--out", tmp_path / "out", "--truth", truth, "--quiet")
    assert "takeovers     1 caught of 1" in said.output
    assert "false alarms  0 in 1 benign challenges" in said.output
    assert "takeover (V1)" in offhook("replay", log, "--demo-key", "--out", tmp_path / "out", "--truth", truth).output
    scored = offhook("score", tmp_path / "out", "--truth", truth, "--json")
    assert json.loads(scored.output)["takeovers"]["alerted"] == 1
    assert "100.0 %" in offhook("score", tmp_path / "out", "--truth", truth).output
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = offhook("score", empty, "--truth", truth)
    assert (nothing.exit_code, "is" in nothing.output and "the folder of a replay?" in nothing.output) == (2, True)


def test_replay_needs_to_know_the_key(log: Path) -> None:
    said = offhook("replay", log)
    assert said.exit_code == 2
    assert "offhook pseudonyms keygen" in said.output


def test_a_key_file_is_made_used_and_never_overwritten(tmp_path: Path, log: Path) -> None:
    key = tmp_path / "pseudonyms.key"
    assert offhook("pseudonyms", "keygen", key).exit_code == 0
    assert key.stat().st_mode & 0o077 == 0
    before = key.read_bytes()
    again = offhook("pseudonyms", "keygen", key)
    assert (again.exit_code, "never overwritten" in again.output) == (2, True)
    assert key.read_bytes() == before
    assert offhook("replay", log, "--pseudonyms", key, "--out", tmp_path / "a", "-q").exit_code == 0
    assert offhook("replay", log, "--out", tmp_path / "b", "-q", env={"OFFHOOK_PSEUDONYM_KEY_FILE": str(key)}).exit_code == 0
    assert (tmp_path / "a" / "alerts.jsonl").read_bytes() == (tmp_path / "b" / "alerts.jsonl").read_bytes()
    assert b"k1:" in (tmp_path / "a" / "alerts.jsonl").read_bytes()
    text = key.read_text()
    assert offhook("replay", log, "--out", tmp_path / "c", "-q", env={"OFFHOOK_PSEUDONYM_KEY": text}).exit_code == 0
    assert (tmp_path / "a" / "alerts.jsonl").read_bytes() == (tmp_path / "c" / "alerts.jsonl").read_bytes()
    key.write_bytes(b"\x8e" + before)
    for of in ({"--pseudonyms": key}, {}):
        options = [x for pair in of.items() for x in pair]
        bad = offhook("replay", log, *options, env={} if of else {"OFFHOOK_PSEUDONYM_KEY_FILE": str(key)})
        assert bad.exit_code == 2
        assert "UTF-8" in bad.output or "UnicodeDecodeError" in bad.output
        assert "0x8e" not in bad.output, "no byte of a key is printed"
    key.write_text("k1 = too-short\n")
    for bad, where in (
        (offhook("replay", log, "--pseudonyms", key), f"Error: {key}: key file, line 1"),
        (offhook("replay", log, env={"OFFHOOK_PSEUDONYM_KEY_FILE": str(key)}), "Error: OFFHOOK_PSEUDONYM_KEY_FILE: key file, line 1"),
        (offhook("replay", log, env={"OFFHOOK_PSEUDONYM_KEY": "too-short"}), "Error: OFFHOOK_PSEUDONYM_KEY: key file, line 1"),
        (offhook("replay", log, env={"OFFHOOK_PSEUDONYM_KEY_FILE": "/nowhere"}), "Error: OFFHOOK_PSEUDONYM_KEY_FILE: /nowhere is not"),
    ):
        assert bad.exit_code == 2
        assert where in bad.output
        assert "too-short" not in bad.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name the logs to read"),
        (("LOG", "--kafka", "127.0.0.1:9092"), "name the logs to read"),
        (("--kafka", "127.0.0.1:9092", "--demo-key"), "--kafka needs --since"),
        (("--kafka", "127.0.0.1:9092", "--demo-key", "--since", "yesterday"), "--since: write a time with an offset"),
        (("LOG", "--demo-key", "--dead-letters", "sealed"), "belong together"),
        (("LOG", "--demo-key", "--pseudonyms", "LOG"), "not both"),
        (("LOG", "--demo-key", "--without", "calls"), "'calls' is not one of"),
        (("LOG.gz", "--demo-key"), "does not exist"),
    ],
)
def test_wrong_options_of_replay(log: Path, arguments: tuple[str, ...], words: str) -> None:
    said = offhook("replay", *(a.replace("LOG", str(log)) for a in arguments))
    assert said.exit_code == 2
    assert words in said.output


def test_strict_names_file_and_line(tmp_path: Path) -> None:
    log = story()
    log.raw("logins", START + 10**9, b"{broken")
    path = log.write(tmp_path / "log.jsonl")
    said = offhook("replay", path, "--demo-key", "--strict", "--out", tmp_path / "out")
    assert said.exit_code == 2
    assert f"log.jsonl:{len(log.records)}: logins: not_json" in said.output


def test_a_line_that_is_no_record_stops_a_replay_with_file_and_line(tmp_path: Path, log: Path) -> None:
    with log.open("a") as f:
        f.write("this is no record\n")
    said = offhook("replay", log, "--demo-key", "--out", tmp_path / "out")
    assert said.exit_code == 2
    assert "log.jsonl:72: " in said.output


def test_a_policy_that_is_wrong_is_named(tmp_path: Path, log: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[thresholds]\nalert = 7\n")
    said = offhook("replay", log, "--demo-key", "--policy", policy)
    assert said.exit_code == 2
    assert "policy.toml" in said.output
    assert "thresholds.alert" in said.output
    policy.write_text("thresholds = ")
    assert offhook("policy", "show", "--policy", policy).exit_code == 2


def test_the_policy_that_is_shown_can_be_read_back(tmp_path: Path) -> None:
    shown = offhook("policy", "show").output
    policy = tmp_path / "policy.toml"
    policy.write_text(shown)
    again = offhook("policy", "show", "--policy", policy).output
    assert again == shown
    assert shown.startswith("# p_")
    policy.write_text(re.sub(r"alert = [0-9.]+", "alert = 0.6", shown))
    assert offhook("policy", "show", "--policy", policy).output.splitlines()[0] != shown.splitlines()[0]


def test_dead_letters_are_found_again(tmp_path: Path) -> None:
    log = story()
    log.raw("logins", START + 1, b'{"event_id": 7}', b"acc-9")
    log.raw("telephony", START + 2, None)
    path = log.write(tmp_path / "log.jsonl")
    out = tmp_path / "out"
    assert offhook("replay", path, "--demo-key", "--out", out, "-q").exit_code == 0
    letters = out / "dead-letters.jsonl"
    shown = offhook("dead-letters", "show", letters).output
    assert "logins/0@22 invalid_field: " in shown
    assert "telephony/0@3 no_value: " in shown
    assert "acc-9" not in shown
    full = offhook("dead-letters", "show", letters, "--log", path, "--values").output
    assert "b'acc-9'" in full
    assert """b'{"event_id": 7}'""" in full
    assert offhook("dead-letters", "show", letters, "--reason", "no_value").output.count("\n") == 1
    assert offhook("dead-letters", "show", letters, "--topic", "otp-entries").output == "no dead letters like that\n"
    assert offhook("dead-letters", "show", path).exit_code == 2


def test_sealed_dead_letters_open_with_the_private_key_alone(tmp_path: Path) -> None:
    log = story()
    log.raw("logins", START + 1, b"{secret", b"acc-9")
    path = log.write(tmp_path / "log.jsonl")
    key, other, out = tmp_path / "letters.key", tmp_path / "other.key", tmp_path / "out"
    for file in (key, other):
        assert offhook("dead-letters", "keygen", file).exit_code == 0
    sealed = ("--dead-letters", "sealed", "--public-key", f"{key}.pub")
    assert offhook("replay", path, "--demo-key", "--out", out, "-q", *sealed).exit_code == 0
    (letter,) = read_log(out / "dead-letters.jsonl")
    assert b"secret" not in (letter.value or b"")
    assert "b'{secret'" in offhook("dead-letters", "show", out / "dead-letters.jsonl", "--private-key", key, "--values").output
    wrong = offhook("dead-letters", "show", out / "dead-letters.jsonl", "--private-key", other, "--values")
    assert (wrong.exit_code, "sealed to another key" in wrong.output) == (2, True)


def test_simulate_replay_score(tmp_path: Path) -> None:
    made = offhook("simulate", "--accounts", "40", "--hours", "1", "--history-days", "3", "--prior", "0.5", "--out", tmp_path / "sim")
    assert made.exit_code == 0
    assert "offhook replay --demo-key" in made.output
    command = made.output.splitlines()[-1].removeprefix("next: offhook ").split()
    said = offhook(*command, "--out", tmp_path / "said", "-q")
    assert said.exit_code == 0
    assert "takeovers" in said.output
    assert offhook("simulate", "--story", "V99", "--out", tmp_path / "sim").exit_code == 2


def test_schemas_are_checked(tmp_path: Path) -> None:
    assert offhook("schemas", "--write", "--folder", tmp_path).exit_code == 0
    assert offhook("schemas", "--check", "--folder", tmp_path).exit_code == 0
    (tmp_path / "login.schema.json").write_text("{}")
    stale = offhook("schemas", "--check", "--folder", tmp_path)
    assert (stale.exit_code, "login.schema.json" in stale.output) == (1, True)
    assert offhook("schemas").exit_code == 2


def test_settings_are_shown_without_secrets() -> None:
    said = offhook("settings", env={"OFFHOOK_BROKERS": "kafka.example:9093", "OFFHOOK_PSEUDONYM_KEY": "ab" * 32})
    assert said.exit_code == 0
    assert "kafka.example:9093" in said.output
    assert "abab" not in said.output
    wrong = offhook("settings", env={"OFFHOOK_BROKER": "x"})
    assert (wrong.exit_code, "OFFHOOK_BROKERS" in wrong.output) == (2, True)


def test_an_unknown_stage_is_refused() -> None:
    said = offhook("worker", "--stages", "ingest,lern")
    assert (said.exit_code, "lern is no stage" in said.output) == (2, True)


@pytest.mark.slow
def test_kafka_commands_without_a_broker_say_so() -> None:
    said = offhook("topics", "check", env={"OFFHOOK_BROKERS": "127.0.0.1:1"})
    assert said.exit_code == 1
    assert "OFFHOOK_BROKERS" in said.output
