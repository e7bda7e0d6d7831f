"""What do the tests of deploy/ share? Where its files are, how to read them, and the tools that may or may not be installed."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings import Settings

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXTS = [DEPLOY / "Dockerfile", *sorted(p for p in DEPLOY.rglob("*") if p.suffix in (".yaml", ".json", ".env", ".toml", ".md"))]


def documents(path: Path) -> list[Any]:
    """The YAML documents of a file."""
    return [d for d in yaml.safe_load_all(path.read_text()) if d is not None]


def document(path: Path) -> Any:
    """The one YAML document of a file."""
    (only,) = documents(path)
    return only


def tool(name: str, package: str) -> str:
    """The path of a command, or the test is skipped and says what to install."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed ({package})")
    return path


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that must succeed; returns what it printed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settings_of(variables: dict[str, str], folder: Path) -> Settings:
    """Read settings as the worker would, with a file in ``folder`` for each one that would be mounted."""
    for name, value in variables.items():
        if name.endswith("_FILE") and value:
            stand_in = folder / name
            stand_in.write_text("")
            variables = variables | {name: str(stand_in)}
    return Settings.from_env(variables)
