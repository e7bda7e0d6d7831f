"""What does it mean that a fold has failed on a record? A bug of ours, unless the state could not be read or kept.

Stands between a stage and its fold, which is pure: what it raises is about this record and harms its entity alone.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.core.errors import InvalidEvent, UnsupportedState
from pipeline.live.disk_store import DiskFailed

T = TypeVar("T")


class Bug(Exception):
    """A record tripped a fault of ours. ``entity`` is whose it was."""

    def __init__(self, entity: str, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__} at {_place(cause)}")  # never the cause's text: it may speak of the event
        self.entity = entity


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


def decoded(decode: Callable[[bytes], T], value: bytes) -> T:
    """Decode a record's value. Raises InvalidEvent for bytes that are no event, Bug where decoding itself fails."""
    try:
        return decode(value)
    except InvalidEvent:
        raise
    except Exception as e:
        raise Bug("", e) from e


def guarded(entity: str, error: Exception) -> Exception:
    """What an exception of the fold means: state that cannot be read or kept ends the worker, anything else is a bug of ours."""
    return error if isinstance(error, UnsupportedState | DiskFailed | MemoryError) else Bug(entity, error)
