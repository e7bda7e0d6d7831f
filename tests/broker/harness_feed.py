"""Load while things happen: a log appended piece by piece, and what each stage reads, so that a stage can be tested alone."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Beat, LoggedIn
from pipeline.core.outcome import Sighting
from pipeline.core.policy import Policy
from pipeline.live.outbox import Outgoing
from pipeline.wire.codec import decode_event, encode_event, encode_sighting
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord
from pipeline.wire.pseudonym import Pseudonyms
from tests.broker.harness import INPUT, KEY, Deployment

PIECES = 800
SIGHTED_FROM = 1_770_000_000_000  # ms


class Feeder(threading.Thread):
    """Appends records piece by piece, as a context; ``hurry`` has the rest appended at once, and leaving the context waits for that."""

    def __init__(self, append: Callable[[Sequence[Any]], object], records: Sequence[Any], seconds: float) -> None:
        """``seconds``: how long it takes when nobody hurries."""
        super().__init__(name="feeder")
        self._append, self._records, self._pause = append, records, seconds / PIECES
        self._hurry = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        size = len(self._records) // PIECES + 1
        try:
            for start in range(0, len(self._records), size):
                if self._hurry.wait(self._pause):
                    self._append(self._records[start:])
                    return
                self._append(self._records[start : start + size])
        except BaseException as e:
            self.error = e
            raise

    def hurry(self) -> None:
        """Append the rest now, and wait until it is there."""
        self._hurry.set()
        self.join()
        assert self.error is None, self.error

    def __enter__(self) -> "Feeder":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hurry()


def with_late_logins(recorded: Sequence[Outgoing]) -> list[Outgoing]:
    """Recorded events with a login that came too late behind every tenth: what an account counts of those, it must count once."""
    late_ms = 1000 * Policy().bounds.lateness_s + 1
    found: list[Outgoing] = []
    for number, record in enumerate(recorded):
        found.append(record)
        event = decode_event(record.value or b"")
        if number % 10 == 0 and not isinstance(event, Beat):
            found.append(Outgoing(record.key, encode_event(LoggedIn(
                event_id=f"late{number}", account_id=event.account_id, occurred_at=event.arrived_at - late_ms, arrived_at=event.arrived_at,
                session_id=f"s{number}", outcome="passed", flow="login",
            ))))  # fmt: skip
    return found


def lines_of(log: Sequence[LogRecord]) -> list[Outgoing]:
    """What ingest writes to ``lines`` for a raw log, in its order."""
    ingest = Ingest(Policy(), Pseudonyms.from_text(KEY))
    found: list[Outgoing] = []
    for record in log:
        try:
            addressed = ingest.read(record.topic, record.value, record.ts)
        except InvalidEvent:
            continue
        found += [Outgoing(key.encode(), encode_event(event)) for topic, key, event in addressed if topic == "lines"]
    return found


def sightings_of(entities: int, accounts: int, each: int) -> list[Outgoing]:
    """Sightings of callers, in turn, each of which meets ``each`` of the accounts within some hours: many campaigns at once."""
    found: list[Outgoing] = []
    for n in range(each):
        for entity in range(entities):
            at = SIGHTED_FROM + 60_000 * n + 1000 * entity
            sighting = Sighting(
                entity=f"caller:d1:{entity}", account_id=f"acc-{(7 * n + entity) % accounts}", occurred_at=at, arrived_at=at + 500
            )
            found.append(Outgoing(sighting.entity.encode(), encode_sighting(sighting)))
    return found


def appender(live: Deployment, stage: str) -> Callable[[Sequence[Any]], object]:
    """How to append to what a stage reads: raw records for ingest, else what its input is made of."""
    if stage == "ingest":
        return live.load
    return lambda records: live.append(INPUT[stage][0], records)
