"""Which models had a live run? The snapshots that a recorded ``events`` topic activates, out of a dump of the topic ``models``."""

from collections.abc import Iterable

from nacl.signing import VerifyKey

from pipeline.core.learn.shelf import SnapshotShelf
from pipeline.core.learn.snapshot import SnapshotRefused
from pipeline.core.model import Scoring
from pipeline.core.policy import Policy
from pipeline.wire.log import LogRecord


class Dump:
    """A shelf over the records of ``models``: each snapshot is read when the log first asks for it."""

    def __init__(self, policy: Policy, key: VerifyKey, records: Iterable[LogRecord]) -> None:
        self.refused: dict[str, str] = {}  # of those that were asked for: why
        self._shelf = SnapshotShelf(policy, key, self._note)
        self._found: dict[str, list[bytes]] = {}
        for record in records:
            if record.key is not None and record.value is not None and record.key.startswith(b"m_"):
                self._found.setdefault(record.key.decode(errors="replace"), []).append(record.value)

    def get(self, model_id: str, /) -> Scoring | None:
        """The model; None for one that is refused. Raises LookupError for one that the dump does not have."""
        for data in self._found.pop(model_id, ()):
            self._shelf.offer(model_id, data)
        return self._shelf.get(model_id)

    def _note(self, model_id: str, error: SnapshotRefused) -> None:
        self.refused[model_id] = str(error)
