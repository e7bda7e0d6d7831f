"""One partition of ``events``: accounts, clock and deadlines, folded record by record. Interface only, for now."""

from collections.abc import Iterator

from pipeline.core.events import AnyEvent
from pipeline.core.outcome import Outcome
from pipeline.core.policy import Policy


class Partition:
    """Fold the events of one partition in offset order. Owns no I/O: drivers carry bytes in and out.

    A driver calls ``fold`` for each record, sends the outcomes, then persists ``changes()`` and, once those are durable, ``clock()``.
    """

    def __init__(self, policy: Policy, cached: int = 50_000) -> None:
        """``cached``: how many decoded timelines are kept beside the encoded ones (speed, never a decision)."""
        raise NotImplementedError

    def fold(self, offset: int, event: AnyEvent) -> list[Outcome]:
        """Fold one record. A record whose offset this account (or the whole partition) has already folded yields nothing."""
        raise NotImplementedError

    def changes(self) -> dict[str, bytes]:
        """Encoded state of every account that changed since the last call, and forget that they changed."""
        raise NotImplementedError

    def clock(self) -> bytes:
        """Encoded partition state (offset, watermarks). Valid to persist only after all ``changes()`` up to here are durable."""
        raise NotImplementedError

    def restore(self, account_id: str, state: bytes) -> None:
        """Take an account's state back. Raises UnsupportedState for a version newer than this code."""
        raise NotImplementedError

    def restore_clock(self, state: bytes) -> None:
        """Take the partition's state back."""
        raise NotImplementedError

    def accounts(self) -> Iterator[str]:
        """All accounts held."""
        raise NotImplementedError

    def drop(self) -> None:
        """Forget everything (the partition was revoked)."""
        raise NotImplementedError
