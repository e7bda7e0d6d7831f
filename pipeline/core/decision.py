"""What do we conclude? Episode, features, rules and score become an Assessment, and one worth keeping becomes a Decision.

An assessment is a pure function of (profile, recent events, now): the same inputs give the same answer, whatever was said before.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from pipeline.core import features as features_module
from pipeline.core import rules as rules_module
from pipeline.core.calls import CallSeen
from pipeline.core.campaign import Known
from pipeline.core.episode import Episode, incident_of, named
from pipeline.core.events import (
    AccountChanged,
    CallChanged,
    LineAsked,
    LoggedIn,
    MessageSeen,
    Ms,
    OtpDispatched,
    OtpEntered,
)
from pipeline.core.features import Features
from pipeline.core.features.campaign import Heard
from pipeline.core.model import Model, Score, Scoring
from pipeline.core.outcome import Challenger, Decision, Evidence, Level, RuleHit, Stage
from pipeline.core.policy import Policy, Thresholds
from pipeline.core.profile import Profile
from pipeline.core.sampling import is_control
from pipeline.core.surge import Surge
from pipeline.core.timeline import RecentEvent

FEED_OF: dict[type, tuple[str, str]] = {
    LoggedIn: ("logged_in", "logins"),
    OtpDispatched: ("otp_dispatched", "otp-dispatches"),
    CallChanged: ("call_changed", "telephony"),
    LineAsked: ("line_asked", "telephony"),
    MessageSeen: ("message_seen", "telephony"),
    OtpEntered: ("otp_entered", "otp-entries"),
    AccountChanged: ("account_changed", "account-changes"),
}
LINE_FACTS_THAT_COUNT = ("sim_swapped", "ported", "forwarding_on")


class Assessment(msgspec.Struct, frozen=True, gc=False):
    """What an episode looks like now."""

    episode: Episode
    features: Features
    call: CallSeen | None
    rules: tuple[RuleHit, ...]
    score: Score
    level: Level
    stage: Stage
    threshold: float  # at which probability the level is alert
    heard_at: Ms = 0  # when what is known of its campaigns was last new

    def fingerprint(self, events: tuple[Evidence, ...], time: Ms) -> str:
        """Name what is concluded and what it rests on: changes when stage, level, a feature, the events or their latest arrival do."""
        parts = (self.stage, self.level, self.features, [e.event_id for e in events], time)
        return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=8).hexdigest()


def assess(
    episode: Episode,
    profile: Profile,
    policy: Policy,
    model: Scoring,
    account_id: str,
    thresholds: Thresholds | None = None,
    campaigns: dict[str, Known] | None = None,
    surges: dict[Ms, Surge] | None = None,
) -> Assessment:
    """Assess an episode: features, rules, score, level and stage.

    ``thresholds``: instead of the policy's; ``campaigns``: those that run, by entity; ``surges``: of codes, by their beginning (ms).
    """
    heard = Heard(campaigns or {}, surges or {}, account_id) if campaigns or surges else None
    features, call = features_module.extract(episode, profile, policy, account_id, heard)
    hits = rules_module.hits(features, policy)
    score = model.score(features, hits)
    thresholds = thresholds or policy.thresholds
    level: Level = "alert" if score.probability >= thresholds.alert else "watch" if score.probability >= thresholds.watch else "clear"
    return Assessment(episode, features, call, hits, score, level, _stage(episode), thresholds.alert, heard.at if heard is not None else 0)


def _stage(episode: Episode) -> Stage:
    """Where the attack stands, from the episode alone: an unused code that is over is a near miss."""
    if episode.used:
        return "after_entry" if episode.changes else "at_entry"
    return "near_miss" if episode.now >= episode.expires_at else "before_entry"


def evidence(assessment: Assessment, profile: Profile) -> tuple[tuple[Evidence, ...], Ms]:
    """Every event the assessment rests on, in order of occurrence, and the latest arrival among them (ms)."""
    e, f = assessment.episode, assessment.features
    events: list[RecentEvent] = [*e.challenge.sends, *e.challenge.receipts, *e.challenge.entries, *e.changes]
    if e.login is not None:
        events.append(e.login)
    events += [x for x in e.failed_logins if x.occurred_at >= e.start - 600_000]
    if assessment.call is not None:
        events += assessment.call.events
    for call in e.calls:
        if call.missed and not call.delivery and call.direction != "outbound" and e.start - 120_000 <= call.started <= e.moment:
            events += call.events
    if f.stranger_text_before_call or f.code_texted_out:
        events += [m for m in e.messages if m.peer_is_contact is not True and e.start - 240_000 <= m.occurred_at <= e.moment]
    found: dict[str, Evidence] = {}
    latest = assessment.heard_at
    for event in events:
        kind, feed = FEED_OF[type(event)]
        found[event.event_id] = Evidence(event.event_id, kind, event.occurred_at, feed)
        latest = max(latest, event.arrived_at)
    for facts in profile.line_facts.values():
        for fact in facts:
            if (
                fact.change in LINE_FACTS_THAT_COUNT
                and e.start - 864_000_000 <= fact.occurred_at <= e.moment
                and fact.arrived_at <= e.seen_by
            ):
                found[fact.event_id] = Evidence(fact.event_id, "line_changed", fact.occurred_at, "telephony")
                latest = max(latest, fact.arrived_at)
    if not e.used and e.now >= e.expires_at:
        latest = max(latest, e.expires_at)  # the deadline is what made it a near miss
    return tuple(sorted(found.values(), key=lambda x: (x.occurred_at, x.event_id))), latest


def finding_uid(account_id: str, otp_id: str) -> str:
    """Name the finding of a challenge: the same in live, replay and after any crash."""
    return named("f_", account_id, otp_id)


def decision(
    assessment: Assessment,
    account_id: str,
    incident: str,
    events: tuple[Evidence, ...],
    time: Ms,
    has_finding: bool,
    policy: Policy,
    model: Scoring,
    version: str,
    challengers: Sequence[Scoring] = (),
) -> Decision:
    """Make the record of an assessment worth keeping; ``challengers`` score the same features in the shadow.

    Under one policy two decisions of one id are the same.
    """
    otp_id = assessment.episode.challenge.otp_id
    ids = tuple(x.event_id for x in events)
    # What was concluded may be withdrawn and concluded again, and then be told in another way: under another id.
    told = ["finding"] if has_finding and assessment.level != "alert" else []
    if incident != incident_of(account_id, assessment.episode.challenge, otp_id):
        told.append(incident)
    if not isinstance(model, Model) or challengers:
        told += [model.id, *(c.id for c in challengers)]
    if assessment.threshold != policy.thresholds.alert:
        told.append(repr(assessment.threshold))
    return Decision(
        decision_id=named("d_", account_id, otp_id, assessment.fingerprint(events, time), *told),
        account_id=account_id,
        otp_id=otp_id,
        incident_id=incident,
        finding_uid=finding_uid(account_id, otp_id) if has_finding else None,
        time=time,
        stage=assessment.stage,
        level=assessment.level,
        probability=assessment.score.probability,
        threshold=assessment.threshold,
        features=features_module.as_dict(assessment.features),
        reasons=assessment.score.reasons,
        event_ids=ids,
        policy_id=policy.id,
        model_id=model.id,
        version=version,
        challengers=tuple(Challenger(c.id, c.score(assessment.features, assessment.rules).probability) for c in challengers),
        control=assessment.level == "alert" and is_control(account_id, otp_id, policy),
    )
