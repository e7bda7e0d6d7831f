"""Which accounts hear of what happens on a line? The live stage around core.route: ``lines`` in, ``events`` out."""

from pipeline.core.errors import InvalidEvent
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.live.batch import Batch, Record
from pipeline.live.effects import Effects
from pipeline.live.folding import FoldingStage, Held, guarded
from pipeline.live.health import Health
from pipeline.live.state import OpenChangelog
from pipeline.wire.codec import decode_line_event, encode_event
from pipeline.wire.dead_letter import DeadLetters


class RouteStage(FoldingStage[Router]):
    """Fold the partitions of ``lines``."""

    name = "route"

    def __init__(
        self, policy: Policy, cached: int, prefix: str, open_changelog: OpenChangelog, letters: DeadLetters, health: Health
    ) -> None:
        """``cached``: decoded lines kept per partition."""
        super().__init__("lines", "route-state", ("events", "dead-letters"), prefix, open_changelog, letters, health)
        self._policy = policy
        self._cached = cached

    def new_fold(self) -> Router:
        """An empty router."""
        return Router(self._policy, self._cached)

    def fold(self, held: Held[Router], batch: Batch, record: Record, effects: Effects) -> None:
        """Fold one record of ``lines``; what it leads to goes to the accounts."""
        if record.value is None:
            raise InvalidEvent("no_value", "a record of lines has a value")
        event = decode_line_event(record.value)
        if event.line in held.quarantined:
            raise InvalidEvent("bug", "its line is set aside since a bug of ours")
        try:
            found = held.fold.fold(record.offset, event)
        except Exception as e:
            raise guarded(event.line, e) from e
        for addressed in found:
            effects.add("events", addressed.account_id.encode(), encode_event(addressed))
