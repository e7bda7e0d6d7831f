"""What does a platform do? It starts a worker again that has ended by itself: the part of systemd or Kubernetes in a test."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from tests.broker.harness import ROOT, Deployment

PAUSE_S = 0.5  # between an end and the next start; a platform waits longer each time


class Keeper:
    """Runs one worker of each stage until ``finish``; ``ended`` tells which ended by themselves, and with which exit code."""

    def __init__(self, live: Deployment, stages: Iterable[str], **settings: Any) -> None:
        self._live, self._stages, self._settings = live, tuple(stages), settings
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper")
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.ended: list[tuple[str, int]] = []

    def __enter__(self) -> "Keeper":
        for stage in self._stages:
            self._start(stage)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        for worker in self.workers.values():
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait(10)

    def _start(self, stage: str) -> None:
        self.workers[stage] = worker = self._live.start(stage, **self._settings)
        self._live.workers.remove(worker)  # that one ends by itself is the matter here, and no failure

    def _keep(self) -> None:
        while not self._stop.wait(PAUSE_S):
            with self._lock:
                for stage, worker in list(self.workers.items()):
                    if worker.poll() is not None:
                        self.ended.append((stage, worker.returncode))
                        self._start(stage)

    def finish(self, within_s: float = 120) -> None:
        """Wait until all is read, and end the workers gracefully, upstream first; asserts exit code 0."""
        self._live.settled(self._stages, within_s)
        for stage in ("ingest", "route", "detect"):
            if stage in self._stages:
                self._live.settled((stage,), within_s)
                with self._lock:
                    worker = self.workers.pop(stage)
                assert self._live.stop(worker) == 0, f"{stage} did not end gracefully"


def wait_until(true: Any, what: str, within_s: float = 90) -> None:
    """Wait for a condition; raises AssertionError with ``what`` when it does not come."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"{what} within {within_s} s"
        time.sleep(0.2)


def launch(live: Deployment, stage: str, **settings: object) -> "subprocess.Popen[str]":
    """Start a worker whose standard error is read by the test, see ``last_words``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment
    environment |= {f"OFFHOOK_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "pipeline", "worker", "--stages", stage]
    worker = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
    live.workers.append(worker)  # type: ignore[arg-type]  # to be ended with the others when the test fails
    return worker


def last_words(live: Deployment, worker: "subprocess.Popen[str]", code: int, within_s: float = 120) -> str:
    """Wait until a worker has ended by itself, assert its exit code, and return what it said."""
    said = worker.communicate(timeout=within_s)[1]
    live.workers.remove(worker)  # type: ignore[arg-type]
    assert worker.returncode == code, said
    return said
