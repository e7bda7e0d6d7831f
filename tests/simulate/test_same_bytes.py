"""The same seed gives the same bytes, whoever asks and however Python hashes."""

import hashlib
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.simulate import shelves
from pipeline.simulate.run import simulate

CALL = """
import sys
from pathlib import Path
from pipeline.simulate.run import simulate
simulate(3, 120, 3, Path(sys.argv[1]), prior=0.3, lookalikes=0.3)
"""


def digest(out: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.iterdir())}


def test_same_bytes_in_another_process_with_other_hashes(tmp_path: Path) -> None:
    simulate(3, 120, 3, tmp_path / "here", prior=0.3, lookalikes=0.3)
    expected = digest(tmp_path / "here")
    assert sorted(expected) == ["about.json", "log.jsonl", "policy.toml", "truth.jsonl"]
    for hash_seed in ("0", "4242"):
        out = tmp_path / hash_seed
        subprocess.run([sys.executable, "-c", CALL, str(out)], check=True, env=os.environ | {"PYTHONHASHSEED": hash_seed})
        assert digest(out) == expected


def test_another_seed_gives_another_log(tmp_path: Path) -> None:
    simulate(3, 50, 2, tmp_path / "a")
    simulate(4, 50, 2, tmp_path / "b")
    assert digest(tmp_path / "a")["log.jsonl"] != digest(tmp_path / "b")["log.jsonl"]


def test_records_that_went_over_the_disk_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(3, 120, 3, tmp_path / "memory")
    monkeypatch.setattr(shelves, "IN_MEMORY", 700)
    simulate(3, 120, 3, tmp_path / "disk")
    assert digest(tmp_path / "disk") == digest(tmp_path / "memory")


@pytest.mark.parametrize("compress", ["gz", "zst"])
def test_compressed_log_has_the_same_lines(tmp_path: Path, compress: str) -> None:
    from pipeline.wire.log import read_log

    simulate(3, 60, 2, tmp_path / "plain")
    one = simulate(3, 60, 2, tmp_path / "one", compress=compress)  # type: ignore[arg-type]
    simulate(3, 60, 2, tmp_path / "two", compress=compress)  # type: ignore[arg-type]
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    lines = [(r.topic, r.partition, r.offset, r.ts, r.key, r.value) for r in read_log(tmp_path / "plain" / "log.jsonl")]
    assert [(r.topic, r.partition, r.offset, r.ts, r.key, r.value) for r in read_log(tmp_path / "one" / one.log)] == lines


def test_progress_is_told_and_ends_at_one(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    simulate(3, 500, 1, tmp_path, history_days=1, progress=lambda fraction, text: told.append((fraction, text)))
    fractions = [f for f, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(text for _, text in told)


@pytest.mark.parametrize(
    "wrong",
    [{"accounts": 0}, {"hours": 0}, {"history_days": -1}, {"stories": ["V99"]}, {"start": datetime(2026, 3, 2, 8)}],  # noqa: DTZ001
)
def test_arguments_that_make_no_world_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    arguments = {"seed": 1, "accounts": 5, "hours": 1, "out": tmp_path} | wrong
    with pytest.raises(ValueError, match=r"."):
        simulate(**arguments)  # type: ignore[arg-type]
