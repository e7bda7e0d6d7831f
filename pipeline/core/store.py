"""Where are the values of a partition kept? Encoded, with the ones in use decoded beside them; persisting is the driver's.

The split is about speed and memory only: a value that was encoded and decoded again decides the same (law 3).
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Store(Generic[T]):
    """A map of values with a bounded number of them decoded, that knows what changed since it was last asked."""

    def __init__(self, encode: Callable[[T], bytes], decode: Callable[[bytes], T], cached: int) -> None:
        self._encode, self._decode, self._cached = encode, decode, max(1, cached)
        self._encoded: dict[str, bytes] = {}
        self._decoded: dict[str, T] = {}  # insertion order is the order of last use
        self._stale: set[str] = set()  # decoded is newer than encoded
        self._dirty: dict[str, None] = {}  # changed since changes() was last called, in order
        self.bytes = 0  # size of the encoded values; one that was put since counts as it was

    def get(self, key: str) -> T | None:
        """The value, decoded; None where there is none."""
        value = self._decoded.get(key)
        if value is None:
            raw = self._encoded.get(key)
            if raw is None:
                return None
            value = self._decoded[key] = self._decode(raw)
        return value

    def put(self, key: str, value: T) -> None:
        """Set a value; the least recently written decoded one makes room."""
        self._decoded.pop(key, None)
        self._decoded[key] = value
        self._stale.add(key)
        self._dirty[key] = None
        if len(self._decoded) > self._cached:
            oldest = next(iter(self._decoded))
            old = self._decoded.pop(oldest)
            if oldest in self._stale:
                self._stale.discard(oldest)
                self._keep(oldest, self._encode(old))

    def changes(self) -> dict[str, bytes]:
        """Encoded value of every key put since the last call."""
        changed: dict[str, bytes] = {}
        for key in self._dirty:
            if key in self._stale:
                self._stale.discard(key)
                self._keep(key, self._encode(self._decoded[key]))
            changed[key] = self._encoded[key]
        self._dirty.clear()
        return changed

    def restore(self, key: str, raw: bytes) -> None:
        """Take an encoded value back as it was persisted."""
        self._decoded.pop(key, None)
        self._stale.discard(key)
        self._keep(key, raw)

    def keys(self) -> Iterator[str]:
        """All keys held."""
        yield from self._encoded
        for key in self._decoded:
            if key not in self._encoded:
                yield key

    def _keep(self, key: str, raw: bytes) -> None:
        self.bytes += len(raw) - len(self._encoded.get(key, b""))
        self._encoded[key] = raw

    def __len__(self) -> int:
        return len(self._encoded) + sum(1 for key in self._stale if key not in self._encoded)

    def clear(self) -> None:
        """Forget everything."""
        self.bytes = 0
        self._encoded.clear()
        self._decoded.clear()
        self._stale.clear()
        self._dirty.clear()
