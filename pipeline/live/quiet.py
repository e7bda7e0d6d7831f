"""How often does one message need to be read? A line that repeats is let through once in a while, and says how often it came.

While a broker is away aiokafka writes a hundred lines a second; the one line that says what to do must not drown in them.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

EVERY_S: Final = 10.0
KNOWN: Final = 1_000  # different messages that are remembered


class Sparing(logging.Filter):
    """Let a message of a library through once in ``EVERY_S`` seconds: the same logger, level and text before its arguments."""

    def __init__(self, libraries: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        """``libraries``: names of their topmost loggers. ``clock``: seconds that only go forward."""
        super().__init__()
        self._libraries = frozenset(libraries)
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}  # when last let through, and how many were not since

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is to be written; one that is, after others like it were not, says how many."""
        if record.name.partition(".")[0] not in self._libraries:
            return True
        key = (record.name, record.levelno, str(record.msg))
        at, kept_back = self._seen.get(key, (0.0, 0))
        now = self._clock()
        if key in self._seen and now - at < EVERY_S:
            self._seen[key] = (at, kept_back + 1)
            return False
        if len(self._seen) >= KNOWN:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if kept_back:
            record.msg, record.args = f"{record.getMessage()} (and {kept_back} more like it)", ()
        return True
