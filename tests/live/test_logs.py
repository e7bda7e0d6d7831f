"""Logs: one object per line, and a number of a person does not pass."""

import io
import logging
import logging.config
from collections.abc import Iterator

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


def test_configuration_is_one_that_logging_takes() -> None:
    for settings in (Settings(json_logs=True), Settings(json_logs=False, log_level="debug")):
        config = log_config(settings)
        assert logging.config.dictConfigClass(config).configure_formatter(dict(config["formatters"]["lines"]))
        assert config["root"]["level"] == settings.log_level.upper()
