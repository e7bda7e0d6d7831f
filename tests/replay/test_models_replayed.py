"""Does a replay of recorded events score with the models that the log activates? And which model would have served better?"""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from nacl.signing import SigningKey

from pipeline.__main__ import main
from pipeline.core.events import Activation, AnyEvent
from pipeline.core.learn.snapshot import read_snapshot
from pipeline.core.learn.student import Student
from pipeline.core.model import WEIGHED, Model
from pipeline.core.outcome import Example, Replaced
from pipeline.core.policy import Policy
from pipeline.replay.compare import AS_DECIDED, compare, table, unlearned
from pipeline.wire.codec import encode_event, encode_example
from pipeline.wire.log import LogRecord, encode_line, read_log
from tests.stories import played

KEY = SigningKey(b"\x21" * 32)


def write(path: Path, topic: str, records: list[tuple[bytes | None, bytes]]) -> Path:
    path.write_bytes(b"".join(encode_line(LogRecord(topic, 0, n, 1000 + n, key, value, ())) for n, (key, value) in enumerate(records)))
    return path


def recorded(path: Path, *activations: Activation) -> Path:
    """A story as recorded events, after activations."""
    events: list[AnyEvent] = [*activations, *played("fraud/v01_classic_robocall").events]
    return write(path, "events", [(None, encode_event(event)) for event in events])


def replayed(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["replay", *map(str, arguments), "--demo-key", "--quiet"])
    return result.exit_code, result.output


def models_of(out: Path) -> set[str]:
    return {json.loads(record.value or b"{}")["model_id"] for record in read_log(out / "decisions.jsonl")}


def test_a_replay_scores_with_what_the_log_activates(tmp_path: Path) -> None:
    data = Student(Policy()).write(KEY)
    model_id = read_snapshot(data, KEY.verify_key).id
    key = tmp_path / "key.pub"
    key.write_text(bytes(KEY.verify_key).hex())
    dump = write(tmp_path / "models.jsonl", "models", [(model_id.encode(), data), (b"a_1", b"{}")])
    log = recorded(tmp_path / "log.jsonl", Activation(activation_id="a_1", arrived_at=1, champion=model_id, challengers=(WEIGHED,)))
    for out in ("one", "two"):
        code, said = replayed(log, "--out", tmp_path / out, "--models", dump, "--model-key", key)
        assert code == 0, said
    assert models_of(tmp_path / "one") == {model_id}
    for name in ("decisions.jsonl", "alerts.jsonl", "examples.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    code, said = replayed(log, "--out", tmp_path / "without")
    assert code == 2
    assert model_id in said
    assert "--models" in said
    forged = write(tmp_path / "forged.jsonl", "models", [(model_id.encode(), data.replace(b'"examples":0', b'"examples":7'))])
    code, said = replayed(log, "--out", tmp_path / "forged", "--models", forged, "--model-key", key)
    assert code == 0
    assert models_of(tmp_path / "forged") == {WEIGHED}


def example(number: int, label: bool, weight: float, probability: float, live: bool) -> Example:
    features = {"telephony_known": True, "call_live": live, "unexplained_call": live, "new_device": live, "entered": True}
    return Example(example_id=f"d_{number}", time=number, features=features, label=label, weight=weight, probability=probability)


EXAMPLES = [
    *(example(n, True, 1.0, 0.9 if n else 0.1, True) for n in range(4)),
    *(example(100 + n, False, 50.0, 0.6 if n == 0 else 0.01, False) for n in range(10)),
]


def test_models_are_compared_on_what_examples_stand_for() -> None:
    decided, by_hand = compare(EXAMPLES, {WEIGHED: Model(Policy())}, Policy(), threshold=0.5, rate=0.0)
    assert (decided.model_id, by_hand.model_id) == (AS_DECIDED, WEIGHED)
    assert (decided.frauds, decided.benign) == (4, 10)
    assert decided.recall == 0.75
    assert decided.precision == pytest.approx(3 / 53)
    assert decided.false_alarm_rate == pytest.approx(0.1)
    assert (decided.recall_at_rate, decided.threshold_at_rate) == (0.75, 0.9)
    assert decided.share == pytest.approx(4 / 504)
    assert by_hand.recall_at_rate == 1.0, "every fraud is above every other"
    assert by_hand.false_alarm_rate == 0.0
    assert len(table([decided, by_hand], 0.0)) == 6
    relabelled = [*EXAMPLES, EXAMPLES[0].__class__(example_id="d_1", time=999, features=EXAMPLES[1].features, label=False, weight=1.0)]
    assert compare(relabelled, {}, Policy(), 0.5, 0.0)[0].frauds == 3, "the last verdict counts"
    with pytest.raises(ValueError, match="some of both kinds"):
        compare(EXAMPLES[:4], {}, Policy(), 0.5, 0.0)


def test_a_model_is_not_judged_by_what_it_has_learned() -> None:
    corrections = [msgspec.structs.replace(EXAMPLES[n], label=False, replaces=Replaced(True, 1.0)) for n in (1, 3)]
    numbered = list(enumerate([*EXAMPLES, *corrections]))
    assert unlearned(numbered, 3) == [EXAMPLES[3], corrections[1], *EXAMPLES[4:]], "the other correction is of features that were learned"
    assert unlearned(numbered[2:], 3) == unlearned(numbered, 3), "also where the log has lost what was learned"
    assert unlearned(list(reversed(numbered)), 3)[0] == corrections[1], "and in whatever order"
    assert unlearned(numbered, len(numbered)) == []


def test_the_command_compares_on_later_verdicts_and_says_so(tmp_path: Path) -> None:
    student = Student(Policy())
    for offset, e in enumerate(EXAMPLES):
        student.take(offset, e)
    (tmp_path / "model.json").write_bytes(student.write(KEY))
    (tmp_path / "key.pub").write_text(bytes(KEY.verify_key).hex())
    later = [msgspec.structs.replace(e, example_id=f"{e.example_id}0000") for e in EXAMPLES[2:]]

    def compared(examples: list[Example], *more: str) -> Result:
        log = write(tmp_path / "examples.jsonl", "examples", [(e.example_id.encode(), encode_example(e)) for e in examples])
        arguments = ["models", "compare", str(tmp_path / "model.json"), "--log", str(log), "--json", *more]
        return CliRunner().invoke(main, arguments, env={"OFFHOOK_MODEL_PUBLIC_KEY_FILE": str(tmp_path / "key.pub")})

    result = compared([*EXAMPLES, *later])
    assert result.exit_code == 0, result.output
    assert {(row["frauds"], row["benign"]) for row in json.loads(result.stdout)} == {(2, 10)}
    assert "from offset 14 of examples on" in result.stderr
    assert "made from" not in result.stderr
    result = compared([*EXAMPLES, *later], "--learned-too")
    assert {(row["frauds"], row["benign"]) for row in json.loads(result.stdout)} == {(6, 20)}
    assert result.stderr == ""
    result = compared(EXAMPLES)
    assert result.exit_code == 2
    assert "a snapshot that has learned less" in result.stderr
    unreadable = msgspec.structs.replace(later[0], features={"calls_in_episode": 10**400})
    log = tmp_path / "long.jsonl"
    line = LogRecord("examples", 0, 0, 1000, b"d", msgspec.json.encode(unreadable), ())
    log.write_bytes(encode_line(line))
    result = CliRunner().invoke(main, ["models", "compare", "--log", str(log)])
    assert (result.exit_code, result.stderr) == (2, "Error: invalid_field: features is outside the range that the contract allows\n")
    student.through = 0
    (tmp_path / "model.json").write_bytes(student.write(KEY))
    assert "was made from labelled logs" in compared(EXAMPLES).stderr


def test_a_learned_model_is_not_promoted_at_a_threshold_that_is_not_its_own() -> None:
    result = CliRunner().invoke(main, ["models", "promote", "m_0123456789", "--why", "-", "--by", "-"])
    assert result.exit_code == 2
    assert "--alert is missing" in result.output


def test_the_commands_make_keys_once_and_compare_a_dump_of_examples(tmp_path: Path) -> None:
    run = CliRunner()
    key = tmp_path / "key"
    assert run.invoke(main, ["models", "keygen", str(key)]).exit_code == 0
    assert run.invoke(main, ["models", "keygen", str(key)]).exit_code == 2
    assert (key.stat().st_mode & 0o777, (tmp_path / "key.pub").stat().st_mode & 0o777) == (0o600, 0o644)
    signer = SigningKey(bytes.fromhex(key.read_text()))
    snapshot = tmp_path / "model.json"
    snapshot.write_bytes(Student(Policy()).write(signer))
    log = write(tmp_path / "examples.jsonl", "examples", [(e.example_id.encode(), encode_example(e)) for e in EXAMPLES])
    environment = {"OFFHOOK_MODEL_PUBLIC_KEY_FILE": str(key) + ".pub"}
    result = run.invoke(main, ["models", "compare", str(snapshot), "--log", str(log), "--json"], env=environment)
    assert result.exit_code == 0, result.output
    found = {row["model_id"]: row for row in json.loads(result.output)}
    assert found.keys() == {AS_DECIDED, WEIGHED, read_snapshot(snapshot.read_bytes(), signer.verify_key).id}
    assert len({row["recall"] for name, row in found.items() if name != AS_DECIDED}) == 1, "it has learned nothing beyond the policy"
    (tmp_path / "other.pub").write_text(bytes(KEY.verify_key).hex())
    result = run.invoke(
        main, ["models", "compare", str(snapshot), "--log", str(log)], env={"OFFHOOK_MODEL_PUBLIC_KEY_FILE": str(tmp_path / "other.pub")}
    )
    assert result.exit_code == 2
    assert "wrong_signature" in result.output
