"""Several stages from one command: they end together, whatever ends the first; and what they log, keep and leave behind meanwhile."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.exits import BROKERS
from pipeline.wire.log import LogRecord
from tests.broker.harness import ROOT, Deployment
from tests.broker.test_monitoring_live import wait_until_ready

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")
LIBRARIES = ("faust", "mode", "aiokafka", "kafka", "asyncio", "aiohttp")


class Command:
    """``offhook worker`` for all stages, as an operator starts it, its log in a file."""

    def __init__(self, live: Deployment, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.ports = self._neighbours()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment
        environment |= {"OFFHOOK_JSON_LOGS": "true", "OFFHOOK_LOG_LEVEL": "info", "OFFHOOK_HTTP_PORT": str(self.ports[0])}
        environment |= {"TMPDIR": str(self.temporary)}
        command = [sys.executable, "-m", "pipeline", "worker", "--stages", ",".join(STAGES)]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=log, start_new_session=True)

    @staticmethod
    def _neighbours() -> tuple[int, int, int]:
        """Three free ports side by side, below those that the system gives to connections, of which there are hundreds here."""
        for first in range(20_000 + os.getpid() % 5_000, 32_000, 3):
            ports = first, first + 1, first + 2
            with contextlib.ExitStack() as bound, contextlib.suppress(OSError):
                for port in ports:
                    bound.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return ports
        raise AssertionError("no three ports side by side are free")

    def children(self) -> list[int]:
        """The workers that it has started."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def wait_until_ready(self) -> None:
        for port in self.ports:
            wait_until_ready(port, within_s=60)

    def lines(self) -> list[dict[str, object]]:
        """What was logged; every line must be an object."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def start(deploy: Callable[..., Deployment], tmp_path: Path) -> Iterator[Callable[[Deployment], Command]]:
    started: list[Command] = []

    def go(live: Deployment) -> Command:
        started.append(Command(live, tmp_path))
        return started[-1]

    yield go
    for command in started:
        for pid in [*command.children(), command.process.pid]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        command.process.wait(10)


def until_gone(pids: list[int], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"{left} live on"
        time.sleep(0.1)


def test_they_end_with_the_command_that_was_killed_and_leave_nothing_behind(
    deploy: Callable[..., Deployment], start: Callable[[Deployment], Command], log: list[LogRecord]
) -> None:
    live = deploy()
    live.load([*log[:1500], LogRecord("telephony", 0, 0, log[1500].ts, None, b'{"phone": "+447700900123", "type": "cal')])
    command = start(live)
    command.wait_until_ready()
    live.settled()
    children = command.children()
    assert len(children) == len(STAGES)
    command.process.kill()
    command.process.wait(10)
    until_gone(children)
    assert list(command.temporary.iterdir()) == [], "no directory stays behind"

    lines = command.lines()
    assert {str(line["level"]) for line in lines} <= {"info", "warning", "error"}
    ours = [line for line in lines if str(line["logger"]).startswith("pipeline.")]
    assert any("is ours, epoch" in str(line["message"]) for line in ours)
    for line in ours:
        assert line["level"] == "info" or line["action"], line
    text = (command.folder / "log").read_text()
    people = {record.key.decode() for record in log if record.key is not None} | {"7700900123"}
    people |= {kept.key.decode() for kept in live.read("events") if kept.key is not None}
    assert [person for person in people if person in text] == []


def test_they_end_together_when_one_is_killed_or_all_are_told_to(
    deploy: Callable[..., Deployment], start: Callable[[Deployment], Command]
) -> None:
    live = deploy()
    command = start(live)
    command.wait_until_ready()
    children = command.children()
    os.kill(children[1], signal.SIGKILL)
    assert command.process.wait(60) == 128 + signal.SIGKILL, "the platform starts it again"
    until_gone(children)


def test_without_its_topics_a_worker_of_any_stage_says_what_to_do(broker: str, topic_prefix: str) -> None:
    live = Deployment(broker, topic_prefix)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment | {"OFFHOOK_JSON_LOGS": "true"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "pipeline", "worker", "--stages", stage], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for stage in ("route", "detect", "audit")
    ]
    for worker in workers:
        said = worker.communicate(timeout=120)[1]
        assert worker.returncode == BROKERS.code
        line = json.loads(said.splitlines()[-1])
        assert f"{topic_prefix}events: missing" in line["message"]
        assert line["action"] == BROKERS.action
        assert "Traceback" not in said
