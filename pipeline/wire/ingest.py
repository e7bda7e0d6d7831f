"""What does a raw record say, and who must hear it? Validates, pseudonymises and addresses one record; the first stage of the flow.

Pure: the same record, policy and keys give the same events, live and in replay. What is kept of a record is what the canonical events
have room for: numbers and names leave only as tokens, addresses and devices as the policy says.
"""

import contextlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec
import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import (
    FEEDS,
    AccountChanged,
    AnyEvent,
    CallChanged,
    Disposed,
    LineAsked,
    LineChanged,
    LineEvent,
    LinkChanged,
    LoggedIn,
    MessageSeen,
    Ms,
    OtpDispatched,
    OtpEntered,
)
from pipeline.core.policy import Policy
from pipeline.wire.pseudonym import Kind, Pseudonyms, normal_number
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
    Telephony,
)
from pipeline.wire.refusal import check_utf8, refusal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_CACHED = 1 << 16  # numbers and user agents remembered; speed only
# The decoder rounds what is finer than a microsecond, and may so reach the next millisecond: those digits are cut beforehand.
_FINE = re.compile(rb"\.[0-9]{7}")
_FINE_INSTANT = re.compile(rb'("(?:occurred_at|expires_at|since)"\s*:\s*"[0-9Tt: -]{19}\.[0-9]{6})[0-9]+')


class Addressed(NamedTuple):
    """An event and the topic and key it goes under."""

    topic: Literal["events", "lines"]
    key: str
    event: AnyEvent | LineEvent


class Ingest:
    """Read raw records of the seven feeds."""

    def __init__(self, policy: Policy, pseudonyms: Pseudonyms, max_bytes: int = 1 << 20) -> None:
        """``max_bytes``: a value longer than this is refused."""
        self._max_bytes = max_bytes
        self._future = policy.bounds.future_s * 1000
        self._line = pseudonyms.line
        self._peer = pseudonyms.peer
        self._ip = _keeper(policy.privacy.ip, "ip", pseudonyms)
        self._device = _keeper(policy.privacy.device_id, "device", pseudonyms)
        decoders = {feed: msgspec.json.Decoder(RECORDS[feed]).decode for feed in FEEDS}
        self._feeds: dict[str, tuple[Callable[[bytes], Record], Callable[..., list[Addressed]], frozenset[str]]] = {
            "logins": (decoders["logins"], self._login, _fields(Login)),
            "otp-dispatches": (decoders["otp-dispatches"], self._dispatch, _fields(OtpDispatch)),
            "telephony": (decoders["telephony"], self._telephony, _fields(Call, CallStatus, Sms, Line) | {"type"}),
            "otp-entries": (decoders["otp-entries"], self._entry, _fields(OtpEntry)),
            "phone-links": (decoders["phone-links"], self._link, _fields(PhoneLink)),
            "account-changes": (decoders["account-changes"], self._account_change, _fields(AccountChange)),
            "dispositions": (decoders["dispositions"], self._disposition, _fields(Disposition)),
        }
        self._on_line: dict[type[Record], Callable[..., LineEvent]] = {
            Call: self._call,
            CallStatus: self._call_status,
            Sms: self._sms,
            Line: self._line_change,
        }

    def read(self, feed: str, value: bytes | None, arrived_at: Ms) -> list[Addressed]:
        """Decode one record of ``feed`` that arrived at ``arrived_at`` (its Kafka timestamp).

        Returns none for a tombstone of ``phone-links``, two for a dispatch to a phone, else one. Raises InvalidEvent and nothing else.
        """
        try:
            decode, address, fields = self._feeds[feed]
        except KeyError:
            raise InvalidEvent("unknown_topic", "not one of the input topics") from None
        if value is None:
            if feed == "phone-links":
                return []
            raise InvalidEvent("no_value", "a record of this topic has a value")
        if len(value) > self._max_bytes:
            raise InvalidEvent("too_large", f"{len(value)} bytes, at most {self._max_bytes} are read")
        if not value.isascii():
            check_utf8(value)
        if _FINE.search(value) is not None:
            value = _FINE_INSTANT.sub(rb"\1", value)
        try:
            record = decode(value)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as e:
            raise refusal(e, fields) from None
        occurred_at = (record.occurred_at - _EPOCH) // _MILLISECOND
        if occurred_at < 0:
            raise InvalidEvent("invalid_time", "occurred_at is before 1970")
        if occurred_at > arrived_at + self._future:
            raise InvalidEvent("future", f"occurred_at is more than {self._future // 1000} s after the arrival")
        return address(record, occurred_at, arrived_at)

    def _login(self, r: Login, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        event = LoggedIn(
            event_id=r.event_id,
            account_id=r.account_id,
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            session_id=r.session_id,
            outcome=r.outcome,
            flow=r.flow,
            device_id=self._device(r.device_id) if r.device_id is not None else None,
            ip=self._ip(r.ip) if r.ip is not None else None,
            asn=r.asn,
            asn_kind=r.asn_kind,
            country=r.country,
            user_agent=user_agent_digest(r.user_agent) if r.user_agent is not None else None,
        )
        return [Addressed("events", r.account_id, event)]

    def _dispatch(self, r: OtpDispatch, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        phone = r.phone
        line = self._line(phone) if phone is not None else None
        event = OtpDispatched(
            event_id=r.event_id,
            account_id=r.account_id,
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            otp_id=r.otp_id,
            channel=r.channel,
            purpose=r.purpose,
            initiated_by=r.initiated_by,
            session_id=r.session_id,
            line=line,
            line_country=region(phone) if phone is not None else None,
            sender=self._peer(r.sender) if r.sender is not None else (),
            status=r.status,
            expires_at=_ms(r.expires_at, "expires_at") if r.expires_at is not None else None,
        )
        addressed = [Addressed("events", r.account_id, event)]
        if line is not None and r.status != "failed":
            link = LinkChanged(
                event_id=r.event_id,
                account_id=r.account_id,
                occurred_at=occurred_at,
                arrived_at=arrived_at,
                line=line,
                status="learned",
            )
            addressed.append(Addressed("lines", line, link))
        return addressed

    def _telephony(self, r: Telephony, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        line = self._line(r.phone)
        return [Addressed("lines", line, self._on_line[type(r)](r, line, occurred_at, arrived_at))]

    def _call(self, r: Call, line: str, occurred_at: Ms, arrived_at: Ms) -> CallChanged:
        peer = r.peer
        return CallChanged(
            event_id=r.event_id,
            account_id="",
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            line=line,
            call_id=r.call_id,
            state=r.state,
            direction=r.direction,
            source=r.source,
            peer=self._peer(peer) if peer is not None else (),
            peer_abroad=abroad(r.phone, peer) if peer is not None else None,
            attestation=r.attestation,
            peer_line=r.peer_line,
            peer_is_contact=r.peer_is_contact,
            peer_is_bank=r.peer_is_bank,
            via=r.via,
        )

    def _call_status(self, r: CallStatus, line: str, occurred_at: Ms, arrived_at: Ms) -> LineAsked:
        since = _ms(r.since, "since") if r.since is not None else None
        if since is not None and since > arrived_at + self._future:
            raise InvalidEvent("future", f"since is more than {self._future // 1000} s after the arrival")
        return LineAsked(
            event_id=r.event_id,
            account_id="",
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            line=line,
            source=r.source,
            on_call=r.on_call,
            since=since,
            direction=r.direction,
            peer_is_contact=r.peer_is_contact,
            peer_is_bank=r.peer_is_bank,
            via=r.via,
        )

    def _sms(self, r: Sms, line: str, occurred_at: Ms, arrived_at: Ms) -> MessageSeen:
        return MessageSeen(
            event_id=r.event_id,
            account_id="",
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            line=line,
            direction=r.direction,
            source=r.source,
            peer=self._peer(r.peer) if r.peer is not None else (),
            peer_is_contact=r.peer_is_contact,
            has_code=r.has_code,
            has_link=r.has_link,
        )

    def _line_change(self, r: Line, line: str, occurred_at: Ms, arrived_at: Ms) -> LineChanged:
        return LineChanged(
            event_id=r.event_id,
            account_id="",
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            line=line,
            change=r.change,
            source=r.source,
            country=r.country,
        )

    def _entry(self, r: OtpEntry, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        event = OtpEntered(
            event_id=r.event_id,
            account_id=r.account_id,
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            otp_id=r.otp_id,
            outcome=r.outcome,
            session_id=r.session_id,
            method=r.method,
            device_id=self._device(r.device_id) if r.device_id is not None else None,
            ip=self._ip(r.ip) if r.ip is not None else None,
            asn=r.asn,
            country=r.country,
        )
        return [Addressed("events", r.account_id, event)]

    def _link(self, r: PhoneLink, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        line = self._line(r.phone)
        event = LinkChanged(
            event_id=r.event_id,
            account_id=r.account_id,
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            line=line,
            status=r.status,
        )
        return [Addressed("lines", line, event)]

    def _account_change(self, r: AccountChange, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        event = AccountChanged(
            event_id=r.event_id,
            account_id=r.account_id,
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            change=r.change,
            session_id=r.session_id,
        )
        return [Addressed("events", r.account_id, event)]

    def _disposition(self, r: Disposition, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        event = Disposed(
            event_id=r.event_id,
            account_id=r.account_id,
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            verdict=r.verdict,
            source=r.source,
            otp_id=r.otp_id,
            session_id=r.session_id,
            finding_uid=r.finding_uid,
        )
        return [Addressed("events", r.account_id, event)]


def _ms(instant: datetime, field: str) -> Ms:
    """Cut an instant to whole milliseconds since the epoch."""
    ms = (instant - _EPOCH) // _MILLISECOND
    if ms < 0:
        raise InvalidEvent("invalid_time", f"{field} is before 1970")
    return ms


def _fields(*records: type[Record]) -> frozenset[str]:
    return frozenset(name for record in records for name in record.__struct_fields__)


def _keeper(how: Literal["plain", "pseudonym", "drop"], kind: Kind, pseudonyms: Pseudonyms) -> Callable[[str], str | None]:
    if how == "plain":
        return lambda value: value
    if how == "drop":
        return lambda _: None
    return lambda value: pseudonyms.opaque(kind, value)


@lru_cache(maxsize=_CACHED)
def user_agent_digest(user_agent: str) -> str:
    """Shorten a user agent to eleven characters (64 bits of BLAKE2b), enough to say "the same as before"."""
    digest = blake2b(user_agent.encode(errors="surrogatepass"), digest_size=8).digest()
    return urlsafe_b64encode(digest)[:11].decode()


@lru_cache(maxsize=_CACHED)
def calling_code(number: str) -> int | None:
    """Return the country calling code of a number in E.164, None when it has none that is assigned.

    >>> calling_code("+447700900123"), calling_code("07700900123")
    (44, None)
    """
    normal = normal_number(number)
    if normal is None or not _E164.fullmatch(normal):
        return None
    # Calling codes are one to three digits and none is the beginning of another (ITU-T E.164, section 6.2.1).
    return next((code for n in (2, 3, 4) if (code := int(normal[1:n])) in COUNTRY_CODE_TO_REGION_CODE), None)


def abroad(phone: str, peer: str) -> bool | None:
    """Say whether the other end has another calling code than the line; None when either has none."""
    theirs = calling_code(peer)
    ours = calling_code(phone)
    return None if theirs is None or ours is None else theirs != ours


@lru_cache(maxsize=_CACHED)
def region(phone: str) -> str | None:
    """Return the region (ISO 3166 alpha-2) that a number in E.164 belongs to, None when it belongs to none.

    A number that the numbering plan cannot place belongs to the main region of its calling code.

    >>> region("+447700900123"), region("+33612345678"), region("+80012345678")
    ('GB', 'FR', None)
    """
    code = calling_code(phone)
    if code is None:
        return None
    regions = COUNTRY_CODE_TO_REGION_CODE[code]
    found: str | None = regions[0]  # the main region comes first
    if len(regions) > 1:
        with contextlib.suppress(phonenumbers.NumberParseException):  # too short to be a number
            found = phonenumbers.region_code_for_number(phonenumbers.parse(phone)) or found
    return None if found == "001" else found  # "001": the world, such as free numbers
