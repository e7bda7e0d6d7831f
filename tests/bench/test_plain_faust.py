"""Does the plain Faust agent of the bench leave anything behind? Faust makes a directory for its tables, whether there are any or not."""

import time
from pathlib import Path

import pytest

from tests.bench.throughput import plain_worker

NO_BROKER = "127.0.0.1:1"  # the directory is made before anybody is asked


def test_its_directory_is_a_temporary_one_and_gone_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with plain_worker(NO_BROKER, "bench-test.") as worker:
        deadline = time.monotonic() + 60
        while worker.poll() is None and not list(temporary.glob("*/v1/tables")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert list(temporary.glob("*/v1/tables")), "it has ended before it made one"
    assert list(here.iterdir()) == list(temporary.iterdir()) == []
