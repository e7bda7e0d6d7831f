"""Which accounts hear of what happens on a line? The live stage around core.route: ``lines`` in, ``events`` out.

Its beats tell detect how far the calls have come, once what they speak for is durable: until then no deadline fires that a call
could still touch.
"""

from collections.abc import Callable

from faust.types.tuples import TP

from pipeline.core.beats import RouteBeats
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Beat
from pipeline.core.route import Router
from pipeline.core.store import Encoded
from pipeline.live import metrics
from pipeline.live.batch import Batch, Record
from pipeline.live.bug import decoded, guarded
from pipeline.live.effects import Effects
from pipeline.live.folding import SET_ASIDE, FoldingStage, Held
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.live.stage import Reader
from pipeline.wire.codec import decode_line_event, encode_event


class RouteStage(FoldingStage[Router]):
    """Fold the partitions of ``lines``."""

    name = "route"
    source = "lines"
    changelog = "route-state"
    outputs = ("events", "dead-letters")

    async def start(self, outbox: Outbox, reader: Reader) -> None:
        """As every folding stage; nothing has been said yet."""
        await super().start(outbox, reader)
        self._beats = RouteBeats()

    def assigned(self, tps: set[TP], generation: int) -> None:
        """As every folding stage; speak only of the partitions that are ours now."""
        self._beats.own(tp.partition for tp in tps if tp.topic in self.sources)
        super().assigned(tps, generation)

    async def handle(self, batch: Batch) -> None:
        """As every folding stage; then let the beat speak of it."""
        held = self._held[batch.tp.partition]
        await super().handle(batch)
        if self._held.get(batch.tp.partition) is not held:  # it went to somebody else meanwhile
            return
        self._beats.routed(batch.tp.partition, held.fold.routed_to)
        beat = self._beats.due()
        if beat is not None:
            assert self._outbox is not None
            events = self._prefix + "events"
            record = [Outgoing(None, encode_event(beat))]
            await self._outbox.send({(events, partition): record for partition in range(self._outbox.partitions(events))})

    def new_fold(self, encoded: Callable[[], Encoded]) -> Router:
        """An empty router."""
        return Router(self._policy, self._cached, encoded)

    def fold(self, held: Held[Router], batch: Batch, record: Record, effects: Effects) -> None:
        """Fold one record of ``lines``; what it leads to goes to the accounts."""
        if record.value is None:
            raise InvalidEvent("no_value", "a record of lines has a value")
        event = decoded(decode_line_event, record.value)
        line = "" if isinstance(event, Beat) else event.line
        if held.quarantine.blocks(line, record.offset):
            raise InvalidEvent("bug", SET_ASIDE)
        try:
            found = held.fold.fold(record.offset, event)
        except Exception as e:
            raise guarded(line, e) from e
        if held.fold.overfull:
            metrics.OVERFULL.inc(held.fold.overfull)
            held.fold.overfull = 0
        for addressed in found:
            effects.add("events", addressed.account_id.encode(), encode_event(addressed))
