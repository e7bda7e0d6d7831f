"""What does a raw record say, and who must hear it? Checks, decodes and addresses one record; the first stage of the flow.

Pure: the same record, policy and keys give the same events, live and in replay.
"""

import re
from collections.abc import Callable

import msgspec

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import FEEDS, Feed, Ms
from pipeline.core.policy import Policy
from pipeline.wire.canonical import Addressed, Canonical, ms_of
from pipeline.wire.pseudonym import Pseudonyms
from pipeline.wire.records import (
    RECORDS,
    AccountChange,
    Call,
    CallStatus,
    Disposition,
    Line,
    Login,
    OtpDispatch,
    OtpEntry,
    PhoneLink,
    Record,
    Sms,
    Snooze,
)
from pipeline.wire.refusal import check_utf8, refusal
from pipeline.wire.snoozes import snooze, snooze_removed

__all__ = ["Addressed", "Ingest"]

# The decoder rounds what is finer than a microsecond, and may so reach the next millisecond: those digits are cut beforehand.
_FINE = re.compile(rb"\.[0-9]{7}")
_FINE_INSTANT = re.compile(rb'("(?:occurred_at|expires_at|since)"\s*:\s*"[0-9Tt: -]{19}\.[0-9]{6})[0-9]+')


def _fields(*records: type[Record]) -> frozenset[str]:
    return frozenset(name for record in records for name in record.__struct_fields__)


_FIELDS: dict[Feed, frozenset[str]] = {
    "logins": _fields(Login),
    "otp-dispatches": _fields(OtpDispatch),
    "telephony": _fields(Call, CallStatus, Sms, Line) | {"type"},
    "otp-entries": _fields(OtpEntry),
    "phone-links": _fields(PhoneLink),
    "account-changes": _fields(AccountChange),
    "dispositions": _fields(Disposition),
    "snoozes": _fields(Snooze),
}


class Ingest:
    """Read raw records of the eight feeds."""

    def __init__(self, policy: Policy, pseudonyms: Pseudonyms, max_bytes: int = 1 << 20) -> None:
        """``max_bytes``: a value longer than this is refused."""
        self._max_bytes = max_bytes
        self._future = policy.bounds.future_s * 1000
        canonical = Canonical(policy, pseudonyms)
        address: dict[Feed, Callable[..., list[Addressed]]] = {
            "logins": canonical.login,
            "otp-dispatches": canonical.dispatch,
            "telephony": canonical.telephony,
            "otp-entries": canonical.entry,
            "phone-links": canonical.link,
            "account-changes": canonical.account_change,
            "dispositions": canonical.disposition,
            "snoozes": snooze,
        }
        self._feeds: dict[str, tuple[Callable[[bytes], Record], Callable[..., list[Addressed]], frozenset[str]]] = {
            feed: (msgspec.json.Decoder(RECORDS[feed]).decode, address[feed], _FIELDS[feed]) for feed in FEEDS
        }

    def read(self, feed: str, value: bytes | None, arrived_at: Ms, key: bytes | None = None) -> list[Addressed]:
        """Decode one record of ``feed`` that arrived at ``arrived_at`` (its Kafka timestamp). ``key`` is read of a tombstone only.

        Returns none for a tombstone of ``phone-links``, two for a dispatch to a phone, else one. Raises InvalidEvent and nothing else.
        """
        try:
            decode, address, fields = self._feeds[feed]
        except KeyError:
            raise InvalidEvent("unknown_topic", "not one of the input topics") from None
        if value is None:
            if feed == "phone-links":
                return []
            if feed == "snoozes":
                return snooze_removed(key, arrived_at)
            raise InvalidEvent("no_value", "a record of this topic has a value")
        if len(value) > self._max_bytes:
            raise InvalidEvent("too_large", f"{len(value)} bytes, at most {self._max_bytes} are read")
        check_utf8(value)
        if _FINE.search(value) is not None:
            value = _FINE_INSTANT.sub(rb"\1", value)
        try:
            record = decode(value)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as e:
            refused = refusal(e, fields)
        else:
            occurred_at = ms_of(record.occurred_at, "occurred_at")
            if occurred_at > arrived_at + self._future:
                raise InvalidEvent("future", f"occurred_at is more than {self._future // 1000} s after the arrival")
            return address(record, occurred_at, arrived_at)
        # Out here, so that the decoder's words, which may quote the value, are not its context. And let go of: else the refusal would hold
        # this frame, which holds it, and with them whoever asked, a whole batch, until somebody looks for garbage.
        try:
            raise refused
        finally:
            del refused
