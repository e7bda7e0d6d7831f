"""Do the documents say what is there? Every target, command, topic, setting and metric they name exists, and each has its place in them."""

import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest

from pipeline.__main__ import main
from pipeline.core.policy import Policy
from pipeline.live.metrics import METRICS
from pipeline.settings import SETTINGS
from pipeline.settings import table as settings_table
from pipeline.wire.topics import TOPICS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted(ROOT.glob("deploy/**/*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("schemas/*.md"))]
TEST_SETTINGS = {"OFFHOOK_REQUIRE_BROKER"}  # read by the tests themselves
SUFFIXES = ("", "_bucket", "_count", "_sum", "_created")  # what Prometheus makes of a metric's name
MADE_BY_READER = ("deploy/secrets",)  # what the documents tell to make


@cache
def text(path: Path) -> str:
    return path.read_text()


@cache
def everything() -> str:
    return "\n".join(text(path) for path in DOCUMENTS)


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][a-z-]*):.*?## ", text(ROOT / "Makefile"), re.MULTILINE))


@cache
def commands() -> dict[tuple[str, ...], click.Command]:
    """All commands by their words: ("topics", "create")."""
    found: dict[tuple[str, ...], click.Command] = {}

    def walk(words: tuple[str, ...], command: click.Command) -> None:
        found[words] = command
        if isinstance(command, click.Group):
            for name, sub in command.commands.items():
                walk((*words, name), sub)

    walk((), main)
    return found


def code(path: Path) -> list[str]:
    """Everything that stands as code: indented or fenced blocks by line, and what is between backticks."""
    found, fenced = [], False
    for line in text(path).splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found.append(re.sub(r"\s+# .*", "", line).strip())
        else:
            found += re.findall(r"`([^`]+)`", line)
    return found


def called(path: Path) -> list[list[str]]:
    """The words after ``offhook`` wherever it is called."""
    calls = []
    for piece in code(path):
        for match in re.finditer(r"(?:^|[\s/|;&(])(?<!-n )offhook ([^|;&#)\n]+)", f" {piece}"):
            try:
                words = shlex.split(match.group(1).strip())
            except ValueError:
                words = match.group(1).split()
            calls.append(words)
    return calls


def resolve(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The longest command that the words name, and the rest."""
    path: tuple[str, ...] = ()
    while len(path) < len(words) and (*path, words[len(path)]) in commands():
        path = (*path, words[len(path)])
    return path, words[len(path) :]


def documents() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]


@pytest.mark.parametrize("document", documents())
def test_every_make_target_named_exists(document: str) -> None:
    named = {target for piece in code(ROOT / document) for target in re.findall(r"\bmake ([a-z][a-z-]*)", piece)}
    assert named <= make_targets()


@pytest.mark.parametrize("document", documents())
def test_every_command_and_option_named_exists(document: str) -> None:
    for words in called(ROOT / document):
        path, rest = resolve(words)
        assert path, f"{document}: offhook {' '.join(words)}"
        command = commands()[path]
        if isinstance(command, click.Group) and rest:
            assert rest[0].startswith("-"), f"{document}: offhook {' '.join(words)}: there is no {rest[0]}"
        options = {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
        for word in rest:
            if word.startswith("-") and len(word) > 1:
                assert word.partition("=")[0] in options, f"{document}: offhook {' '.join(words)}: there is no {word}"


@pytest.mark.parametrize("document", documents())
def test_every_setting_named_exists(document: str) -> None:
    named = set(re.findall(r"\bOFFHOOK_[A-Z0-9_]+[A-Z0-9]\b(?!\*)", text(ROOT / document)))
    assert named <= {s.variable for s in SETTINGS} | TEST_SETTINGS


@pytest.mark.parametrize("document", documents())
def test_every_metric_named_exists(document: str) -> None:
    named = {name for piece in code(ROOT / document) for name in re.findall(r"\boffhook_[a-z0-9_]+", piece)}
    known = {name + suffix for name in METRICS for suffix in SUFFIXES}
    assert named <= known


@pytest.mark.parametrize("document", documents())
def test_every_file_linked_or_named_exists(document: str) -> None:
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)#:\s]+)\)", text(ROOT / document)):
        assert (folder / target).exists(), f"{document} links to {target}"
    for piece in code(ROOT / document):
        for name in re.findall(r"\b(?:pipeline|tests|deploy|schemas)/[\w./-]*\w", piece):
            if name.startswith(MADE_BY_READER):
                continue
            assert (ROOT / name).exists() or (folder / name).exists(), f"{document} names {name}"


def test_the_readme_names_every_make_target() -> None:
    named = set(re.findall(r"`make ([a-z][a-z-]*)", text(README))) | set(
        re.findall(r"^    make ([a-z][a-z-]*)", text(README), re.MULTILINE)
    )
    assert make_targets() - named == set()


def test_every_command_is_in_a_document() -> None:
    named = {resolve(words)[0] for path in DOCUMENTS for words in called(path)}
    for words in list(named):  # `topics check` beside `offhook topics create`
        named |= {words[:n] for n in range(len(words))}
    loose = {piece.removeprefix("offhook ") for path in DOCUMENTS for piece in code(path)}
    missing = [words for words in commands() if words and words not in named and " ".join(words) not in loose]
    mentioned = [words for words in missing if re.search(rf"\b{' '.join(words)}\b", everything())]
    assert set(missing) - set(mentioned) == set()


def test_every_setting_is_in_a_document() -> None:
    assert [s.variable for s in SETTINGS if s.variable not in everything()] == []


def test_the_table_of_settings_is_what_the_code_says() -> None:
    """Written by ``offhook settings --markdown``."""
    match = re.search(r"<!-- settings.*?-->\n(.*?)<!-- /settings -->", text(README), re.DOTALL)
    assert match is not None
    assert match.group(1).strip() == settings_table().strip()


def test_the_readme_names_every_topic() -> None:
    assert [topic for topic in TOPICS if f"`{topic}`" not in text(README)] == []


def test_the_contents_the_readme_promises() -> None:
    titles = re.findall(r"^## (.+)$", text(README), re.MULTILINE)
    wanted = ["What it catches", "Two commands", "Reading an alert", "Running on your Kafka", "Changing a rule", "Known gaps"]
    assert [title for title in titles if title in wanted] == wanted


def test_no_document_names_a_machine() -> None:
    for path in DOCUMENTS:
        assert not re.search(r"/(?:work|root|home)/", text(path)), path


def block(mark: str) -> str:
    """What stands between the two marks of that name in the README."""
    found = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", text(README), re.DOTALL)
    assert found, f"the README has no place for {mark}"
    return found[1]


def test_the_figures_are_of_the_policy_in_force() -> None:
    """Who changes a weight or a threshold measures anew: `python -m tests.bench.figures --readme README.md`."""
    assert Policy().id in block("figures")


def test_what_was_measured_says_of_which_commit() -> None:
    """`python -m tests.bench.run --readme README.md` writes them."""
    rows = [row for row in block("bench").splitlines() if row.startswith("| ") and not row.startswith("| what")]
    assert rows
    assert all(re.search(r"\| `[0-9a-f]{10}\+?` \|$", row) for row in rows)
