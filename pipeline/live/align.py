"""How far may one input run ahead of another? After an outage the inputs are read side by side, in the order in which they arrived.

Stands in ingest, between what was fetched and what is handed out. Without it a short topic would be read to its end while a long
one is hours behind, and calls would meet their entries in the wrong order.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter

from faust.types.tuples import TP

from pipeline.core.events import Ms
from pipeline.live.batch import Record

AHEAD_MS = 5_000  # of arrival, ahead of the slowest partition that is not empty (architecture.md)
STALLED_S = 10.0  # a partition that gave nothing for so long, although there is more, no longer holds the others back
_timestamp = attrgetter("timestamp")


class Alignment:
    """Admit what arrived no more than five seconds after the oldest record that is still to be handed out."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: dict[TP, Ms] = {}  # arrival of the last record handed out
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
        self._last = {tp: at for tp, at in self._last.items() if tp in tps}
        self._quiet_since = {}

    def stalled(self, tp: TP) -> bool:
        """Has the partition given nothing for long, although there may be more?"""
        since = self._quiet_since.get(tp)
        return since is not None and self._monotonic() - since > STALLED_S

    def admit(self, waiting: Mapping[TP, Sequence[Record]], behind: Collection[TP]) -> dict[TP, int]:
        """How many records of each waiting partition may be handed out now."""
        self._watch(waiting, behind)
        admitted = self._probes(waiting)
        floor = self._floor(waiting, (tp for tp in behind if tp.topic not in self._closed and not self.stalled(tp)))
        if floor is None:
            return admitted
        limit = floor + AHEAD_MS
        for tp, records in waiting.items():
            if tp.topic in self._closed:
                continue
            last = records[-1].timestamp
            count = len(records) if last <= limit else bisect_right(records, limit, key=_timestamp)
            if count:
                admitted[tp] = count
                self._last[tp] = max(records[count - 1].timestamp, self._last.get(tp, 0))
        return admitted

    def _probes(self, waiting: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        admitted: dict[TP, int] = {}
        for tp, records in waiting.items():
            left = self._probed.get(tp.topic, 0)
            if left:
                count = admitted[tp] = min(left, len(records))
                self._probed[tp.topic] = left - count
                if left == count:
                    del self._probed[tp.topic]
                self._last[tp] = max(records[count - 1].timestamp, self._last.get(tp, 0))
        return admitted

    def _watch(self, waiting: Mapping[TP, Sequence[Record]], behind: Collection[TP]) -> None:
        now = self._monotonic()
        for tp in list(self._quiet_since):
            if tp in waiting or tp not in behind:
                del self._quiet_since[tp]
        for tp in behind:
            self._quiet_since.setdefault(tp, now)

    def _floor(self, waiting: Mapping[TP, Sequence[Record]], behind: Iterable[TP]) -> Ms | None:
        """Arrival of the oldest record still to be handed out; None while a partition has not been heard of at all."""
        oldest = [records[0].timestamp for tp, records in waiting.items() if tp.topic not in self._closed]
        for tp in behind:
            last = self._last.get(tp)
            if last is None:
                return None
            oldest.append(last)
        return min(oldest, default=None)
