"""Where are the values of a partition kept? Encoded, with the ones in use decoded beside them; persisting is the driver's.

The split is about speed and memory only: a value that was encoded and decoded again decides the same (law 3). Where the encoded
ones are is the driver's choice too: in memory, or on disk (``live.disk_store``).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Encoded(Protocol):
    """A place for encoded values."""

    def get(self, key: str, /) -> bytes | None:
        """The value; None where there is none."""

    def put(self, key: str, raw: bytes, /) -> None:
        """Set a value."""

    def remove(self, key: str, /) -> None:
        """Forget a value, if there is one."""

    def keys(self) -> Iterator[str]:
        """All keys held."""

    def clear(self) -> None:
        """Forget everything."""

    @property
    def size(self) -> int:
        """Bytes held, as far as that is known."""


class InMemory:
    """A dictionary that knows its size."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self.size = 0
        self.get = self._values.get

    def put(self, key: str, raw: bytes) -> None:
        """Set a value."""
        self.size += len(raw) - len(self._values.get(key, b""))
        self._values[key] = raw

    def remove(self, key: str) -> None:
        """Forget a value, if there is one."""
        self.size -= len(self._values.pop(key, b""))

    def keys(self) -> Iterator[str]:
        """All keys held."""
        yield from self._values

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.size = 0


class Store(Generic[T]):
    """A map of values with a bounded number of them decoded, that knows what changed since it was last asked."""

    def __init__(
        self, encode: Callable[[T], bytes], decode: Callable[[bytes], T], cached: int, encoded: Callable[[], Encoded] = InMemory
    ) -> None:
        """``cached``: how many decoded values are kept. ``encoded``: makes the place for the others."""
        self._encode, self._decode = encode, decode
        self.cached = cached
        self._encoded = encoded()
        self._decoded: OrderedDict[str, T] = OrderedDict()  # the first one was used longest ago
        self._stale: set[str] = set()  # decoded is newer than encoded
        self._dirty: dict[str, None] = {}  # changed since changes() was last called, in order

    def get(self, key: str) -> T | None:
        """The value, decoded; None where there is none."""
        value = self._decoded.get(key)
        if value is None:
            raw = self._encoded.get(key)
            if raw is None:
                return None
            value = self._decoded[key] = self._decode(raw)
            self._make_room()
        return value

    def put(self, key: str, value: T) -> None:
        """Set a value; the least recently written decoded one makes room."""
        self._decoded[key] = value
        self._decoded.move_to_end(key)
        self._stale.add(key)
        self._dirty[key] = None
        self._make_room()

    def _make_room(self) -> None:
        decoded = self._decoded
        while len(decoded) > self.cached and len(decoded) > 1:  # the one at hand stays
            oldest, old = decoded.popitem(last=False)
            if oldest in self._stale:
                self._stale.discard(oldest)
                self._encoded.put(oldest, self._encode(old))

    def encoded(self, key: str) -> bytes | None:
        """The value, encoded; None where there is none."""
        if key in self._stale:
            self._stale.discard(key)
            self._encoded.put(key, self._encode(self._decoded[key]))
        return self._encoded.get(key)

    def changes(self) -> dict[str, bytes]:
        """Encoded value of every key put since the last call."""
        changed: dict[str, bytes] = {}
        encode, stale, decoded, encoded = self._encode, self._stale, self._decoded, self._encoded
        for key in self._dirty:
            if key in stale:
                raw = encode(decoded[key])
                encoded.put(key, raw)
            else:  # it has made room meanwhile
                raw = encoded.get(key)  # type: ignore[assignment]
            changed[key] = raw
        stale.difference_update(changed)
        self._dirty.clear()
        return changed

    def restore(self, key: str, raw: bytes) -> None:
        """Take an encoded value back as it was persisted."""
        self._decoded.pop(key, None)
        self._stale.discard(key)
        self._encoded.put(key, raw)

    def remove(self, key: str) -> None:
        """Forget a value, as if it had never been put."""
        self._decoded.pop(key, None)
        self._stale.discard(key)
        self._dirty.pop(key, None)
        self._encoded.remove(key)

    def keys(self) -> Iterator[str]:
        """All keys held."""
        for key in sorted(self._stale):
            self.encoded(key)
        yield from self._encoded.keys()

    @property
    def bytes(self) -> int:
        """Size of the encoded values; one that was put since counts as it was."""
        return self._encoded.size

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    def clear(self) -> None:
        """Forget everything."""
        self._encoded.clear()
        self._decoded.clear()
        self._stale.clear()
        self._dirty.clear()
