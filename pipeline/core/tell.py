"""What has to be said? An assessment against what was said before: create, update or close the finding, set or end the hold.

A finding is heard, or it is suppressed: snoozed, or one too many in a flood. One that is suppressed neither pages nor holds the code, and
never keeps another one of its incident from paging.
"""

import msgspec

from pipeline.core import alert
from pipeline.core.breaker import Breaker
from pipeline.core.decision import Assessment, finding_uid
from pipeline.core.events import Disposed, Ms
from pipeline.core.exoneration import exonerations
from pipeline.core.model import BASE, Scoring
from pipeline.core.outcome import Evidence, Finding, Hold, HoldEnded, Suppression
from pipeline.core.policy import Policy
from pipeline.core.snooze import in_force
from pipeline.core.suppression import FLOOD, snoozed
from pipeline.core.timeline import Settled, Timeline, Track

replace = msgspec.structs.replace


class Voice(msgspec.Struct, frozen=True, gc=False):
    """Who is speaking: the policy, the model, the version of the code, the feeds it lacks, and what knows of a flood."""

    policy: Policy
    model: Scoring
    version: str
    missing: tuple[str, ...]
    breaker: Breaker


def finding_of(
    t: Timeline, track: Track, a: Assessment, incident: str, events: tuple[Evidence, ...], time: Ms, voice: Voice
) -> Finding | None:
    """The finding to send now, or None: created or updated at level alert, closed when an open one is below it.

    Notes on the timeline that a new one was raised.
    """
    old = track.finding
    if _is_disposed(old):
        return None
    if a.level != "alert":
        return closing(old, _withdrawn(a), 0, max(time, old.time)) if old is not None and track.open else None
    part_of = old.part_of if old is not None and track.open and old.suppressed is None else _pages(t, track, incident)
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
        voice.model.id,
        voice.version,
    )
    suppressed = _suppression(t, track, a, part_of, voice)
    if suppressed is not None:
        made = replace(made, suppressed=suppressed, part_of=None)
    if old is not None and track.open and _same(old, made):
        return None
    return replace(made, benign_if=exonerations(a.features, voice.policy, voice.model, a.threshold))


def _suppression(t: Timeline, track: Track, a: Assessment, part_of: str | None, voice: Voice) -> Suppression | None:
    """Whether the finding is to be heard. In a flood only new findings that would page are silenced; one that was heard stays so."""
    policy, breaker, probability = voice.policy, voice.breaker, a.score.probability
    if t.snoozes:
        found = in_force(t.snoozes, track.start, track.until, 1000 * policy.bounds.lateness_s)
        by = snoozed(found, a, a.threshold, voice.model.id)
        if by is not None:
            return by
    old = track.finding if track.open else None
    if part_of is not None or (old is not None and old.suppressed is None):
        return None
    heard = breaker.passes(probability)
    if old is None:
        t.raised = breaker.counted(t.raised, probability)
    return None if heard else FLOOD


def hand_over(t: Timeline, before: Finding | None, now: Finding | None) -> list[Finding]:
    """Let another finding of the incident page when the one that did is suppressed: the earliest that is open; the others name it.

    Changes tracks and settled challenges of the timeline, and returns what is to be said.
    """
    if before is None or now is None or not _heard(before) or now.suppressed is None or now.activity == "close":
        return []
    others: tuple[Track | Settled, ...] = (*t.tracks, *t.settled)
    left = [x.finding for x in others if x.open and x.finding is not None and x.finding.part_of == now.uid]
    told: dict[str, Finding] = {}
    for f in sorted((f for f in left if f.suppressed is None), key=lambda f: (f.created_time, f.uid)):
        part_of = next(iter(told.values())).uid if told else None
        told[f.otp_id] = replace(f, sequence=f.sequence + 1, activity="update", part_of=part_of, time=max(f.time, now.time))
    t.tracks = tuple(replace(x, finding=told[x.otp_id]) if x.otp_id in told else x for x in t.tracks)
    t.settled = tuple(replace(x, finding=told[x.otp_id]) if x.otp_id in told else x for x in t.settled)
    return list(told.values())


def _heard(finding: Finding) -> bool:
    """Whether it is the one of its incident that pages."""
    return finding.activity != "close" and finding.part_of is None and finding.suppressed is None


def _pages(t: Timeline, track: Track, incident: str) -> str | None:
    """The open finding that pages for this incident already."""
    others: tuple[Track | Settled, ...] = (*t.tracks, *t.settled)
    told = [x.finding for x in others if x.otp_id != track.otp_id and x.open and x.finding is not None]
    same = [f for f in told if f.incident_id == incident and _heard(f)]
    return min(same, key=lambda f: (f.created_time, f.uid)).uid if same else None


def hold_of(t: Timeline, track: Track, level: str, now: Ms) -> tuple[Track, Hold | HoldEnded | None]:
    """Set or end the hold: it stands while the challenge is at level alert, unused, not expired, not disposed of and not suppressed."""
    f = track.finding
    stands = level == "alert" and not track.used and now < track.expires_at and not _is_disposed(f) and (f is None or f.suppressed is None)
    wanted = track.expires_at if stands else None
    if wanted == track.hold_until:
        return track, None
    track = replace(track, hold_until=wanted)
    if wanted is None:
        return track, HoldEnded(account_id=t.account_id, otp_id=track.otp_id)
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


def judged(event: Disposed) -> str:
    """The finding of the challenge that a disposition judges, whether or not there is one; none where it names a session only."""
    if event.finding_uid is not None:
        return event.finding_uid
    return finding_uid(event.account_id, event.otp_id) if event.otp_id is not None else ""


def _withdrawn(a: Assessment) -> str:
    against = [r.text for r in a.score.reasons if r.contribution < 0 and r.name != BASE][:2]
    return "later evidence: " + "; ".join(against) if against else "later evidence no longer supports it"


def _same(old: Finding, new: Finding) -> bool:
    """Nothing an analyst would want to hear again."""
    return (
        old.activity != "close"
        and old.stage == new.stage
        and old.call_live == new.call_live
        and round(old.probability, 3) == round(new.probability, 3)
        and old.events == new.events
        and old.part_of == new.part_of
        and old.suppressed == new.suppressed
    )
