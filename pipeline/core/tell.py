"""What has to be said? An assessment against what was said before: create, update or close the finding, set or end the hold."""

import msgspec

from pipeline.core import alert
from pipeline.core.decision import Assessment
from pipeline.core.events import Disposed, Ms
from pipeline.core.outcome import Evidence, Finding, Hold, HoldEnded
from pipeline.core.policy import Policy
from pipeline.core.timeline import Settled, Timeline, Track

replace = msgspec.structs.replace


class Voice(msgspec.Struct, frozen=True, gc=False):
    """Who is speaking: the policy, the model and code versions, and the feeds it lacks."""

    policy: Policy
    model_id: str
    version: str
    missing: tuple[str, ...]


def finding_of(
    t: Timeline, track: Track, a: Assessment, incident: str, events: tuple[Evidence, ...], time: Ms, voice: Voice
) -> Finding | None:
    """The finding to send now, or None: created or updated at level alert, closed when an open one is below it."""
    old = track.finding
    if _is_disposed(old):
        return None
    if a.level != "alert":
        return closing(old, _withdrawn(a), 0, max(time, old.time)) if old is not None and track.open else None
    part_of = old.part_of if old is not None and track.open else _pages(t, track, incident)
    made = alert.make(
        a,
        t.profile,
        track,
        t.account_id,
        incident,
        part_of,
        events,
        time,
        voice.missing,
        t.dropped > 0,
        voice.policy,
        voice.model_id,
        voice.version,
    )
    return None if old is not None and track.open and _same(old, made) else made


def _pages(t: Timeline, track: Track, incident: str) -> str | None:
    """The open finding that pages for this incident already."""
    others: tuple[Track | Settled, ...] = (*t.tracks, *t.settled)
    told = [x.finding for x in others if x.otp_id != track.otp_id and x.open and x.finding is not None]
    same = [f for f in told if f.incident_id == incident and f.part_of is None]
    return min(same, key=lambda f: (f.created_time, f.uid)).uid if same else None


def hold_of(t: Timeline, track: Track, level: str, now: Ms) -> tuple[Track, Hold | HoldEnded | None]:
    """Set or end the hold: it stands while the challenge is at level alert, unused, not expired and not disposed of."""
    stands = level == "alert" and not track.used and now < track.expires_at and not _is_disposed(track.finding)
    wanted = track.expires_at if stands else None
    if wanted == track.hold_until:
        return track, None
    track = replace(track, hold_until=wanted)
    if wanted is None:
        return track, HoldEnded(account_id=t.account_id, otp_id=track.otp_id)
    f = track.finding
    assert f is not None
    return track, Hold(
        account_id=t.account_id,
        otp_id=track.otp_id,
        session_id=f.session_id,
        finding_uid=f.uid,
        probability=f.probability,
        expires_at=wanted,
        reason=f.message,
    )


def closing(finding: Finding, because: str, verdict_id: int, time: Ms) -> Finding:
    """The finding's last word: closed, with the reason."""
    return replace(
        finding,
        sequence=finding.sequence + 1,
        activity="close",
        close_reason=because,
        verdict_id=verdict_id,
        time=time,
        decision_deadline=None,
    )


def disposed(finding: Finding, event: Disposed) -> Finding:
    """The finding closed by what case management found out."""
    because = f"case management: {event.verdict.replace('_', ' ')} ({event.source})"
    return closing(finding, because, alert.VERDICTS[event.verdict], max(finding.time, event.arrived_at))


def _is_disposed(finding: Finding | None) -> bool:
    """Whether case management has closed it: then no later evidence opens it again."""
    return finding is not None and finding.activity == "close" and finding.verdict_id != 0


def names(event: Disposed, otp_id: str, session_id: str | None, finding: Finding | None) -> bool:
    """Whether a disposition speaks of this challenge: by finding, by code, or by session."""
    if event.finding_uid is not None:
        return finding is not None and finding.uid == event.finding_uid
    if event.otp_id is not None:
        return event.otp_id == otp_id
    return event.session_id is not None and event.session_id == session_id


def _withdrawn(a: Assessment) -> str:
    against = [r.text for r in a.score.reasons if r.contribution < 0 and r.name != "base_rate"][:2]
    return "later evidence: " + "; ".join(against) if against else "later evidence no longer supports it"


def _same(old: Finding, new: Finding) -> bool:
    """Nothing an analyst would want to hear again."""
    return (
        old.activity != "close"
        and old.stage == new.stage
        and old.call_live == new.call_live
        and round(old.probability, 3) == round(new.probability, 3)
        and old.events == new.events
    )
