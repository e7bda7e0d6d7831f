"""How do several stages run from one command? As one process each; if one ends, all end, and the platform starts them again."""

import os
import signal
import subprocess
import sys
import threading
import time

GRACE_S = 45.0  # from SIGTERM to SIGKILL, below the 60 s that the deployment grants
POLL_S = 0.1


def run_children(stages: tuple[str, ...], http_port: int) -> int:
    """Start a worker per stage with health ports from ``http_port`` up (0: any free one), pass SIGTERM and SIGINT on, and wait.

    Returns 0 when all ended gracefully because they were told to, else the first exit code that is not 0, or 1.
    """
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: told.append(received))
    children = [_start(stage, http_port and http_port + index) for index, stage in enumerate(stages)]
    while not told and all(child.poll() is None for child in children):
        time.sleep(POLL_S)
    for child in children:
        if child.poll() is None:
            child.terminate()
    codes = [_end(child, GRACE_S) for child in children]
    bad = next((code for code in codes if code), 0)
    return bad if bad else int(not told)


def _start(stage: str, http_port: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OFFHOOK_HTTP_PORT": str(http_port)}
    command = [sys.executable, "-m", "pipeline", "worker", "--stages", stage, "--with-parent"]
    # A session of its own, so that Ctrl-C at a terminal reaches the children once: through us. And a pipe that nobody writes to.
    return subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.PIPE)  # noqa: S603 (our own interpreter)


def end_with_parent() -> None:
    """End this process gracefully when the one that started it is gone, were it killed without a word: then standard input ends."""
    threading.Thread(target=_wait_for_the_end, name="parent", daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock a thread must not hold while Python ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _end(child: "subprocess.Popen[bytes]", grace_s: float) -> int:
    try:
        code = child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    return code if code >= 0 else 128 - code
