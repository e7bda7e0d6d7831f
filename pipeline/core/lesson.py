"""What does a finished challenge teach about the account's normal? From the challenge and its login, for the profile."""

from pipeline.core.episode import Challenge
from pipeline.core.events import LoggedIn
from pipeline.core.profile import Lesson
from pipeline.core.timeline import RecentEvent, Track


def lesson(challenge: Challenge, recent: tuple[RecentEvent, ...], track: Track) -> Lesson:
    """Draw the lesson: trusted only when the code was accepted and its last level was not alert."""
    accepted = challenge.accepted
    session = challenge.session_id
    login: LoggedIn | None = None
    for event in recent:
        if event.occurred_at > track.until:  # hours later there may be more of the session: what is taught must not depend on that
            break
        if type(event) is LoggedIn and event.outcome == "passed" and event.session_id == session:
            login = event
    senders = tuple(sorted({token for s in challenge.sends for token in s.sender}))
    if accepted is None:
        return Lesson(challenge.otp_id, challenge.start, False, False, None, None, None, None, None, None, senders)
    send = challenge.last_send(accepted.occurred_at)
    return Lesson(
        otp_id=challenge.otp_id,
        started_at=challenge.start,
        used=True,
        trusted=track.level != "alert",
        entered_at=accepted.occurred_at,
        latency_ms=None if send is None else accepted.occurred_at - send.occurred_at,
        device_id=accepted.device_id or (login.device_id if login is not None else None),
        asn=login.asn if login is not None and login.asn is not None else accepted.asn,
        country=login.country if login is not None and login.country is not None else accepted.country,
        user_agent=login.user_agent if login is not None else None,
        senders=senders,
    )
