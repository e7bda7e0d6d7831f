"""Whom did an account meet while a code was open? A fact and a dispatch near it make a sighting, which the campaign stage counts.

A sighting is said as soon as both are known, whichever comes last, and never taken back: it rests on what the two records say of
themselves and on devices and networks known for hours, so that no order of arrival shows. What is the institution's own says so
(``exempt``) and outweighs. Whether the meeting was suspicious is judged for each account by itself (features.campaign).
"""

from collections.abc import Iterable, Iterator

from pipeline.core.episode import CLOCK_SKEW_MS, LOGIN_BEFORE_MS
from pipeline.core.events import AsnKind, CallChanged, LoggedIn, MessageSeen, Ms, OtpDispatched, OtpEntered
from pipeline.core.outcome import Sighting
from pipeline.core.policy import Policy
from pipeline.core.profile import Profile, is_new
from pipeline.core.timeline import RecentEvent

OF_FEW: tuple[AsnKind, ...] = ("residential", "hosting", "proxy")  # behind one address of a mobile carrier or an office are thousands
_RING_MS = 30_000  # a call may ring this long before it is answered
Fact = tuple[str, bool]  # the entity, and whether it is the institution's own
Meeting = tuple[str, Ms, bool]  # with when


def is_open(event: RecentEvent, dispatch: OtpDispatched, policy: Policy) -> bool:
    """Whether an event is near enough to a dispatch to concern its code."""
    ms = event.occurred_at - dispatch.occurred_at
    if type(event) is CallChanged or type(event) is MessageSeen:
        return -1000 * policy.campaigns.before_s <= ms <= 1000 * policy.campaigns.after_s
    if type(event) is LoggedIn:
        if ms > CLOCK_SKEW_MS:
            return False
        return dispatch.session_id == event.session_id if dispatch.session_id is not None else ms >= -LOGIN_BEFORE_MS
    return type(event) is OtpEntered and event.otp_id == dispatch.otp_id


def meetings(
    recent: tuple[RecentEvent, ...], event: RecentEvent, profile: Profile, policy: Policy, account_id: str
) -> tuple[list[tuple[str, str]], list[Sighting]]:
    """Whom the account met, as far as it follows from this event being there: (otp_id, entity) of each, and what there is to say of it.

    A meeting is dated by the later of its two records, and said once for each stretch of time in which campaigns are counted.
    """
    if not _may_meet(event, profile, policy):
        return [], []
    found = list(_meetings(_pairs(recent, event, profile, policy), profile, policy))
    if not found:
        return [], []
    step = 1000 * policy.campaigns.step_s
    tokens = {meeting[0].partition(":")[2] for _, meeting in found}
    alike = [e for e in recent if (type(e) is OtpDispatched or _may_name(e, tokens)) and e is not event]
    dispatches = tuple(e for e in alike if type(e) is OtpDispatched)
    known = {
        (entity, at // step, own)
        for e in alike
        if type(e) is not OtpDispatched
        for _, (entity, at, own) in _meetings(_pairs(dispatches, e, profile, policy), profile, policy)
    }
    said: list[Sighting] = []
    for entity, at, own in sorted({meeting for _, meeting in found}):
        if (entity, at // step, own) not in known:
            known.add((entity, at // step, own))
            said.append(Sighting(entity=entity, account_id=account_id, occurred_at=at, arrived_at=event.arrived_at, exempt=own))
    return sorted({(otp_id, meeting[0]) for otp_id, meeting in found}), said


def _may_meet(event: RecentEvent, profile: Profile, policy: Policy) -> bool:
    """Whether there is anybody to meet in an event: most have nobody, which is all that is to be found out of them."""
    if type(event) is CallChanged or type(event) is MessageSeen:
        return event.direction == "inbound" and bool(event.peer) and (type(event) is CallChanged or event.has_code is not True)
    if type(event) is LoggedIn or type(event) is OtpEntered:
        if event.device_id is None:
            return False
        seen = profile.devices.get(event.device_id)  # known for long before any code that it could be about
        return seen is None or seen.first > event.occurred_at - 1000 * (policy.windows.known_after_s + policy.windows.code_valid_most_s)
    return type(event) is OtpDispatched


def _may_name(event: RecentEvent, tokens: set[str]) -> bool:
    match event:
        case CallChanged() | MessageSeen():
            return bool(event.peer) and event.peer[0] in tokens
        case LoggedIn():
            return event.device_id in tokens or (event.ip is not None and address(event.ip) in tokens)
        case OtpEntered():
            return event.device_id in tokens
        case _:
            return False


def _pairs(
    recent: tuple[RecentEvent, ...], event: RecentEvent, profile: Profile, policy: Policy
) -> list[tuple[RecentEvent, OtpDispatched]]:
    """The pairs of a fact and a dispatch near it that an event makes. A receipt is no dispatch."""
    if type(event) is not OtpDispatched:
        return [(event, d) for d in recent if type(d) is OtpDispatched and d.status != "delivered" and is_open(event, d, policy)]
    if event.status == "delivered":
        return []
    return [(e, event) for e in recent if type(e) is not OtpDispatched and _may_meet(e, profile, policy) and is_open(e, event, policy)]


def _meetings(pairs: Iterable[tuple[RecentEvent, OtpDispatched]], profile: Profile, policy: Policy) -> Iterator[tuple[str, Meeting]]:
    for fact, dispatch in pairs:
        for entity, own in _facts(fact, dispatch, profile, policy):
            yield dispatch.otp_id, (entity, max(fact.occurred_at, dispatch.occurred_at), own)


def _facts(event: RecentEvent, dispatch: OtpDispatched, profile: Profile, policy: Policy) -> Iterator[Fact]:
    match event:
        case CallChanged() if event.direction == "inbound" and event.peer and event.via != "app" and event.state != "ended":
            own = event.peer_is_bank is True or dispatch.initiated_by == "agent" or bool(set(event.peer) & set(dispatch.sender))
            own = own or _is_voice_code(event, dispatch, policy)
            if own or event.peer_is_contact is not True:
                yield f"caller:{event.peer[0]}", own
        case MessageSeen() if event.direction == "inbound" and event.peer and event.peer_is_contact is not True:
            # The code's own text says that it has a code; where nobody says, only one with a link is worth counting.
            if event.has_code is False or (event.has_code is None and event.has_link is True):
                yield f"sender:{event.peer[0]}", bool(set(event.peer) & set(dispatch.sender))
        case LoggedIn() if event.outcome == "passed":
            known_before = dispatch.occurred_at - 1000 * policy.windows.known_after_s
            if event.device_id is None or is_new(profile.devices, event.device_id, known_before) is not True:
                return
            yield f"device:{event.device_id}", False
            if event.ip is None or event.asn_kind not in OF_FEW or event.asn is None:
                return
            if is_new(profile.networks, str(event.asn), known_before) is True:
                yield f"network:{address(event.ip)}", False
        case OtpEntered() if event.device_id is not None:
            if is_new(profile.devices, event.device_id, dispatch.occurred_at - 1000 * policy.windows.known_after_s) is True:
                yield f"device:{event.device_id}", False
        case _:
            return


def _is_voice_code(call: CallChanged, dispatch: OtpDispatched, policy: Policy) -> bool:
    """The code may have been told in this call: it was to be spoken, and nobody says from where (B17)."""
    if dispatch.channel != "voice" or dispatch.sender:
        return False
    return -2000 <= call.occurred_at - dispatch.occurred_at <= 1000 * policy.windows.delivery_s + _RING_MS


def address(ip: str) -> str:
    """What one customer or machine has: an IPv4 address, or the first 64 bits of an IPv6 one; a pseudonym as it is.

    >>> address("2001:db8:1:2:3::4"), address("2001:db8::1"), address("192.0.2.7")
    ('2001:db8:1:2', '2001:db8:0:0', '192.0.2.7')
    """
    if ip.count(":") < 2:  # an IPv4 address, or a pseudonym, which has one colon
        return ip
    head, gap, tail = ip.lower().partition("::")
    groups = head.split(":") if head else []
    rest = tail.split(":") if tail else []
    if gap:
        groups += ["0"] * (8 - len(groups) - len(rest)) + rest
    return ":".join(group.lstrip("0") or "0" for group in groups[:4])
