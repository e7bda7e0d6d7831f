"""How far may one input run ahead of another? After an outage the inputs are read side by side, in the order in which they arrived.

Stands in ingest, between what was fetched and what is handed out. Without it a short topic would be read to its end while a long
one is hours behind, and calls would meet their entries in the wrong order. What explains an entry may lead by a minute, so that hours
of little traffic are caught up in few rounds; the entries, and what comes after them, follow what has been written.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter

from faust.types.tuples import TP

from pipeline.core.events import Ms
from pipeline.live.batch import Record

AHEAD_MS = 5_000  # of arrival: how far a follower may be ahead of the oldest record of the others that is not written yet
LEAD_MS = 60_000  # of arrival: how far the others may be ahead of the slowest partition that is not empty; slack_s bears five times that
STALLED_S = 10.0  # a partition that gave nothing for so long, although there is more, no longer holds the others back
_timestamp = attrgetter("timestamp")


class Alignment:
    """Admit what arrived soon after the oldest record that is still to be read, followers not before what they follow is written."""

    def __init__(self, followers: Iterable[str] = (), monotonic: Callable[[], float] = time.monotonic) -> None:
        """``followers``: the topics whose records must not overtake those of the others."""
        self._followers = frozenset(followers)
        self._monotonic = monotonic
        self._given: dict[TP, tuple[Ms, Ms]] = {}  # arrival of the first and the last record that were handed out last
        self._quiet_since: dict[TP, float] = {}
        self._closed: set[str] = set()
        self._probed: dict[str, int] = {}  # closed topics that are read a little all the same: how many records are left

    def close(self, topic: str) -> None:
        """Read nothing more from a topic: its feed is suspended."""
        self._closed.add(topic)

    def open(self, topic: str) -> None:
        """Read a topic again."""
        self._closed.discard(topic)
        self._probed.pop(topic, None)

    def probe(self, topic: str, records: int) -> None:
        """Read so many records of a closed topic, beside the others: they do not wait for it."""
        self._probed[topic] = records

    def spent(self, topic: str) -> bool:
        """Has a probe handed out all it may?"""
        return topic not in self._probed

    def suspended(self, tp: TP) -> bool:
        """Is the partition's feed suspended, be it probed or not?"""
        return tp.topic in self._closed

    def closed(self, tp: TP) -> bool:
        """Must the partition not be read now?"""
        return tp.topic in self._closed and tp.topic not in self._probed

    def keep(self, tps: Collection[TP]) -> None:
        """Forget all other partitions: they are no longer ours."""
        self._given = {tp: given for tp, given in self._given.items() if tp in tps}
        self._quiet_since = {}

    def stalled(self, tp: TP) -> bool:
        """Has the partition given nothing for long, although there may be more?"""
        since = self._quiet_since.get(tp)
        return since is not None and self._monotonic() - since > STALLED_S

    def admit(self, waiting: Mapping[TP, Sequence[Record]], behind: Collection[TP]) -> dict[TP, int]:
        """How many records of each waiting partition may be handed out now."""
        self._watch(waiting, behind)
        admitted = self._probes(waiting)
        limits = self._limits(waiting, [tp for tp in behind if tp.topic not in self._closed and not self.stalled(tp)])
        if limits is None:
            return admitted
        for tp, records in waiting.items():
            if tp.topic in self._closed:
                continue
            limit = limits[tp.topic in self._followers]
            last = records[-1].timestamp
            count = len(records) if last <= limit else bisect_right(records, limit, key=_timestamp)
            if count:
                admitted[tp] = count
                self._give(tp, records[:count])
        return admitted

    def _give(self, tp: TP, records: Sequence[Record]) -> None:
        _, last = self._given.get(tp, (0, 0))
        self._given[tp] = (records[0].timestamp, max(records[-1].timestamp, last))

    def _probes(self, waiting: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        admitted: dict[TP, int] = {}
        for tp, records in waiting.items():
            left = self._probed.get(tp.topic, 0)
            if left:
                count = admitted[tp] = min(left, len(records))
                self._probed[tp.topic] = left - count
                if left == count:
                    del self._probed[tp.topic]
                self._give(tp, records[:count])
        return admitted

    def _watch(self, waiting: Mapping[TP, Sequence[Record]], behind: Collection[TP]) -> None:
        now = self._monotonic()
        for tp in list(self._quiet_since):
            if tp in waiting or tp not in behind:
                del self._quiet_since[tp]
        for tp in behind:
            self._quiet_since.setdefault(tp, now)

    def _limits(self, waiting: Mapping[TP, Sequence[Record]], behind: Collection[TP]) -> tuple[Ms, Ms] | None:
        """Up to which arrival leaders and followers may be handed out; None while a partition has not been heard of at all."""
        unread = [records[0].timestamp for tp, records in waiting.items() if tp.topic not in self._closed]
        unwritten = [records[0].timestamp for tp, records in waiting.items() if tp.topic not in self._closed | self._followers]
        for tp in behind:
            given = self._given.get(tp)
            if given is None:
                return None
            unread.append(given[1])
            if tp.topic not in self._followers:
                unwritten.append(given[0])  # it may be on its way still
        if not unread:
            return None
        lead = min(unread) + LEAD_MS
        return lead, min(lead, min(unwritten, default=lead) + AHEAD_MS)
