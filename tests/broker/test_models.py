"""Verdicts to a model that scores, on a real broker: examples, learn, models, promote, detect; with kills, and with what was tampered."""

import asyncio
import json
import random
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from nacl.signing import SigningKey

from pipeline.__main__ import main
from pipeline.core.events import Activation, Disposed
from pipeline.core.learn.snapshot import read_snapshot
from pipeline.core.learn.student import Student
from pipeline.core.model import WEIGHED
from pipeline.core.policy import Policy, policy_from
from pipeline.core.sampling import taken
from pipeline.live.changelog import ChangelogReader
from pipeline.live.models import LiveShelf, ModelMissing
from pipeline.live.outbox import Outgoing
from pipeline.replay.models import Dump
from pipeline.wire.codec import decode_example, encode_event, encode_example
from pipeline.wire.dead_letter import parse
from pipeline.wire.log import LogRecord
from tests.broker.expected import assert_outputs, assert_state, refold
from tests.broker.harness import Deployment
from tests.broker.test_crashes import crash, requests
from tests.core.learn.test_student import world

pytestmark = pytest.mark.broker
KEY = SigningKey(b"\x11" * 32)
EVERY = 5  # examples between two snapshots
POLICY = f"[learning]\nsnapshot_examples = {EVERY}\nnegatives = 0.0\ncontrol = 1.0\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The settings that name files: keys and policy."""
    contents = {"model_key_file": bytes(KEY).hex(), "model_public_key_file": bytes(KEY.verify_key).hex(), "policy_file": POLICY}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    return {name: tmp_path / name for name in contents}


def offhook(live: Deployment, *arguments: str, fails: bool = False) -> str:
    result = CliRunner().invoke(main, list(arguments), env=live.environment)
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def verdicts(live: Deployment) -> list[Outgoing]:
    """A verdict on every challenge that was entered: a fraud where detect said so, or where chance did, for want of a truth."""
    found = {}
    for kept in live.read("decisions"):
        made = json.loads(kept.value or b"{}")
        if made["stage"] == "at_entry":
            found[made["account_id"], made["otp_id"]] = (made["level"] == "alert" or taken(made["otp_id"], 0.2), made["time"])
    return [
        Outgoing(account.encode(), encode_event(Disposed(
            event_id=f"v-{account}-{otp_id}", account_id=account, occurred_at=time + 60_000, arrived_at=time + 61_000, otp_id=otp_id,
            verdict="true_positive" if fraud else "benign", source="analyst",
        )))
        for (account, otp_id), (fraud, time) in sorted(found.items())
    ]  # fmt: skip


def snapshots(live: Deployment) -> list[tuple[str, bytes]]:
    """What stands in ``models`` of snapshots, one that was written twice once."""
    found = [((k.key or b"").decode(), k.value or b"") for k in live.read("models")]
    return list(dict.fromkeys(pair for pair in found if pair[0].startswith("m_")))


def dumped(live: Deployment, topic: str) -> list[LogRecord]:
    return [LogRecord(topic, k.partition, k.offset, k.timestamp, k.key, k.value, k.headers) for k in live.read(topic)]


def test_verdicts_teach_a_model_that_is_promoted_scores_and_is_taken_back(
    deploy: Callable[..., Deployment], recorded: list[Outgoing], files: dict[str, Path]
) -> None:
    live = deploy(partitions=2, **files)
    policy = policy_from(tomllib.loads(POLICY))
    first, second, third = recorded[:-1000], recorded[-1000:-150], recorded[-150:]
    live.append("events", first)
    detect, learn = live.start("detect"), live.start("learn")
    live.settled(("detect",))
    live.append("events", verdicts(live))
    live.settled(("detect",))
    live.until(lambda: len(snapshots(live)) >= 1, "a first snapshot")
    learn.kill()
    learn.wait()
    learn = live.start("learn")
    live.settled(("learn",))
    student, expected = Student(policy), []
    for kept in live.read("examples"):
        student.take(kept.offset, decode_example(kept.value or b""))
        if student.due:
            expected.append(student.write(KEY, f"learned live through offset {student.through}"))
    assert len(expected) >= 3
    assert [data for _, data in snapshots(live)] == expected, "killed on the way, it has learned what one learns that never stopped"

    newest = snapshots(live)[-1][0]
    why = ("--why", "a test", "--by", "nobody")
    assert "not in the topic" in offhook(live, "models", "promote", "m_0000000000", "--alert", "0.4", *why, fails=True)
    offhook(live, "models", "promote", newest, "--challenger", WEIGHED, "--alert", "0.4", *why)
    live.append("events", second)
    live.settled(("detect",))
    assert newest in offhook(live, "models", "list")
    assert newest in offhook(live, "models", "compare", newest, "--learned-too")
    oldest = snapshots(live)[0][0]
    assert "which none of the models has learned" in offhook(live, "models", "compare", oldest)
    offhook(live, "models", "rollback", *why)
    live.append("events", third)
    live.finish({"detect": detect, "learn": learn})

    expected_said = refold(live.read("events"), policy=policy, models=Dump(policy, KEY.verify_key, dumped(live, "models")))
    assert_outputs(live, expected_said)
    assert_state(live, expected_said)
    made = [json.loads(k.value or b"{}") for k in live.read("decisions")]
    by_model = {name: [m for m in made if m["model_id"] == name] for name in (WEIGHED, newest)}
    assert len(by_model[newest]) > 10
    assert all(m["threshold"] == 0.4 and [c["model_id"] for c in m["challengers"]] == [WEIGHED] for m in by_model[newest])
    assert all("challengers" not in m for m in by_model[WEIGHED])
    assert all(m["control"] for m in made if m["level"] == "alert")
    kept, written = {newest}, [name for name, _ in snapshots(live)]
    command = ("models", "prune", "--keep", "1")
    assert f"{len(written) - len(kept | {written[-1]})} of {len(written)} snapshots" in offhook(live, *command)
    assert newest in offhook(live, "models", "list")
    assert "deleted" in offhook(live, *command, "--yes")
    left = offhook(live, "models", "list")
    assert [name for name in written if name in left] == [name for name in written if name in kept | {written[-1]}]
    audited = json.loads(offhook(live, "audit", "--accounts", "100%", "--json", "--quiet"))
    assert (audited["mismatches"], audited["skipped"]) == ([], {}), "the audit folds with the models that the log activates"
    assert audited["checked"]["decisions"] > 10


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_learner_that_dies_at_twenty_random_points_writes_the_same_snapshots(
    deploy: Callable[..., Deployment], files: dict[str, Path]
) -> None:
    """Every snapshot that one who never stopped would have written is there, byte for byte, and no other; and each dead letter."""
    live = deploy(partitions=1, batch_records=5, **files)
    lessons: list[bytes] = [encode_example(example) for example in world(600)]
    lessons[40::100] = [b"nonsense"] * len(lessons[40::100])
    live.append("examples", [Outgoing(b"e%d" % n, lesson) for n, lesson in enumerate(lessons)])
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # pytest shows it when the test fails
    crash(live, "learn", requests(random.Random(seed), 20))
    student, expected = Student(policy_from(tomllib.loads(POLICY))), []
    for offset, lesson in enumerate(lessons):
        if lesson == b"nonsense":
            student.through = offset + 1
            continue
        student.take(offset, decode_example(lesson))
        if student.due:
            expected.append(student.write(KEY, f"learned live through offset {student.through}"))
    assert len(expected) > 100
    assert [data for _, data in snapshots(live)] == expected
    letters = [parse(kept.headers, kept.key, kept.value) for kept in live.read("dead-letters")]
    assert {(letter.offset, letter.reason) for letter in letters} == {(n, "not_json") for n in range(40, 600, 100)}
    assert live.committed("learn")["examples", 0] == len(lessons)


def test_what_was_tampered_with_never_scores_and_never_ends_detect(
    deploy: Callable[..., Deployment], recorded: list[Outgoing], files: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    live = deploy(partitions=2, **files)
    data = Student(Policy()).write(KEY)
    true = read_snapshot(data, KEY.verify_key).id
    live.append("models", [Outgoing(true.encode(), data.replace(b'"examples":0', b'"examples":9')), Outgoing(b"a_nonsense", b"{}")])
    assert "tampered" in offhook(live, "models", "list")
    assert "tampered" in offhook(live, "models", "promote", true, "--alert", "0.4", "--why", "-", "--by", "-", fails=True)
    live.append("events", [Outgoing(None, encode_event(Activation(activation_id="a_1", arrived_at=1, champion=true)))])
    live.append("events", recorded[:1500])
    detect = live.start("detect")
    live.finish({"detect": detect})
    assert {json.loads(k.value or b"{}")["model_id"] for k in live.read("decisions")} == {WEIGHED}
    policy = policy_from(tomllib.loads(POLICY))
    assert_outputs(live, refold(live.read("events"), policy=policy, models=Dump(policy, KEY.verify_key, dumped(live, "models"))))
    assert f"the model {true} is refused and does not score: tampered" in capfd.readouterr().err


def test_a_model_that_is_nowhere_is_waited_for_and_then_missed(deploy: Callable[..., Deployment]) -> None:
    live = deploy(partitions=1)
    reader = partial(ChangelogReader, live.settings.connection())
    data = Student(Policy()).write(KEY)

    async def look() -> None:
        shelf = LiveShelf(Policy(), KEY.verify_key, live.settings.topic("models"), reader, patience_s=1.0)
        with pytest.raises(ModelMissing, match="no snapshot of m_0000000000"):
            await shelf.load(["m_0000000000"])
        with pytest.raises(ModelMissing, match="OFFHOOK_MODEL_PUBLIC_KEY_FILE"):
            await LiveShelf(Policy(), None, live.settings.topic("models"), reader).load(["m_0000000000"])

    asyncio.run(look())
    true = read_snapshot(data, KEY.verify_key).id

    async def wait() -> None:
        shelf = LiveShelf(Policy(), KEY.verify_key, live.settings.topic("models"), reader)
        waiting = asyncio.create_task(shelf.load([true]))
        await asyncio.sleep(0.7)
        await asyncio.to_thread(live.append, "models", [Outgoing(true.encode(), data)])
        await waiting
        model = shelf.get(true)
        assert model is not None
        assert model.id == true

    asyncio.run(wait())
