"""How does a worker log? One JSON object per line, or text for people; and no number of a person slips through in either.

Our own messages name topics, partitions, offsets and reasons only; those that warn carry what to do as ``extra={"action": ...}``. What is
here is the net below: libraries write messages and exceptions that we do not, and do not say what to do.
"""

import logging
import logging.config
import re
import traceback
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from pipeline.live.quiet import Sparing
from pipeline.settings import Settings

_E164: Final = re.compile(r"\+\d[\d \-().]{5,18}\d")
_OWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
# Chatty libraries: each rebalance and reconnect at length, at levels that mean nothing to an operator.
_QUIET: Final = ("aiokafka", "kafka", "asyncio", "aiohttp")

_OURS: Final = "pipeline"
_OF_A_WARNING: Final = "nothing, unless it repeats: then see whether the brokers answer"
_OF_AN_ERROR: Final = (
    "see whether the brokers answer; a worker that cannot go on ends, and its last line says what to do. If neither is so and it repeats,"
    " report it"
)


def action_of(record: logging.LogRecord) -> object:
    """What to do about a record: what it says itself, or, of a warning or an error of a library, the usual; None where nothing is wrong."""
    said: object = record.__dict__.get("action")
    if said or record.levelno < logging.WARNING or record.name.partition(".")[0] == _OURS:
        return said
    return _OF_A_WARNING if record.levelno < logging.ERROR else _OF_AN_ERROR


def redact(text: str) -> str:
    """Replace telephone numbers in international form.

    >>> redact("no route to +44 7700 900123, offset 4711")
    'no route to [number], offset 4711'
    """
    return _E164.sub("[number]", text)


class JsonLines(logging.Formatter):
    """One object per line: time, level, logger, message, what ``extra`` added, and the error with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _OWN and name not in line:
                line[name] = value if isinstance(value, int | float | None) else redact(str(value))
        if action := action_of(record):
            line["action"] = redact(str(action))
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = redact("".join(traceback.format_exception(*record.exc_info)))
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """A line for people, redacted alike; what to do stands behind an arrow."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        action = action_of(record)
        return redact(super().format(record) + (f"\n    -> {action}" if action else ""))


def log_config(settings: Settings) -> dict[str, Any]:
    """Build the configuration for ``logging.config.dictConfig``: everything to standard error, through one formatter."""
    formatter = JsonLines if settings.json_logs else TextLines
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": formatter}},
        "filters": {"sparing": {"()": Sparing, "libraries": _QUIET}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["sparing"], "stream": "ext://sys.stderr"}
        },
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {name: {"level": level if level == "DEBUG" else "WARNING"} for name in _QUIET},
    }


def configure(settings: Settings) -> None:
    """Set up logging for this process."""
    logging.config.dictConfig(log_config(settings))
