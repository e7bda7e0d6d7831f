"""Does `make live` show alerts, and end everything it started?"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]


def processes_with(word: str) -> list[str]:
    said = subprocess.run(["ps", "-A", "-o", "pid=,args=", "-ww"], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if word in line]


def environments_with(word: str) -> list[str]:
    """Processes whose environment holds the word (where the system shows it)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_alerts_are_shown_and_everything_ends(broker: str, tmp_path: Path) -> None:
    command = [sys.executable, "deploy/live_demo.py", "--accounts", "600", "--minutes", "30", "--attacks", "60"]
    work, output = tmp_path / "work", tmp_path / "said"
    work.mkdir()
    environment = os.environ | {"KAFKA_BOOTSTRAP": broker, "TMPDIR": str(work), "PYTHONUNBUFFERED": "1"}
    with output.open("wb") as out, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT) as demo:
        try:
            until = time.monotonic() + 150
            while time.monotonic() < until and demo.poll() is None and "ms after the last fact" not in output.read_text():
                time.sleep(0.2)
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
        finally:
            if demo.poll() is None:
                demo.kill()
    said = output.read_text()
    prefix = re.search(r"live-[0-9a-f]+\.", said)
    assert prefix is not None, said
    assert "ms after the last fact" in said
    assert demo.returncode == 0, said
    assert "Stopping the workers" in said
    assert environments_with(f"OFFHOOK_PREFIX={prefix.group()}") == []
    assert processes_with(str(work)) == []
    assert list(work.iterdir()) == []
