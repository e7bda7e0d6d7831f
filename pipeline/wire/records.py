"""What an institution writes: the records of the eight input topics, as types that refuse what the contract forbids.

Readers are tolerant: unknown fields are ignored and a nullable field may be absent. Everything else is checked while decoding.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.core.events import (
    AsnKind,
    Attestation,
    CallState,
    Change,
    Channel,
    Direction,
    DispositionSource,
    Feed,
    LineChange,
    LineSource,
    PeerLine,
    Purpose,
    Verdict,
    Via,
)

Id = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{1,64}\Z", description="1 to 64 characters of A-Za-z0-9._:-")]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset; when it happened, not when it arrived")]
Phone = Annotated[str, Meta(pattern=r"\A\+[1-9][0-9]{1,14}\Z", description="E.164")]
Peer = Annotated[str, Meta(min_length=1, max_length=64, description="E.164, another number, or a sender name")]
Country = Annotated[str, Meta(pattern=r"\A[A-Z]{2}\Z", description="ISO 3166 alpha-2")]
Asn = Annotated[int, Meta(ge=0, le=4294967295)]
Ip = Annotated[str, Meta(min_length=2, max_length=45)]
Reason = Annotated[
    str,
    Meta(
        pattern=r"\A(?![\s\S]*[0-9](?:[ ()./-]?[0-9]){5})[^\x00-\x1f\x7f]{0,200}\Z",
        description="why, in words: up to 200 characters, none of six digits or more in a row, as numbers and codes have",
    ),
]
UserAgent = Annotated[str, Meta(max_length=2048)]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    event_id: Id
    occurred_at: Instant


class Login(Record, frozen=True, kw_only=True):
    """A credential check (first factor). Topic ``logins``, key ``account_id``."""

    account_id: Id
    session_id: Id
    outcome: Literal["passed", "failed", "locked"]
    flow: Literal["login", "password_reset"]
    device_id: Id | None = None
    ip: Ip | None = None
    asn: Asn | None = None
    asn_kind: AsnKind | None = None
    country: Country | None = None
    user_agent: UserAgent | None = None


class OtpDispatch(Record, frozen=True, kw_only=True):
    """A one-time code was sent. Topic ``otp-dispatches``, key ``account_id``."""

    account_id: Id
    otp_id: Id
    channel: Channel
    purpose: Purpose
    initiated_by: Literal["customer", "agent"]
    session_id: Id | None = None
    phone: Phone | None = None
    sender: Peer | None = None
    status: Literal["sent", "delivered", "failed"] = "sent"
    expires_at: Instant | None = None


class TelephonyRecord(Record, frozen=True, kw_only=True, tag_field="type"):
    phone: Phone
    source: LineSource | None = None


class Call(TelephonyRecord, frozen=True, kw_only=True, tag="call"):
    """One state of a call, as it happens. Topic ``telephony``, key ``phone``."""

    call_id: Id
    state: CallState
    direction: Direction
    peer: Peer | None = None
    attestation: Attestation | None = None
    peer_line: PeerLine | None = None
    peer_is_contact: bool | None = None
    peer_is_bank: bool | None = None
    via: Via = "network"


class CallStatus(TelephonyRecord, frozen=True, kw_only=True, tag="call_status"):
    """The answer to "is this line on a call now?". Topic ``telephony``, key ``phone``."""

    on_call: bool | None = None
    since: Instant | None = None
    direction: Direction | None = None
    peer_is_contact: bool | None = None
    peer_is_bank: bool | None = None
    via: Via | None = None


class Sms(TelephonyRecord, frozen=True, kw_only=True, tag="sms"):
    """A text message came or went. Topic ``telephony``, key ``phone``."""

    direction: Direction
    peer: Peer | None = None
    peer_is_contact: bool | None = None
    has_code: bool | None = None
    has_link: bool | None = None


class Line(TelephonyRecord, frozen=True, kw_only=True, tag="line"):
    """The line itself changed. Topic ``telephony``, key ``phone``."""

    change: LineChange
    country: Country | None = None


Telephony = Call | CallStatus | Sms | Line


class OtpEntry(Record, frozen=True, kw_only=True):
    """A code was entered. Topic ``otp-entries``, key ``account_id``."""

    account_id: Id
    otp_id: Id
    outcome: Literal["accepted", "rejected", "expired"]
    session_id: Id | None = None
    method: Literal["typed", "pasted", "autofill"] | None = None
    device_id: Id | None = None
    ip: Ip | None = None
    asn: Asn | None = None
    country: Country | None = None


class PhoneLink(Record, frozen=True, kw_only=True):
    """Whose phone is it. Topic ``phone-links``, key ``phone|account_id``, compacted; a tombstone changes nothing."""

    phone: Phone
    account_id: Id
    status: Literal["linked", "unlinked"]


class AccountChange(Record, frozen=True, kw_only=True):
    """What the session did next. Topic ``account-changes``, key ``account_id``."""

    account_id: Id
    change: Change
    session_id: Id | None = None


class Disposition(Record, frozen=True, kw_only=True):
    """What case management found out. Topic ``dispositions``, key ``account_id``."""

    account_id: Id
    verdict: Verdict
    source: DispositionSource
    otp_id: Id | None = None
    session_id: Id | None = None
    finding_uid: Id | None = None


class Snooze(Record, frozen=True, kw_only=True):
    """A known cause that findings need not be heard for. Topic ``snoozes``, key ``account_id|scope``, compacted; a tombstone ends it."""

    account_id: Id
    scope: Id
    status: Literal["in_force", "ended"]
    expires_at: Instant | None = None
    reason: Reason = ""
    who: Id | None = None


RECORDS: dict[Feed, object] = {
    "logins": Login,
    "otp-dispatches": OtpDispatch,
    "telephony": Telephony,
    "otp-entries": OtpEntry,
    "phone-links": PhoneLink,
    "account-changes": AccountChange,
    "dispositions": Disposition,
    "snoozes": Snooze,
}
