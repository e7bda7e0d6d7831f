"""Can an event change what is thought of a challenge that is not its own? Asked before an episode is built: most cannot.

Stands between the fold and the join. "No" must be sure: an assessment made without the event would be the same, so that no order of
arrival shows. What comes after the entry that was accepted changes little: no feature measures a call that began later.
"""

from pipeline.core.events import AccountChanged, AccountEvent, CallChanged, LineAsked, LoggedIn, MessageSeen, Ms, OtpDispatched, OtpEntered
from pipeline.core.profile import Profile
from pipeline.core.timeline import RecentEvent, Track

CLOCKS_DIFFER_MS = 5_000  # a login this long after the dispatch may still have led to it


def matters(event: AccountEvent, track: Track, recent: tuple[RecentEvent, ...], profile: Profile, since: Ms) -> bool:
    """Whether an event within the track's window can change its assessment. ``recent`` holds it; ``since``: where the window begins."""
    if type(event) is LoggedIn or type(event) is OtpDispatched:
        return event.occurred_at <= track.start + CLOCKS_DIFFER_MS
    if type(event) is AccountChanged:
        return track.used
    if type(event) is MessageSeen:
        return _message_matters(event, track, recent, profile, since)
    return type(event) is not CallChanged or _call_matters(event, track, recent, profile, since)


def _entered_at(recent: tuple[RecentEvent, ...], otp_id: str) -> Ms | None:
    return next((e.occurred_at for e in recent if type(e) is OtpEntered and e.otp_id == otp_id and e.outcome == "accepted"), None)


def _message_matters(event: MessageSeen, track: Track, recent: tuple[RecentEvent, ...], profile: Profile, since: Ms) -> bool:
    """The code's own delivery says nothing new; neither does what came after the entry, once it is known that messages are told at all."""
    senders = {
        token for e in recent if type(e) is OtpDispatched and e.otp_id == track.otp_id and e.status != "delivered" for token in e.sender
    }
    senders.update(profile.senders)
    if not senders.isdisjoint(event.peer):
        return False
    entered_at = _entered_at(recent, track.otp_id) if track.used else None
    if entered_at is None or event.occurred_at <= entered_at:
        return True
    if profile.texters:
        return False
    return not any(
        type(e) is MessageSeen and since <= e.occurred_at <= track.until and e is not event and senders.isdisjoint(e.peer) for e in recent
    )


def _call_matters(event: CallChanged, track: Track, recent: tuple[RecentEvent, ...], profile: Profile, since: Ms) -> bool:
    """A call that began after the entry matters when it is the institution's, or the first sign that calls are told at all."""
    entered_at = _entered_at(recent, track.otp_id) if track.used else None
    if entered_at is None or event.occurred_at <= entered_at or event.peer_is_bank is True:
        return True
    told = profile.telephony_at is not None
    for e in recent:
        if e.occurred_at < since:
            continue
        if type(e) is LineAsked:  # what it answers depends on which call was live
            return True
        if type(e) is CallChanged and e is not event and e.occurred_at <= track.until:
            if e.call_id == event.call_id and e.line == event.line:
                if e.occurred_at <= entered_at or e.peer_is_bank is True:
                    return True
            else:
                told = True
    return not told
