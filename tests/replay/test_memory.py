"""Does a replay's memory stay the same when the log is ten times as long?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from pipeline.wire.log import encode_line
from tests.replay.raw import START, Log

ACCOUNTS = 50


def long_log(path: Path, calls: int) -> Path:
    """Calls on the lines of a few accounts, one every 20 s, and a code for each account now and then."""
    with zstandard.open(path, "wb") as f:
        log = Log()
        for n in range(ACCOUNTS):
            log.linked(f"acc-{n}", f"+4477009{n:05}", START)
        for n in range(calls):
            at = START + 60_000 + n * 20_000
            account = n % ACCOUNTS
            log.call(f"+4477009{account:05}", at, f"call-{n}", talk_s=12, peer=f"+4477008{n % 700:05}")
            if n % 100 == account % 10:
                log.challenge(f"acc-{account}", f"+4477009{account:05}", at, f"c{n}", f"dev-{account}")
            if n % 50 == 49:
                for record in log.by_arrival():
                    f.write(encode_line(record))
                log.records.clear()
    return path


def peak_rss_mb(log: Path, out: Path) -> float:
    """Replay in a process of its own; its greatest resident size."""
    command = [sys.executable, "-m", "pipeline", "replay", str(log), "--demo-key", "--out", str(out), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said.decode()
    return usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    short = peak_rss_mb(long_log(tmp_path / "short.jsonl.zst", 3_000), tmp_path / "short")
    long = peak_rss_mb(long_log(tmp_path / "long.jsonl.zst", 30_000), tmp_path / "long")
    assert long < short + 20, f"{short:.0f} MB for the short log, {long:.0f} MB for one ten times as long"
