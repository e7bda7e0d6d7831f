"""How does a record of ``snoozes`` become an event of its account? What ends a snooze may be a record, or nothing but a tombstone."""

import re

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Ms, Snoozed
from pipeline.wire.canonical import Addressed, ms_of
from pipeline.wire.records import Snooze

_KEY = re.compile(r"([A-Za-z0-9._:-]{1,64})\|([A-Za-z0-9._:-]{1,64})")


def snooze_key(account_id: str, scope: str) -> bytes:
    """Write the key of a snooze: neither part can contain the bar."""
    return f"{account_id}|{scope}".encode()


def snooze(r: Snooze, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
    """Take a record. Raises InvalidEvent for a snooze without an end: it would blind for ever."""
    if r.status == "in_force" and r.expires_at is None:
        raise InvalidEvent("invalid_field", "expires_at is missing from a snooze that is in force")
    event = Snoozed(
        event_id=r.event_id,
        account_id=r.account_id,
        occurred_at=occurred_at,
        arrived_at=arrived_at,
        scope=r.scope,
        status=r.status,
        expires_at=ms_of(r.expires_at, "expires_at") if r.expires_at is not None else None,
        reason=r.reason,
        who=r.who,
    )
    return [Addressed("events", r.account_id, event)]


def snooze_removed(key: bytes | None, arrived_at: Ms) -> list[Addressed]:
    """Take a tombstone for the end of the snooze that its key names, at its arrival: nothing else tells when."""
    named = _KEY.fullmatch(key.decode("ascii", "replace")) if key is not None else None
    if named is None:
        raise InvalidEvent("no_value", "a tombstone of this topic has a key of account_id|scope")
    account_id, scope = named.groups()
    event = Snoozed(
        event_id=f"removed-{arrived_at}",
        account_id=account_id,
        occurred_at=arrived_at,
        arrived_at=arrived_at,
        scope=scope,
        status="ended",
        reason="removed from the topic",
    )
    return [Addressed("events", account_id, event)]
