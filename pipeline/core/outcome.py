"""What the fold says: decisions, findings, holds, examples, sightings and events that came too late. Values; wire makes records of them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.core.events import Ms

Level = Literal["clear", "watch", "alert"]
Stage = Literal["before_entry", "at_entry", "after_entry", "near_miss"]
FeatureValue = float | int | bool | str
ExampleSource = Literal["analyst", "customer", "chargeback", "automatic", "unlabelled"]  # unlabelled: nobody said anything for days
MOST_WEIGHT = 10_000.0  # one example never stands for more: 1/p of the rarest sampling that is sensible
Weight = Annotated[float, Meta(gt=0, le=MOST_WEIGHT)]


class Reason(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A named, signed part of the log-odds. ``text`` is how an analyst would say it."""

    name: str
    contribution: float
    text: str = ""


class RuleHit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A rule that holds for the episode: its id (R01), its name and version."""

    uid: str
    name: str
    version: str


class Evidence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that an assessment rests on."""

    event_id: str
    type: str
    occurred_at: Ms
    feed: str


class Challenger(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a model that runs in the shadow says of the same features: its id and its probability (0 to 1)."""

    model_id: str
    probability: float


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An assessment worth keeping, with every input on it.

    ``time`` is the latest arrival among the events it rests on, or the deadline that fired (ms). ``probability`` is 0 to 1.
    ``control``: one of the few alerts, taken by chance, whose verdict an institution can have given without this one's influence.
    """

    decision_id: str
    account_id: str
    otp_id: str
    incident_id: str
    finding_uid: str | None
    time: Ms
    stage: Stage
    level: Level
    probability: float
    threshold: float
    features: dict[str, FeatureValue]
    reasons: tuple[Reason, ...]
    event_ids: tuple[str, ...]
    policy_id: str
    model_id: str
    version: str
    challengers: tuple[Challenger, ...] = ()
    control: bool = False


class Snooze(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A snooze in force: what it is about, until when (ms), why, and who said so."""

    scope: str
    until: Ms
    reason: str
    who: str | None


class Suppression(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a finding does not page and places no hold: the snoozes without which it would stand, or a flood of findings."""

    cause: Literal["snooze", "flood"]
    snoozes: tuple[Snooze, ...] = ()


class Exoneration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Facts that can be asked for and, had they been so, would have left the finding below the threshold.

    ``facts``: their names; ``text``: as an analyst would ask; ``probability``: what would then have been left.
    """

    facts: tuple[str, ...]
    text: str
    probability: float


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an alert reports; one challenge, one uid. Instants in ms. ``None`` in a flag means that no feed tells."""

    uid: str
    sequence: int
    activity: Literal["create", "update", "close"]
    incident_id: str
    part_of: str | None  # the uid of the open finding of this incident that pages, when this one does not
    account_id: str
    otp_id: str
    session_id: str | None
    time: Ms
    created_time: Ms
    first_seen: Ms
    last_seen: Ms
    stage: Stage
    level: Level
    probability: float
    threshold: float
    title: str
    message: str  # one sentence an analyst can read aloud
    story: str  # what happened, with times
    advice: str  # what to do now
    contact_advice: str
    close_reason: str | None
    verdict_id: int  # OCSF verdict_id, 0 unknown
    kinds: tuple[str, ...]  # finding types, such as otp_relay_voice
    attacks: tuple[str, ...]  # technique ids: T1111, F1006.002, ...
    rules: tuple[RuleHit, ...]
    reasons: tuple[Reason, ...]
    events: tuple[Evidence, ...]
    data: dict[str, object]  # the features with the account's own normal beside them
    ip: str | None
    caller: str | None
    decision_deadline: Ms | None
    feeds: tuple[str, ...]
    feeds_missing: tuple[str, ...]
    call_live: bool | None
    session_open: bool | None
    money_moved: bool | None
    linked_accounts: int | None
    truncated: bool
    policy_id: str
    model_id: str
    version: str
    expires_at: Ms | None  # until when the code is valid
    suppressed: Suppression | None = None
    benign_if: tuple[Exoneration, ...] = ()


class Hold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """While a challenge is at level ``alert`` and unused: the login server may refuse the code."""

    account_id: str
    otp_id: str
    session_id: str | None
    finding_uid: str
    probability: float
    expires_at: Ms
    reason: str


class HoldEnded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The hold on a challenge is over; becomes a tombstone."""

    account_id: str
    otp_id: str


class Late(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that was not folded: it arrived too long after it occurred, or its time was already sealed."""

    account_id: str
    event_id: str
    occurred_at: Ms
    arrived_at: Ms


class Replaced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the same example taught before."""

    label: bool
    weight: Weight


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """One lesson. ``example_id`` is that of the decision; ``time`` when the label came; ``weight``: 1/p of the sampling times trust.

    ``decided_at`` (ms), ``model_id`` and ``probability`` (0 to 1) are those of the decision. ``level``: alert where the challenge alarmed
    at any time, else the decision's; ``control``: whether that alert is one of the few taken by chance.
    """

    example_id: str
    time: Ms
    features: dict[str, FeatureValue]
    label: bool
    weight: Weight
    replaces: Replaced | None = None
    account_id: str = ""
    source: ExampleSource = "analyst"
    decided_at: Ms = 0
    model_id: str = ""
    probability: float | None = None
    level: Level = "clear"
    control: bool = False


class Sighting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A caller, text sender, device or address met an account while a code was open; ``exempt``: it was the institution's own.

    ``entity``: what it is and its token, such as ``caller:k1:...``. ``codes:`` and when five minutes begin (s): it was sent a code in them.
    """

    entity: str
    account_id: str
    occurred_at: Ms
    arrived_at: Ms
    exempt: bool = False


Outcome = Decision | Finding | Hold | HoldEnded | Late | Example | Sighting
