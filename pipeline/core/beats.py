"""The clock inside the log: ingest makes beats from arrivals, detect merges them into one time. Interface only, for now."""

from pipeline.core.events import Beat, Feed, Ms
from pipeline.core.policy import Policy


class BeatMaker:
    """Make a beat for each second of arrival time from what one ingest worker has read."""

    def __init__(self, partitions: dict[Feed, int]) -> None:
        """``partitions``: number of partitions of every feed that exists."""
        raise NotImplementedError

    def arrived(self, feed: Feed, partition: int, arrived_at: Ms) -> None:
        """A record was read (and its outputs handed on)."""
        raise NotImplementedError

    def caught_up(self, feed: Feed, partition: int, at: Ms) -> None:
        """A partition was read to its end as of arrival time ``at`` (idle partitions advance)."""
        raise NotImplementedError

    def forget(self, feed: Feed, partition: int) -> None:
        """The partition is no longer ours."""
        raise NotImplementedError

    def suspend(self, feed: Feed) -> None:
        """Too much of the feed cannot be read: mark it absent in the beats."""
        raise NotImplementedError

    def due(self, now: Ms) -> Beat | None:
        """The beat to write when a second of arrival time has passed since the last one, else None."""
        raise NotImplementedError


class Clock:
    """Merge beats into one time per events partition and the set of feeds that are missing."""

    def __init__(self, policy: Policy) -> None:
        raise NotImplementedError
