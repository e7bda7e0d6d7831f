"""What happens in the world, whole and once, whoever may see it: the facts that views turn into records.

Instants are milliseconds since the epoch. A call is one fact with all its states; ``in_app`` is a call inside an app, which the
network does not see and the phone's own software only sometimes (``phone_notices``).
"""

from typing import Literal

import msgspec

from pipeline.core.events import Change as ChangeKind
from pipeline.core.events import Direction, LineChange, Purpose, Verdict
from pipeline.simulate.identifiers import Device, Network, Peer
from pipeline.simulate.people import Customer, Line

Channel = Literal["sms", "voice", "push", "totp"]
Label = Literal["takeover", "attempt", "benign"]


class Login(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    at: int
    account_id: str
    session_id: str
    outcome: Literal["passed", "failed", "locked"]
    flow: Literal["login", "password_reset"]
    device: Device
    network: Network


class Dispatch(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    at: int
    account_id: str
    otp_id: str
    session_id: str | None
    line: Line | None
    sender: str | None
    channel: Channel
    purpose: Purpose
    initiated_by: Literal["customer", "agent"]
    status: Literal["sent", "delivered", "failed"]
    expires_at: int | None


class Entry(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    at: int
    account_id: str
    otp_id: str
    session_id: str | None
    line: Line | None  # where the code had gone
    outcome: Literal["accepted", "rejected", "expired"]
    method: Literal["typed", "pasted", "autofill"] | None
    device: Device
    network: Network


class Call(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    call_id: str
    line: Line
    direction: Direction
    at: int  # begins to ring, or is dialled
    answered_at: int | None
    ended_at: int  # the last state: over, or missed
    peer: Peer
    in_app: bool = False
    phone_notices: bool = True


class Text(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    at: int
    line: Line
    direction: Direction
    peer: str | None
    is_contact: bool
    has_code: bool
    has_link: bool


class LineChanged(msgspec.Struct, frozen=True, gc=False):
    """``told_at``: when the carrier sends it; an old change reaches the bank as a snapshot."""

    event_id: str
    at: int
    told_at: int
    line: Line
    change: LineChange
    country: str | None


class Link(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    at: int
    told_at: int
    line: Line
    account_id: str


class Changed(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    at: int
    account_id: str
    session_id: str | None
    change: ChangeKind


class Disposed(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    at: int
    account_id: str
    otp_id: str
    session_id: str | None
    verdict: Verdict
    source: Literal["analyst", "customer", "chargeback", "automatic"]


Fact = Login | Dispatch | Entry | Call | Text | LineChanged | Link | Changed | Disposed


class Challenge(msgspec.Struct, gc=False):
    """One one-time code and what came of it; the truth that is written beside the log."""

    customer: Customer
    otp_id: str
    session_id: str | None
    line: Line | None
    channel: Channel
    purpose: Purpose
    initiated_by: Literal["customer", "agent"]
    dispatched_at: int
    delivered_at: int
    expires_at: int
    story: str
    label: Label
    is_history: bool
    entered_at: int | None = None  # the last entry
    accepted: bool = False
    call: Call | None = None  # the story's own call


class Backlog(msgspec.Struct, frozen=True, gc=False):
    """What the carrier of this line should have told between two instants comes at the second, out of order."""

    line: Line
    begin: int
    end: int
