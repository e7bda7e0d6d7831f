"""Which accounts does a phone line concern? One partition of ``lines``, folded record by record. Interface only, for now."""

from collections.abc import Iterator

from pipeline.core.events import AccountEvent, LineEvent
from pipeline.core.policy import Policy


class Router:
    """Fold the records of one ``lines`` partition: learn links, address telephony to accounts. Same driver protocol as Partition."""

    def __init__(self, policy: Policy) -> None:
        raise NotImplementedError

    def fold(self, offset: int, event: LineEvent) -> list[AccountEvent]:
        """Fold one record; returns the events to write, each with its account_id (the key in ``events``)."""
        raise NotImplementedError

    def changes(self) -> dict[str, bytes]:
        """Encoded state of every line that changed since the last call."""
        raise NotImplementedError

    def clock(self) -> bytes:
        """Encoded partition state (the offset). Valid to persist only after all ``changes()`` up to here are durable."""
        raise NotImplementedError

    def restore(self, line: str, state: bytes) -> None:
        """Take a line's state back."""
        raise NotImplementedError

    def restore_clock(self, state: bytes) -> None:
        """Take the partition's state back."""
        raise NotImplementedError

    def accounts(self) -> Iterator[str]:
        """All lines held."""
        raise NotImplementedError

    def drop(self) -> None:
        """Forget everything."""
        raise NotImplementedError
