"""Which causes does somebody ask to hear no more of? The snoozes of one account, and which of them are in force for a challenge.

A set of records, as recent events are: which snoozes are in force for a challenge depends on what they say and on when the challenge
was, never on the order in which anything was delivered. ``suppression`` says which findings they silence.
"""

import msgspec

from pipeline.core.events import Ms, Snoozed
from pipeline.core.policy import Snoozes
from pipeline.core.profile import DAY_MS

MODEL = "model"  # the scope of whoever wants to hear nothing at all of an account
_MODEL_IDS = "m_"  # how the id of a model begins


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A snooze record as an account keeps it: ``until`` (ms) is cut to what the policy allows; one that ends a snooze lasts no time."""

    occurred_at: Ms
    event_id: str
    arrived_at: Ms
    scope: str
    until: Ms
    reason: str
    who: str | None


def most_days(scope: str, policy: Snoozes) -> int:
    """For how many days a scope may be snoozed at most."""
    return policy.model_days if scope == MODEL or scope.startswith(_MODEL_IDS) else policy.days


def kept(event: Snoozed, policy: Snoozes) -> Kept:
    """What is kept of a record. One without an end lasts as long as the policy allows."""
    most = event.occurred_at + DAY_MS * most_days(event.scope, policy)
    until = event.occurred_at if event.status == "ended" else most if event.expires_at is None else min(most, event.expires_at)
    return Kept(event.occurred_at, event.event_id, event.arrived_at, event.scope, until, event.reason, event.who)


def with_snooze(snoozes: tuple[Kept, ...], event: Snoozed, policy: Snoozes) -> tuple[Kept, ...]:
    """The set with one more record, in order of occurrence; the same object when it says nothing new.

    Of two contents under one id, the one that arrived first stands.
    """
    new = kept(event, policy)
    same = next((s for s in snoozes if (s.event_id, s.scope) == (new.event_id, new.scope)), None)
    if same is not None and _precedence(same) <= _precedence(new):
        return snoozes
    rest = [s for s in snoozes if s is not same]
    found = tuple(sorted((*rest, new), key=_order)[-policy.kept :])
    return snoozes if found == snoozes else found


def in_force(snoozes: tuple[Kept, ...], start: Ms, until: Ms, lateness: Ms) -> list[Kept]:
    """Those that speak of a challenge which began at ``start`` and concerns nobody after ``until`` (ms): the last word on each scope.

    A word counts when it was said before ``until`` and came no later than ``lateness`` after it, as with everything else that touches a
    challenge; what it says must not have expired when the challenge began.
    """
    last: dict[str, Kept] = {}
    for s in snoozes:
        if s.occurred_at <= until and s.arrived_at <= until + lateness:
            last[s.scope] = s
    return [s for s in last.values() if start < s.until and s.occurred_at < s.until]


def _order(s: Kept) -> tuple[Ms, str, str]:
    return (s.occurred_at, s.event_id, s.scope)


def _precedence(s: Kept) -> tuple[Ms, Ms, Ms, str, str]:
    return (s.arrived_at, s.occurred_at, s.until, s.reason, s.who or "")
