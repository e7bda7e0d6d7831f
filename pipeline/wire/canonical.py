"""How does a raw record become canonical events? Fields are renamed, instants become milliseconds, identities become tokens.

What is kept of a record is what the canonical events have room for: numbers and names leave only as tokens, addresses and devices as the
policy says.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, NamedTuple

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import (
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
from pipeline.wire.numbering import abroad, region
from pipeline.wire.pseudonym import Kind, Pseudonyms
from pipeline.wire.records import (
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_CACHED = 1 << 16  # user agents remembered; speed only


class Addressed(NamedTuple):
    """An event and the topic and key it goes under."""

    topic: Literal["events", "lines"]
    key: str
    event: AnyEvent | LineEvent


class Canonical:
    """Write each kind of record as addressed events. Every method takes the record, and when it occurred and arrived (ms)."""

    def __init__(self, policy: Policy, pseudonyms: Pseudonyms) -> None:
        self._future = policy.bounds.future_s * 1000
        self._line = pseudonyms.line
        self._peer = pseudonyms.peer
        self._ip = _keeper(policy.privacy.ip, "ip", pseudonyms)
        self._device = _keeper(policy.privacy.device_id, "device", pseudonyms)
        self._on_line: dict[type[Record], Callable[..., LineEvent]] = {
            Call: self._call,
            CallStatus: self._call_status,
            Sms: self._sms,
            Line: self._line_change,
        }

    def login(self, r: Login, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
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

    def dispatch(self, r: OtpDispatch, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
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
            expires_at=ms_of(r.expires_at, "expires_at") if r.expires_at is not None else None,
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

    def telephony(self, r: Telephony, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
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
        since = ms_of(r.since, "since") if r.since is not None else None
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

    def entry(self, r: OtpEntry, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
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

    def link(self, r: PhoneLink, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
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

    def account_change(self, r: AccountChange, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
        event = AccountChanged(
            event_id=r.event_id,
            account_id=r.account_id,
            occurred_at=occurred_at,
            arrived_at=arrived_at,
            change=r.change,
            session_id=r.session_id,
        )
        return [Addressed("events", r.account_id, event)]

    def disposition(self, r: Disposition, occurred_at: Ms, arrived_at: Ms) -> list[Addressed]:
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


def ms_of(instant: datetime, field: str) -> Ms:
    """Cut an instant to whole milliseconds since the epoch."""
    ms = (instant - _EPOCH) // _MILLISECOND
    if ms < 0:
        raise InvalidEvent("invalid_time", f"{field} is before 1970")
    return ms


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
