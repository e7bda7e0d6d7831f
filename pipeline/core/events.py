"""What can happen to an account: the canonical events that ingest writes, route addresses and the fold reads.

Instants are integer milliseconds since the epoch (``Ms``), everywhere in the core; a finer instant is cut to the millisecond.
Numbers and sender names are keyed pseudonyms; ``peer`` and ``sender`` are tuples of tokens, newest key first: empty when
the other end is not known, two tokens of the same number while keys rotate.

Kinds are told apart by ``type(event) is``, and therefore final: ``isinstance`` takes a tenth of a microsecond to say no to a struct.
"""

from typing import Annotated, Literal, final, get_args

import msgspec
from msgspec import Meta

Ms = int
EvidenceFeed = Literal["logins", "otp-dispatches", "telephony", "otp-entries", "phone-links", "account-changes", "dispositions"]
Feed = Literal[EvidenceFeed, "snoozes"]
FEEDS: tuple[Feed, ...] = get_args(Feed)
EVIDENCE_FEEDS: tuple[Feed, ...] = get_args(EvidenceFeed)  # the others say what to do about findings: without them nothing is missing
LINE_FEEDS: frozenset[Feed] = frozenset(("otp-dispatches", "telephony", "phone-links"))  # their records travel through ``lines``
LINES = "lines"  # stands beside the feeds in beats: what of them has been routed to the accounts
ESSENTIAL_FEEDS: frozenset[Feed] = frozenset(("logins", "otp-dispatches", "otp-entries"))

AsnKind = Literal["residential", "mobile", "hosting", "proxy", "corporate"]
Channel = Literal["sms", "voice", "push", "email", "totp"]
Purpose = Literal["login", "password_reset", "new_payee", "payment", "wallet_provisioning", "device_binding"]
CallState = Literal["ringing", "answered", "ended", "missed"]
Direction = Literal["inbound", "outbound"]
Attestation = Literal["A", "B", "C", "failed"]
PeerLine = Literal["mobile", "fixed", "voip", "toll_free"]
Via = Literal["network", "app"]
LineSource = Literal["carrier", "probe", "device_sdk", "bank_trunk"]
LineChange = Literal["sim_swapped", "ported", "forwarding_on", "forwarding_off", "roaming_on", "roaming_off"]
Change = Literal["payee_added", "transfer", "password_changed", "phone_changed", "email_changed", "device_bound", "notifications_off"]
Verdict = Literal["true_positive", "false_positive", "disregard", "suspicious", "benign", "test", "insufficient_data", "duplicate"]
DispositionSource = Literal["analyst", "customer", "chargeback", "automatic"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, gc=False):
    """One fact about one account. ``account_id`` is empty only in the ``lines`` topic, before route has addressed it."""

    event_id: str
    account_id: str
    occurred_at: Ms
    arrived_at: Ms


@final
class LoggedIn(Event, frozen=True, kw_only=True, tag="logged_in", omit_defaults=True):
    """A credential check (first factor). ``user_agent`` is a short digest, enough to say "the same as before"."""

    session_id: str
    outcome: Literal["passed", "failed", "locked"]
    flow: Literal["login", "password_reset"]
    device_id: str | None = None
    ip: str | None = None
    asn: int | None = None
    asn_kind: AsnKind | None = None
    country: str | None = None
    user_agent: str | None = None


@final
class OtpDispatched(Event, frozen=True, kw_only=True, tag="otp_dispatched", omit_defaults=True):
    """A one-time code was sent, or sent again, or its delivery was confirmed. ``line_country`` follows from the number's prefix."""

    otp_id: str
    channel: Channel
    purpose: Purpose
    initiated_by: Literal["customer", "agent"]
    session_id: str | None = None
    line: str | None = None
    line_country: str | None = None
    sender: tuple[str, ...] = ()
    status: Literal["sent", "delivered", "failed"] = "sent"
    expires_at: Ms | None = None


@final
class CallChanged(Event, frozen=True, kw_only=True, tag="call_changed", omit_defaults=True):
    """A call on the customer's line reached a state. ``peer_abroad``: the other end has another country code than the line."""

    line: str
    call_id: str
    state: CallState
    direction: Direction
    source: LineSource | None = None
    peer: tuple[str, ...] = ()
    peer_abroad: bool | None = None
    attestation: Attestation | None = None
    peer_line: PeerLine | None = None
    peer_is_contact: bool | None = None
    peer_is_bank: bool | None = None
    via: Via = "network"


@final
class LineAsked(Event, frozen=True, kw_only=True, tag="line_asked", omit_defaults=True):
    """The answer to "is this line on a call now?"."""

    line: str
    source: LineSource | None = None
    on_call: bool | None = None
    since: Ms | None = None
    direction: Direction | None = None
    peer_is_contact: bool | None = None
    peer_is_bank: bool | None = None
    via: Via | None = None


@final
class MessageSeen(Event, frozen=True, kw_only=True, tag="message_seen", omit_defaults=True):
    """A text message came to the line or left it."""

    line: str
    direction: Direction
    source: LineSource | None = None
    peer: tuple[str, ...] = ()
    peer_is_contact: bool | None = None
    has_code: bool | None = None
    has_link: bool | None = None


@final
class LineChanged(Event, frozen=True, kw_only=True, tag="line_changed", omit_defaults=True):
    """The line itself changed: SIM, carrier, forwarding, roaming. Never late: an old change is an ordinary record."""

    line: str
    change: LineChange
    source: LineSource | None = None
    country: str | None = None


@final
class LineLinked(Event, frozen=True, kw_only=True, tag="line_linked", omit_defaults=True):
    """The line began or ceased to belong to the account. ``accounts``: how many the line serves after that."""

    line: str
    status: Literal["linked", "unlinked", "learned"]
    accounts: int


@final
class OtpEntered(Event, frozen=True, kw_only=True, tag="otp_entered", omit_defaults=True):
    """A code was entered."""

    otp_id: str
    outcome: Literal["accepted", "rejected", "expired"]
    session_id: str | None = None
    method: Literal["typed", "pasted", "autofill"] | None = None
    device_id: str | None = None
    ip: str | None = None
    asn: int | None = None
    country: str | None = None


@final
class AccountChanged(Event, frozen=True, kw_only=True, tag="account_changed", omit_defaults=True):
    """What the session did next."""

    change: Change
    session_id: str | None = None


@final
class Disposed(Event, frozen=True, kw_only=True, tag="disposed", omit_defaults=True):
    """What case management found out. Never late: fraud is confirmed days after it happened."""

    verdict: Verdict
    source: DispositionSource
    otp_id: str | None = None
    session_id: str | None = None
    finding_uid: str | None = None


@final
class Snoozed(Event, frozen=True, kw_only=True, tag="snoozed", omit_defaults=True):
    """Somebody wants to hear no more of a known cause, or to hear of it again. Never late; the last word on a scope counts.

    ``scope``: the id of a rule, the name of a reason, ``model`` for whatever the score says, or the id of one model.
    """

    scope: str
    status: Literal["in_force", "ended"]
    expires_at: Ms | None = None
    reason: str = ""
    who: str | None = None


@final
class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far one partition of a feed has been read: all that arrived up to ``read_to``; its last record arrived at ``last``."""

    read_to: Ms
    last: Ms | None


@final
class Beat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="beat", omit_defaults=True, gc=False):
    """The clock inside the log: how far its writer has read each partition it owns.

    ``marks`` maps ``feed/partition`` to a Mark, ``lines/partition`` too; ``partitions`` maps a feed (and ``lines``, where calls come
    through it) to its number of partitions, so that a reader knows whether it has heard of all: only ingest says so, in the beats of
    route it is empty. ``suspended`` names feeds set aside because too much of them could not be read.
    """

    arrived_at: Ms
    marks: dict[str, Mark]
    partitions: dict[str, int]
    suspended: tuple[str, ...] = ()


@final
class Activation(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="activation", omit_defaults=True, gc=False):
    """From this place in the log on ``champion`` scores, and ``challengers`` in its shadow; in every partition, like a beat.

    The ids are those of snapshots in ``models``, or of the model that the policy weighs. ``alert`` and ``watch``: thresholds instead of
    the policy's (0 to 1). ``why`` and ``by`` are for people: the evidence, and whose decision it was.
    """

    activation_id: str
    arrived_at: Ms
    champion: str
    challengers: tuple[str, ...] = ()
    alert: Annotated[float, Meta(gt=0, lt=1)] | None = None
    watch: Annotated[float, Meta(gt=0, lt=1)] | None = None
    why: str = ""
    by: str = ""


@final
class CampaignMark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who met an entity within one stretch of time: when it begins, short names of accounts in order, and whether it was the bank's own."""

    at: Ms
    accounts: tuple[str, ...]
    exempt: bool = False


@final
class CampaignSeen(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="campaign_seen", omit_defaults=True, gc=False):
    """One caller, text sender, device or address has met several accounts within the hour: all that is known of it, in order of time.

    It has no account and stands in every partition of ``events``; what is said twice, or in another order, comes to the same.
    """

    entity: str
    arrived_at: Ms
    marks: tuple[CampaignMark, ...]


@final
class CodesSurged(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="codes_surged", gc=False):
    """In the five minutes from ``at`` (ms) on, more accounts of the whole bank were sent a code than is usual at this hour.

    ``z``: by how many spreads, in half ones; it is said again when it has grown. In every partition of ``events``, and of no account.
    """

    at: Ms
    arrived_at: Ms
    z: Annotated[float, Meta(ge=0.0, le=10.0)]


AccountEvent = (
    LoggedIn
    | OtpDispatched
    | CallChanged
    | LineAsked
    | MessageSeen
    | LineChanged
    | LineLinked
    | OtpEntered
    | AccountChanged
    | Disposed
    | Snoozed
)
TelephonyEvent = CallChanged | LineAsked | MessageSeen | LineChanged


@final
class LinkChanged(Event, frozen=True, kw_only=True, tag="link_changed", omit_defaults=True):
    """In ``lines`` only: the line belongs, or no longer belongs, to ``account_id``; ``learned`` when a code was sent to it."""

    line: str
    status: Literal["linked", "unlinked", "learned"]


Keyless = Beat | Activation | CampaignSeen | CodesSurged  # in every partition of ``events``, and of no account
AnyEvent = AccountEvent | Keyless  # a record of ``events``
LineEvent = TelephonyEvent | LinkChanged | Beat  # a record of ``lines``


def account_of(event: AnyEvent) -> str:
    """The account that a record of ``events`` is about; empty for what has none."""
    if type(event) is Beat or type(event) is Activation or type(event) is CampaignSeen or type(event) is CodesSurged:
        return ""
    return event.account_id
