"""Does the audit find what differs, and nothing else? On a real broker: a healthy run with kills, faults of every kind, a log that is cut."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from pipeline.live.changelog import Image
from pipeline.live.outbox import Outgoing
from pipeline.wire.log import LogRecord
from tests.broker.harness import ROOT, Deployment

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")


def audit(live: Deployment, *options: str, accounts: str = "100%") -> tuple[int, dict[str, Any]]:
    """Run the command; its exit code and what it says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment
    command = [sys.executable, "-m", "pipeline", "audit", "--accounts", accounts, "--json", "--quiet", *options]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert ended.returncode in (0, 1), ended.stderr.decode()
    said: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, said


def detected(live: Deployment, recorded: Iterable[Outgoing]) -> None:
    """Have detect fold recorded events, killed once on the way."""
    live.append("events", recorded)
    worker = live.start("detect")
    live.settled(("detect",))
    assert live.stop(worker) == 0


def newest(live: Deployment, topic: str = "detect-state") -> dict[int, Image]:
    images: dict[int, Image] = {}
    for kept in live.read(topic):
        assert kept.key is not None
        images.setdefault(kept.partition, Image()).take(kept.key, kept.value)
    return images


def test_a_healthy_run_with_kills_has_no_mismatch(deploy: Callable[..., Deployment], log: list[LogRecord]) -> None:
    live = deploy()
    live.load(log)
    workers = {stage: live.start(stage) for stage in STAGES}
    for stage in ("detect", "ingest", "detect"):
        live.settled(("ingest",))
        workers[stage].kill()
        workers[stage].wait()
        workers[stage] = live.start(stage)
    while_running = audit(live)
    live.finish(workers, within_s=90)
    code, said = audit(live)
    for ended, found in (while_running, (code, said)):
        assert (ended, found["mismatches"]) == (0, [])
    accounts = {kept.key for kept in live.read("events") if kept.key is not None}
    assert (said["accounts"], said["compared"], said["skipped"]) == (len(accounts), len(accounts), {})
    assert said["checked"]["state"] == len(accounts)
    assert said["checked"]["decisions"] == len({k.value for k in live.read("decisions")})
    assert said["checked"]["alerts"] == len({k.value for k in live.read("alerts")}) > 5
