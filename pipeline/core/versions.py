"""May this code read what was kept? Stands before every decoder of kept state: what is damaged or newer is refused with a clear word."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from pipeline.core.errors import UnsupportedState


class Versioned(Protocol):
    """Whatever begins with the version it was written in."""

    @property
    def version(self) -> int:
        """The version it was written in."""


V = TypeVar("V", bound=Versioned)


def read_versioned(decode: Callable[[bytes], V], raw: bytes, newest: int, name: str, unreadable: str) -> V:
    """Decode what was kept under a version up to ``newest``.

    Raises UnsupportedState: ``unreadable`` and why, for what is no such thing; ``name`` and both versions, for a newer one.
    """
    try:
        kept = decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise UnsupportedState(f"{unreadable}: {e}") from None
    if kept.version > newest:
        raise UnsupportedState(f"{name} version {kept.version}; this code reads up to {newest}: upgrade the worker")
    return kept
