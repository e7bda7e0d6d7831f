"""Where does detect get the models that the log names? From the compacted topic ``models``; what is refused is said and does not score.

An activation is written after its snapshots are durable, so what it names is there. It is waited for all the same, a little: a broker
may be behind. What is still not there then ends the worker, since nobody can say what it would have scored.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import Final, Protocol

from nacl.signing import VerifyKey

from pipeline.core.champion import named_by
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Activation
from pipeline.core.learn.shelf import SnapshotShelf
from pipeline.core.learn.snapshot import SnapshotRefused
from pipeline.core.model import Scoring
from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.changelog import ChangelogReader
from pipeline.live.state import OpenChangelog
from pipeline.settings import Settings
from pipeline.wire.codec import decode_event

log = logging.getLogger(__name__)
TOPIC: Final = "models"
PATIENCE_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.5


class Written(Protocol):
    """What is asked of a record of ``events`` here."""

    key: bytes | None
    value: bytes | None


def named_in(records: Iterable[Written]) -> set[str]:
    """The models that records of ``events`` activate. Looks at the few without a key alone, since it stands in the way of all."""
    found: set[str] = set()
    for record in records:
        if record.key is None and record.value is not None and b'"activation"' in record.value:
            try:
                event = decode_event(record.value)
            except InvalidEvent:  # the fold will say so
                continue
            if isinstance(event, Activation):
                found.update(named_by(event))
    return found


class ModelMissing(Exception):
    """An activation names a model of which the topic has no snapshot."""


class LiveShelf:
    """The models that were needed so far, as core.champion.Shelf has them."""

    def __init__(
        self,
        policy: Policy,
        key: VerifyKey | None,
        topic: str,
        open_changelog: OpenChangelog,
        stage: str = "detect",
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``key``: None where none is configured; then nothing can be checked. ``topic``: full name."""
        self._shelf = None if key is None else SnapshotShelf(policy, key, self._refused)
        self._topic, self._open, self._stage, self._patience_s = topic, open_changelog, stage, patience_s
        self._turn = asyncio.Lock()

    def get(self, model_id: str, /) -> Scoring | None:
        """The model; None for one that is refused. Raises LookupError for one that was not loaded."""
        if self._shelf is None:
            raise LookupError(f"the model {model_id} was not loaded")
        return self._shelf.get(model_id)

    async def load(self, ids: Iterable[str]) -> None:
        """Read the snapshots of these models. Raises ModelMissing when one does not come."""
        wanted = {i for i in ids if self._shelf is None or not self._shelf.knows(i)}
        if not wanted:
            return
        shelf = self._shelf
        if shelf is None:
            raise ModelMissing(
                f"the log activates {', '.join(sorted(wanted))}; name the key to check it with: OFFHOOK_MODEL_PUBLIC_KEY_FILE"
            )
        async with self._turn, self._open(self._topic, 0) as reader:
            position, until = 0, time.monotonic() + self._patience_s
            while True:
                found: list[tuple[str, bytes]] = []

                def take(key: bytes, value: bytes | None, found: list[tuple[str, bytes]] = found) -> None:
                    if value is not None and key is not None and (name := key.decode(errors="replace")) in wanted:
                        found.append((name, value))

                position = await reader.read(position, take)
                for name, value in found:
                    await asyncio.to_thread(shelf.offer, name, value)
                missing = sorted(i for i in wanted if not shelf.knows(i))
                if not missing:
                    return
                if time.monotonic() > until:
                    raise ModelMissing(f"{self._topic} has no snapshot of {', '.join(missing)}, which the log activates")
                await asyncio.sleep(LOOK_AGAIN_S)

    def _refused(self, model_id: str, error: SnapshotRefused) -> None:
        metrics.MODELS_REFUSED.labels(self._stage, error.reason).inc()
        log.error(
            "%s: the model %s is refused and does not score: %s",
            self._stage,
            model_id,
            error,
            extra={"action": "find out who wrote it; publish the true one again and promote it, or `offhook models rollback`"},
        )


def shelf_of(settings: Settings, stage: str = "audit") -> LiveShelf:
    """The shelf of a process; without a public key in the settings it is empty, and no learned model can take force."""
    key = VerifyKey(settings.model_public_key()) if settings.model_public_key_file else None
    return LiveShelf(settings.policy(), key, settings.topic(TOPIC), partial(ChangelogReader, settings.connection()), stage)
