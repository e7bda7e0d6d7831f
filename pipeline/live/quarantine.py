"""Which accounts are set aside because our own code failed on one of their events? Written down beside the state, ended by newer code.

Stands between a stage's fold and its ``OwnedState``: to the latter it is the fold. What is set aside stays as it was before the
record that tripped the bug; its later events become dead letters with reason ``bug``, which say where they are. It is folded again,
from there on, when another version of the code takes the partition over, or when an operator has released it.
"""

import msgspec

from pipeline.core.detector import VERSION
from pipeline.core.versions import read_versioned
from pipeline.live.state import Fold

MARK = "!"  # before the entity's name in the changelog; no identifier begins with it
QUARANTINE_VERSION = 1


class SetAside(msgspec.Struct, frozen=True, array_like=True):
    """Why an entity is set aside: the record that tripped a bug, where in the code, and the version that has the bug."""

    version: int
    code: str
    offset: int
    place: str  # exception and line of code, never what the record says


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SetAside).decode


def decode(raw: bytes) -> SetAside:
    """Read what is kept of one that is set aside. Raises UnsupportedState for a newer version and for what is no such thing."""
    return read_versioned(_decode, raw, QUARANTINE_VERSION, "quarantine", "what is kept of a quarantine cannot be read")


class Quarantine:
    """A fold with the entities that are set aside from it; what is kept of both goes into one changelog."""

    code = VERSION  # that runs

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._aside: dict[str, SetAside] = {}
        self._dirty: set[str] = set()
        self.entities: set[str] = set()  # those that are set aside now

    def add(self, entity: str, offset: int, place: str) -> None:
        """Set an entity aside because of the record at ``offset``."""
        self._aside[entity] = SetAside(QUARANTINE_VERSION, self.code, offset, place)
        self._dirty.add(entity)
        self.entities.add(entity)

    def blocks(self, entity: str, offset: int) -> bool:
        """Is the record at ``offset`` one that the entity must not be folded with? Those before the one that tripped are known."""
        return entity in self.entities and offset >= self._aside[entity].offset

    def changes(self) -> dict[str, bytes]:
        """Encoded state of all that changed since the last call."""
        changed = self._fold.changes()
        if self._dirty:
            changed |= {MARK + entity: encode(self._aside[entity]) for entity in sorted(self._dirty)}
            self._dirty.clear()
        return changed

    def clock(self) -> bytes:
        """Encoded state of the partition itself."""
        return self._fold.clock()

    def restore(self, entity: str, state: bytes, /) -> None:
        """Take an entity's state back, or that it is set aside: only if this very version of the code did so."""
        if not entity.startswith(MARK):
            self._fold.restore(entity, state)
            return
        kept = decode(state)
        name = entity.removeprefix(MARK)
        self._aside[name] = kept
        if kept.code == self.code:
            self.entities.add(name)
        else:
            self.entities.discard(name)

    def restore_clock(self, state: bytes, /) -> None:
        """Take the partition's state back."""
        self._fold.restore_clock(state)

    def encoded(self, entity: str, /) -> bytes | None:
        """Encoded state of an entity."""
        if not entity.startswith(MARK):
            return self._fold.encoded(entity)
        kept = self._aside.get(entity.removeprefix(MARK))
        return None if kept is None else encode(kept)

    def forget(self, entity: str, /) -> None:
        """Forget an entity, or that it is set aside: an operator has released it."""
        if not entity.startswith(MARK):
            self._fold.forget(entity)
            return
        name = entity.removeprefix(MARK)
        self._aside.pop(name, None)
        self._dirty.discard(name)
        self.entities.discard(name)

    def drop(self) -> None:
        """Forget everything."""
        self._fold.drop()
        self._aside.clear()
        self._dirty.clear()
        self.entities.clear()

    @property
    def size(self) -> int:
        """Bytes of encoded state held."""
        return self._fold.size
