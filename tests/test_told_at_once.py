"""Does a long run say what it has failed on, and how to run that again, as soon as it fails? Its other parts may take hours."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONG_RUN = """
from pathlib import Path
import pytest
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from tests.live.test_machine import COMMON

class Machine(RuleBasedStateMachine):
    @rule()
    def go_wrong(self):
        raise AssertionError("it has gone wrong")

@pytest.mark.soak
def test_that_fails():
    run_state_machine_as_test(Machine, settings=COMMON)

@pytest.mark.soak
def test_that_comes_after_it():
    said = Path("said").read_text()
    assert "it has gone wrong" in said
    assert "state.go_wrong()" in said
    assert "@reproduce_failure(" in said
"""


def test_a_long_run_says_what_it_failed_on_before_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "test_long_run.py").write_text(LONG_RUN)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conftest",
        "-c",
        ROOT / "pyproject.toml",
        "-m",
        "soak",
        "test_long_run.py",
    ]
    with (tmp_path / "said").open("w") as said:
        done = subprocess.run(
            [*command, "--rootdir", tmp_path],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=said,
            check=False,
            timeout=120,
        )
    assert done.returncode == 1
    assert "1 failed, 1 passed" in (tmp_path / "said").read_text()
