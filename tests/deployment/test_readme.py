"""Does deploy/README.md name files, tests and commands that exist?"""

import re
from typing import Any

from deployed import DEPLOY, PROJECT, ROOT

from pipeline.__main__ import main
from pipeline.wire.pseudonym import Pseudonyms

MADE = ("pseudonym-key", "grafana-password", "model-key", "model-key.pub")  # by the operator
README = (DEPLOY / "README.md").read_text()


def test_files_that_are_named_exist() -> None:
    named = {
        word
        for word in re.findall(r"[\w./-]+/[\w./-]*\w", README)
        if word.startswith(("deploy/", "tests/", "kubernetes/", "prometheus/", "grafana/"))
    }
    assert len(named) > 8
    made_by_the_operator = {"deploy/secrets", *(f"deploy/secrets/{name}" for name in MADE)}
    for name in named - made_by_the_operator:
        assert (ROOT / name).exists() or (DEPLOY / name).exists(), name


def test_commands_that_are_named_exist() -> None:
    named = set(re.findall(r"(?m)(?:^\s*|`|bin/)offhook ([a-z-]+)(?: ([a-z]+))?", README))
    assert {("topics", "create"), ("pseudonyms", "keygen"), ("replay", "")} <= named
    for group, name in named:
        command: Any = main.commands[group]
        assert not name or name in command.commands


def test_version_is_the_one_of_the_project() -> None:
    assert set(re.findall(r"offhook:(\d[\w.]*)", README)) == {PROJECT["version"]}


def test_key_file_for_a_rotation_is_read_as_described() -> None:
    old, new = "k1 = " + "11" * 32, "k2 = " + "22" * 32
    both = Pseudonyms.from_text(f"{old}\n{new}\nrouting = k1\npeers = k2, k1\n")
    after = Pseudonyms.from_text(f"{old}\n{new}\nrouting = k1\npeers = k2\n")
    before = Pseudonyms.from_text(old)
    number = "+447700900123"
    assert both.line(number) == after.line(number) == before.line(number), "the routing key stays"
    assert both.peer(number) == after.peer(number) + before.peer(number)
