"""No phone number leaves ingest: not in what a replay writes, nor in the state of any line or account."""

import re
from pathlib import Path

import pytest

from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.replay.run import Replay
from pipeline.simulate.run import simulate
from pipeline.wire.log import read_log
from pipeline.wire.pseudonym import Pseudonyms

NUMBER = re.compile(rb"\+[1-9][0-9]{6,14}")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[bytes], Replay]:
    folder = tmp_path_factory.mktemp("numbers")
    world = simulate(11, 250, 3, folder, prior=0.3, lookalikes=0.3)
    numbers = {n for record in read_log(folder / world.log) for n in NUMBER.findall((record.value or b"") + (record.key or b""))}
    replay = Replay(Policy(), Pseudonyms.for_demo(), folder / "said")
    replay.run(read_log(folder / world.log))
    return folder / "said", numbers, replay


def test_the_log_has_numbers_to_find(said: tuple[Path, set[bytes], Replay]) -> None:
    assert len(said[1]) > 500


def test_no_number_in_any_output(said: tuple[Path, set[bytes], Replay]) -> None:
    out, numbers, _ = said
    assert {p.name for p in out.iterdir()} >= {"alerts.jsonl", "dead-letters.jsonl", "decisions.jsonl", "holds.jsonl", "summary.json"}
    assert (out / "alerts.jsonl").stat().st_size > 0
    for file in out.iterdir():
        content = file.read_bytes()
        assert not {n for n in NUMBER.findall(content) if n in numbers}, file.name
        digits = {n[1:] for n in numbers if len(n) > 9}
        assert not [n for n in re.findall(rb"(?<![0-9])[0-9]{9,15}(?![0-9])", content) if n in digits], file.name


def test_no_number_in_any_state(said: tuple[Path, set[bytes], Replay]) -> None:
    _, numbers, replay = said
    states: list[Partition | Router] = [replay._router, *replay._partitions.values()]
    for state in states:
        for key, value in state.changes().items():
            assert not [n for n in NUMBER.findall(key.encode() + value) if n in numbers]
