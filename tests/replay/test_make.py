"""Is a model to start from made of what the labels say, the same each time, and calibrated to where it goes?"""

from pathlib import Path

import pytest
from click.testing import CliRunner
from nacl.signing import SigningKey

from pipeline.__main__ import main
from pipeline.core import rules
from pipeline.core.features import Features
from pipeline.core.kept import row_of
from pipeline.core.learn.prediction import logit
from pipeline.core.learn.scoring import LearnedModel
from pipeline.core.learn.snapshot import read_snapshot
from pipeline.core.policy import Policy
from pipeline.replay.evaluate import Labelled
from pipeline.replay.make import Lesson, lessons_of, taught
from pipeline.replay.score import read_truth
from pipeline.simulate.run import simulate
from pipeline.wire.pseudonym import Pseudonyms

KEY = SigningKey(b"\x31" * 32)
LABELLED = Labelled((), Path(), Policy())
ATTACK = Features(telephony_known=True, call_live=True, unexplained_call=True, caller_never_seen=True, new_device=True, entered=True)
HONEST = Features(telephony_known=True, call_live=False, new_device=False, entered=True)


def lessons() -> list[Lesson]:
    return [
        *(Lesson(f"a{n}", True, 1.0, row_of(ATTACK)) for n in range(60)),
        *(Lesson(f"h{n}", False, 4.0, row_of(HONEST)) for n in range(900)),
    ]


def quiet(done: int, at: int) -> None:
    """Nobody watches."""


def test_the_order_of_the_lessons_does_not_count_and_the_prior_is_that_of_the_place() -> None:
    one = taught(LABELLED, lessons(), 1e-4, quiet)
    other = taught(LABELLED, lessons()[::-1], 1e-4, quiet)
    assert one.write(KEY) == other.write(KEY)
    assert one.through == 0, "of the topic it has read nothing"
    likelier = taught(LABELLED, lessons(), 1e-3, quiet)
    scores = []
    for student in (one, likelier):
        model = LearnedModel(read_snapshot(student.write(KEY), KEY.verify_key), Policy())
        attack, honest = (model.score(f, rules.hits(f, Policy())).log_odds for f in (ATTACK, HONEST))
        assert attack > honest + 4
        scores.append(attack)
    assert scores[1] - scores[0] == pytest.approx(logit(1e-3) - logit(1e-4), abs=1e-6)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("make")
    simulate(3, 150, 6.0, folder, history_days=0, prior=0.5)
    return folder


def test_what_is_learned_from_is_what_challenges_were_assessed_by(simulated: Path) -> None:
    labelled = Labelled((simulated / "log.jsonl",), simulated / "truth.jsonl", Policy())
    found, counts = lessons_of(labelled, 1, Pseudonyms.for_demo(), (), quiet)
    assert counts["takeover"] > 5
    frauds = [lesson for lesson in found if lesson.label]
    assert 0 < sum(lesson.weight for lesson in frauds) <= counts["takeover"] + 1e-9, "those of a takeover share its weight"
    assert {lesson.weight for lesson in found if not lesson.label} <= {1.0, 4.0}
    story = next(truth.story for truth in read_truth(labelled.truth) if truth.label == "takeover" and not truth.history)
    left, fewer = lessons_of(labelled, 1, Pseudonyms.for_demo(), (story,), quiet)
    assert fewer["takeover"] < counts["takeover"]
    assert len(left) < len(found)


def test_too_few_to_learn_from_is_said(simulated: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(bytes(KEY).hex())
    arguments = ["--log", simulated / "log.jsonl", "--truth", simulated / "truth.jsonl", "--demo-key", "--key", key]
    result = CliRunner().invoke(main, ["models", "make", *map(str, arguments), "--out", str(tmp_path / "m.json")])
    assert result.exit_code == 1
    assert "at least 1000 are needed" in result.output
    assert not (tmp_path / "m.json").exists()
