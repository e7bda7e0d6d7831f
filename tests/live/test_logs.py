"""Logs: one object per line, and a number of a person does not pass."""

import ast
import io
import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.live.logs import JsonLines, TextLines, log_config
from pipeline.settings import Settings

NUMBER = "+44 7700 900123"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    one = logging.getLogger("tests.logs")
    one.propagate = False
    one.setLevel("INFO")
    yield one
    one.handlers.clear()
    one.propagate = True


def written(logger: logging.Logger, formatter: logging.Formatter) -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.handlers = [handler]
    return stream


def test_a_line_is_one_object(logger: logging.Logger) -> None:
    stream = written(logger, JsonLines())
    logger.info("partition %d\nof %s is restored", 3, "events", extra={"stage": "detect", "records": 12})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    line = msgspec.json.decode(lines[0])
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "tests.logs",
        "message": "partition 3\nof events is restored",
        "stage": "detect",
        "records": 12,
    }


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_numbers_do_not_pass(logger: logging.Logger, formatter: logging.Formatter) -> None:
    stream = written(logger, formatter)
    try:
        raise ValueError(f"no line {NUMBER.replace(' ', '')}")
    except ValueError:
        logger.exception("cannot reach %s at offset 123456789", NUMBER, extra={"where": NUMBER})
    said = stream.getvalue()
    assert "7700" not in said
    assert "[number]" in said
    assert "offset 123456789" in said
    assert "ValueError" in said


def test_what_to_do_is_a_field_and_stands_in_the_text(logger: logging.Logger) -> None:
    for formatter in (JsonLines(), TextLines()):
        stream = written(logger, formatter)
        logger.warning("too much of %s cannot be read", "logins", extra={"action": f"call {NUMBER}"})
        said = stream.getvalue()
        assert "call [number]" in said
        if isinstance(formatter, JsonLines):
            assert msgspec.json.decode(said)["action"] == "call [number]"


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
@pytest.mark.parametrize(
    ("name", "level", "action"),
    [
        ("aiokafka.conn", "INFO", None),
        ("aiokafka.conn", "WARNING", "nothing, unless it repeats: then see whether the brokers answer"),
        ("mode.worker", "ERROR", "see whether the brokers answer; a worker that cannot go on ends, and its last line says what to do."),
        ("asyncio", "CRITICAL", "see whether the brokers answer; a worker that cannot go on ends, and its last line says what to do."),
        ("pipelines", "WARNING", "nothing, unless it repeats: then see whether the brokers answer"),
        ("pipeline", "WARNING", None),
        ("pipeline.live.runner", "ERROR", None),
    ],
)
def test_what_a_library_warns_of_says_what_to_do_too(formatter: logging.Formatter, name: str, level: str, action: str | None) -> None:
    record = logging.makeLogRecord({"name": name, "levelno": logging.getLevelNamesMapping()[level], "levelname": level, "msg": "no answer"})
    said = formatter.format(record)
    if action is None:
        assert "action" not in said
        assert "->" not in said
    elif isinstance(formatter, JsonLines):
        assert msgspec.json.decode(said)["action"].startswith(action)
    else:
        assert said.partition("\n    -> ")[2].startswith(action)
    record.action = f"call {NUMBER}"
    assert "call [number]" in formatter.format(record), "what a line says itself stands"
    assert "nothing, unless" not in formatter.format(record)


PIPELINE = Path(__file__).parents[2] / "pipeline"
WARNINGS = {"warning", "error", "exception", "critical"}


def calls() -> list[tuple[str, ast.Call]]:
    """Every call of our code that logs that something is wrong, and where."""
    found = []
    for file in sorted(PIPELINE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WARNINGS):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id in ("log", "logger", "logging"):
                found.append((f"{file.relative_to(PIPELINE)}:{node.lineno}", node))
    return found


def test_there_are_such_calls() -> None:
    assert len(calls()) >= 8


@pytest.mark.parametrize(("where", "call"), calls(), ids=[where for where, _ in calls()])
def test_what_warns_says_what_to_do(where: str, call: ast.Call) -> None:
    extra = next((k.value for k in call.keywords if k.arg == "extra"), None)
    assert isinstance(extra, ast.Dict), f"{where}: no extra"
    values = {k.value: v for k, v in zip(extra.keys, extra.values, strict=True) if isinstance(k, ast.Constant)}
    action = values.get("action")
    assert action is not None, f"{where}: no action"
    if isinstance(action, ast.Constant):
        assert isinstance(action.value, str)
        assert len(action.value.split()) >= 4, f"{where}: {action.value!r} says too little"


def test_configuration_is_one_that_logging_takes() -> None:
    for settings in (Settings(json_logs=True), Settings(json_logs=False, log_level="debug")):
        config = log_config(settings)
        assert logging.config.dictConfigClass(config).configure_formatter(dict(config["formatters"]["lines"]))
        assert config["root"]["level"] == settings.log_level.upper()
