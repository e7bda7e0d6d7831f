"""THE FOLD: step(timeline, event) -> (timeline, outcomes), for one account; pure, and the only place that decides what is said.

What is known (profile, recent events) is order-free; what has been said (tracks) follows the order in ``events``. A challenge is
settled when nothing on time can touch it any more; if its assessment then differs from the last decision, that is said too, so the
last decision of a challenge is its final assessment.
"""

from collections.abc import Callable
from importlib.metadata import version as installed_version
from operator import attrgetter

import msgspec

from pipeline.core import alert, kept, surge
from pipeline.core.breaker import Breaker
from pipeline.core.campaign import Known
from pipeline.core.decision import Assessment, assess, decision, evidence
from pipeline.core.episode import Challenge, build, challenge_of, incident_id
from pipeline.core.events import (
    AccountEvent,
    CallChanged,
    Disposed,
    LineChanged,
    LineLinked,
    MessageSeen,
    Ms,
    OtpDispatched,
    OtpEntered,
    Snoozed,
)
from pipeline.core.lesson import lesson
from pipeline.core.model import Model, Scoring
from pipeline.core.outcome import HoldEnded, Late, Outcome, Sighting
from pipeline.core.policy import Policy, Thresholds
from pipeline.core.profile import DAY_MS, Profile, copied, seal, teach, with_line_change, with_link, with_verdict
from pipeline.core.relevance import matters
from pipeline.core.sighting import meetings
from pipeline.core.snooze import with_snooze
from pipeline.core.tell import Voice, disposed, finding_of, hand_over, hold_of, judged, names
from pipeline.core.timeline import RecentEvent, Settled, Timeline, Track, inserted, plain

VERSION = installed_version("offhook")
_event_id = attrgetter("event_id")
replace = msgspec.structs.replace


class Detector:
    """The fold with its policy and model.

    Set from the beats: ``missing`` names the feeds that are absent now, and all that arrived up to ``read_to`` (ms) has been folded;
    None before the first beat: an arrival is then taken to mean that nothing before it is to come. ``campaigns``: those that run now;
    ``surges``: when unusually many codes were sent.
    ``observe`` is told of every assessment with its account, whether or not anything is said; it must not change anything. ``breaker`` is
    the partition's, and knows the record that is folded.
    """

    def __init__(self, policy: Policy, model: Scoring | None = None) -> None:
        self.policy = policy
        self.model: Scoring = model or Model(policy)
        self.challengers: tuple[Scoring, ...] = ()  # score in the shadow of ``model``
        self.thresholds: Thresholds = policy.thresholds
        self.missing: tuple[str, ...] = ()
        self.read_to: Ms | None = None
        self.breaker = Breaker(policy.flood)
        self.campaigns: dict[str, Known] = {}
        self.surges: dict[Ms, surge.Surge] = {}
        self.observe: Callable[[str, Assessment], None] | None = None
        self._lateness = 1000 * policy.bounds.lateness_s
        self._slack = 1000 * policy.bounds.slack_s
        self._retain = policy.retain_ms
        self._before = 1000 * policy.windows.before_s

    def step(self, timeline: Timeline, event: AccountEvent) -> tuple[Timeline, list[Outcome]]:
        """Fold one event of the account. Pure: the timeline given is not written to."""
        out: list[Outcome] = []
        t = _copy(timeline)
        if not t.account_id:
            t.account_id = event.account_id
        if event.arrived_at > t.now:
            # What nothing can touch any more: not while calls of that time are still on their way, however far ahead the others are.
            sure = event.arrived_at if self.read_to is None else min(event.arrived_at, self.read_to + self._slack)
            if t.tracks:
                self._advance(t, sure, out, by_clock=False)
            else:
                self._seal(t, sure)
            t.now = event.arrived_at
        if type(event) is LineChanged:
            profile = with_line_change(t.profile, event)
            if profile is not t.profile:
                t.profile = profile
                self._reassess_touched(t, event, out)
        elif type(event) is LineLinked:
            t.profile = with_link(t.profile, event)
        elif type(event) is Disposed:
            self._dispose(t, event, out)
        elif type(event) is Snoozed:
            self._snooze(t, event, out)
        else:
            self._take(t, event, out)
        self._schedule(t)
        return t, out

    def fire(self, timeline: Timeline, now: Ms) -> tuple[Timeline, list[Outcome]]:
        """Let time pass up to ``now`` (ms): deadlines fire, challenges settle, events are sealed."""
        out: list[Outcome] = []
        t = _copy(timeline)
        self._advance(t, now, out, by_clock=True)
        if t.teach_at is not None and t.teach_at <= now:
            t.kept, t.teach_at, examples = kept.unlabelled(t.kept, t.account_id, now, self.policy)
            out += examples
        self._schedule(t)
        return t, out

    def recall(self, timeline: Timeline, entity: str) -> tuple[Timeline, list[Outcome]]:
        """Assess the open challenges anew that met an entity of which something new is known."""
        out: list[Outcome] = []
        t = _copy(timeline)
        for track in t.tracks:
            if entity in track.entities:
                self._reassess(t, track, t.now, out)
        return t, out

    # --- taking an event in

    def _take(self, t: Timeline, event: RecentEvent, out: list[Outcome]) -> None:
        if event.arrived_at - event.occurred_at > self._lateness or event.occurred_at <= t.sealed_to:
            t.late += 1
            out.append(Late(account_id=t.account_id, event_id=event.event_id, occurred_at=event.occurred_at, arrived_at=event.arrived_at))
            return
        if event.event_id in map(_event_id, t.recent):
            known = next(e for e in t.recent if e.event_id == event.event_id)
            if not self._replaces(t, known, event):
                return
        t.recent = inserted(t.recent, event)
        if len(t.recent) > self.policy.bounds.recent_events:
            self._drop_one(t)
        if type(event) is OtpDispatched or type(event) is OtpEntered:
            self._track(t, event.otp_id)
        if type(event) is OtpDispatched:
            self._count(t, event, out)
        if t.tracks:
            self._sight(t, event, out)
            self._reassess_touched(t, event, out)

    def _count(self, t: Timeline, event: OtpDispatched, out: list[Outcome]) -> None:
        """Say that the account was sent a code, where it is one of those by which the codes of the whole bank are counted."""
        codes, at = self.policy.baselines.codes, event.occurred_at
        if codes is None or event.status == "delivered" or t.account_id in self.policy.test_accounts:
            return
        if surge.counts(t.account_id, at, codes):
            said = Sighting(entity=surge.entity_of(at), account_id=t.account_id, occurred_at=at, arrived_at=event.arrived_at)
            out.append(said)

    def _sight(self, t: Timeline, event: RecentEvent, out: list[Outcome]) -> None:
        """Say whom the account met while a code was open, and remember it for when a campaign becomes known."""
        if t.account_id in self.policy.test_accounts:
            return
        met, said = meetings(t.recent, event, t.profile, self.policy, t.account_id)
        out += said
        for otp_id, entity in met:
            t.tracks = tuple(
                replace(x, entities=tuple(sorted({*x.entities, entity}))) if x.otp_id == otp_id and entity not in x.entities else x
                for x in t.tracks
            )

    def _replaces(self, t: Timeline, known: RecentEvent, event: RecentEvent) -> bool:
        """A redelivery, or another content under the same id, which is counted. What arrived first stands, also when it is read last."""
        if replace(known, arrived_at=event.arrived_at) != event:
            t.conflicts += 1
        if (event.arrived_at, plain(event)) >= (known.arrived_at, plain(known)):
            return False
        t.recent = tuple(e for e in t.recent if e is not known)
        return True

    def _drop_one(self, t: Timeline) -> None:
        """The recent set is full: the oldest call or message goes, else the oldest event. Counted, and said on alerts."""
        index = next((i for i, e in enumerate(t.recent) if type(e) is CallChanged or type(e) is MessageSeen), 0)
        t.recent = t.recent[:index] + t.recent[index + 1 :]
        t.dropped += 1

    def _track(self, t: Timeline, otp_id: str) -> None:
        """Open a track for a challenge, or move its bounds."""
        if any(s.otp_id == otp_id for s in t.settled):
            return
        challenge = challenge_of(t.recent, otp_id)
        if challenge is None:
            return
        old = next((x for x in t.tracks if x.otp_id == otp_id), None)
        new = self._bounds(challenge, old)
        t.tracks = tuple(sorted((*(x for x in t.tracks if x.otp_id != otp_id), new), key=lambda x: (x.start, x.otp_id)))

    def _bounds(self, challenge: Challenge, old: Track | None) -> Track:
        windows = self.policy.windows
        expires = challenge.expires_at(windows)
        accepted = challenge.accepted
        last = challenge.entries[-1].occurred_at if challenge.entries else 0
        most = challenge.start + 1000 * windows.code_valid_most_s
        end = min(accepted.occurred_at if accepted is not None else max(expires, last), most)
        until = end + 1000 * windows.after_s
        final_at = until + self._lateness + self._slack
        base = old or Track(challenge.otp_id, 0, 0, 0, 0)
        return replace(base, start=challenge.start, expires_at=expires, until=until, final_at=final_at, used=accepted is not None)

    def _reassess_touched(self, t: Timeline, event: AccountEvent, out: list[Outcome]) -> None:
        before = self._before
        own = event.otp_id if type(event) is OtpDispatched or type(event) is OtpEntered else None
        for track in t.tracks:
            if track.otp_id == own:
                self._reassess(t, track, t.now, out, keep=type(event) is OtpEntered)
            elif type(event) is LineChanged:
                if event.occurred_at <= track.until:
                    self._reassess(t, track, t.now, out)
            elif track.start - before <= event.occurred_at <= track.until and matters(
                event, track, t.recent, t.profile, track.start - before
            ):
                self._reassess(t, track, t.now, out)

    # --- saying

    def _assess(self, t: Timeline, otp_id: str, now: Ms) -> Assessment | None:
        episode = build(t.recent, otp_id, now, self.policy)
        if episode is None:
            return None
        return assess(episode, t.profile, self.policy, self.model, t.account_id, self.thresholds, self.campaigns, self.surges)

    def _reassess(self, t: Timeline, track: Track, now: Ms, out: list[Outcome], keep: bool = False, final: bool = False) -> None:
        """Assess a challenge and say what is new. ``keep``: a decision whatever the level; ``final``: one if it differs from the last."""
        track = next(x for x in t.tracks if x.otp_id == track.otp_id)  # another one's finding may have handed over to it
        a = self._assess(t, track.otp_id, now)
        if a is None:
            return
        if self.observe is not None:
            self.observe(t.account_id, a)
        new = replace(track, level=a.level, probability=a.score.probability, seen="", revision=t.profile.revision)
        changed = a.level != track.level
        to_learn_from = keep and not final
        if final:
            keep = track.said != "" or a.level != "clear" or a.episode.used
        if keep or changed or a.level == "alert" or track.open:
            events, time = evidence(a, t.profile)
            incident = incident_id(t.account_id, a.episode.challenge, t.recent, self.policy.windows)
            fingerprint = a.fingerprint(events, time)
            new = replace(new, seen=fingerprint)
            if (keep or changed) and fingerprint != track.said:
                new = replace(new, said=fingerprint)
                named = a.level == "alert" or track.finding is not None
                made = decision(a, t.account_id, incident, events, time, named, self.policy, self.model, VERSION, self.challengers)
                out.append(made)
                if to_learn_from:
                    session = a.episode.challenge.session_id
                    had = track.finding is not None
                    t.kept, t.teach_at = kept.remembered(t.kept, made, a.features, session, track.start, self.policy, had)
                elif made.level == "alert" and t.kept:
                    t.kept, t.teach_at = kept.alarmed(t.kept, t.account_id, track.otp_id, self.policy)
            voice = Voice(self.policy, self.model, VERSION, self.missing, self.breaker)
            finding = finding_of(t, new, a, incident, events, time, voice)
            if finding is not None:
                out.append(finding)
                new = replace(new, finding=finding, open=finding.activity != "close")
        new, hold = hold_of(t, new, a.level, now)
        if hold is not None:
            out.append(hold)
        t.tracks = tuple(new if x.otp_id == new.otp_id else x for x in t.tracks)
        if new.finding is not track.finding:
            out += hand_over(t, track.finding, new.finding)

    def _dispose(self, t: Timeline, event: Disposed, out: list[Outcome]) -> None:
        """A disposition may close findings; it never creates one. A later one of the same challenge replaces the earlier."""
        key = (event.occurred_at, event.event_id)
        if key in t.disposals:
            return
        t.disposals = tuple(sorted((*t.disposals, key)))[-2 * self.policy.bounds.settled :]
        t.profile = with_verdict(t.profile, event, judged(event))
        if t.kept:
            t.kept, t.teach_at, examples = kept.disposed(t.kept, event, t.account_id, self.policy)
            out += examples
        settled: list[Settled] = []
        for s in t.settled:
            f = s.finding
            if s.open and f is not None and event.verdict in alert.CLOSING_VERDICTS and names(event, s.otp_id, s.session_id, f):
                closed = disposed(f, event)
                out.append(closed)
                s = replace(s, finding=closed, open=False)  # noqa: PLW2901
            settled.append(s)
        t.settled = tuple(settled)
        tracks: list[Track] = []
        for x in t.tracks:
            f = x.finding
            if x.open and f is not None and event.verdict in alert.CLOSING_VERDICTS and names(event, x.otp_id, f.session_id, f):
                closed = disposed(f, event)
                out.append(closed)
                x = replace(x, finding=closed, open=False)  # noqa: PLW2901
                if x.hold_until is not None:
                    out.append(HoldEnded(account_id=t.account_id, otp_id=x.otp_id))
                    x = replace(x, hold_until=None)  # noqa: PLW2901
            tracks.append(x)
        t.tracks = tuple(tracks)

    def _snooze(self, t: Timeline, event: Snoozed, out: list[Outcome]) -> None:
        """A snooze silences findings, or lets them be heard again; it never creates or closes one, and changes no assessment."""
        snoozes = with_snooze(t.snoozes, event, self.policy.snoozes)
        if snoozes is t.snoozes:
            return
        t.snoozes = snoozes
        for track in t.tracks:
            if track.open:
                self._reassess(t, track, t.now, out)

    # --- time

    def _advance(self, t: Timeline, to: Ms, out: list[Outcome], by_clock: bool) -> None:
        """Let time pass: expired codes, settled challenges and sealed events, in the order in which they are due."""
        while t.tracks:
            due: list[tuple[Ms, int, str]] = [(x.final_at, 1, x.otp_id) for x in t.tracks if x.final_at <= to]
            if by_clock:
                due += [(x.expires_at, 0, x.otp_id) for x in t.tracks if not x.used and not x.expired and x.expires_at <= to]
            if not due:
                break
            at, kind, otp_id = min(due)
            track = next(x for x in t.tracks if x.otp_id == otp_id)
            if kind == 0:
                track = replace(track, expired=True)
                t.tracks = tuple(track if x.otp_id == otp_id else x for x in t.tracks)
                self._reassess(t, track, max(t.now, at), out, keep=track.level != "clear")
            else:
                self._seal(t, at)
                self._settle(t, track, at, out)
        self._seal(t, to)
        t.now = max(t.now, to)

    def _seal(self, t: Timeline, now: Ms) -> None:
        """Move events that nothing on time can precede any more into the profile."""
        horizon = now - self._retain
        if horizon <= t.sealed_to:
            return
        t.sealed_to = horizon
        if not t.recent or t.recent[0].occurred_at > horizon:
            return
        profile = copied(t.profile)
        alarms = [(s.start - self._before, s.until) for s in t.settled if s.level == "alert"]
        count = 0
        for event in t.recent:
            if event.occurred_at > horizon:
                break
            seal(profile, event, self.policy.bounds, any(a <= event.occurred_at <= b for a, b in alarms))
            count += 1
        t.profile, t.recent = profile, t.recent[count:]

    def _settle(self, t: Timeline, track: Track, at: Ms, out: list[Outcome]) -> None:
        """Say the last word on a challenge, learn what is normal from it, and forget its track."""
        if track.seen != track.said or track.revision != t.profile.revision or not track.used or surge.around(self.surges, track.start):
            self._reassess(t, track, at, out, final=True)
            track = next(x for x in t.tracks if x.otp_id == track.otp_id)
        challenge = challenge_of(t.recent, track.otp_id)
        t.tracks = tuple(x for x in t.tracks if x.otp_id != track.otp_id)
        if challenge is None:
            return
        profile = copied(t.profile)
        teach(profile, lesson(challenge, t.recent, track), self.policy.bounds)
        t.profile = profile
        since = at - DAY_MS * self.policy.bounds.settled_days
        done = Settled(
            track.otp_id, challenge.session_id, track.start, track.until, track.level, track.probability, track.finding, track.open
        )
        t.settled = (*(s for s in t.settled if s.start >= since), done)[-self.policy.bounds.settled :]

    def _schedule(self, t: Timeline) -> None:
        t.deadline = None
        if t.tracks:
            t.deadline = min((min(x.final_at, x.expires_at) if not x.used and not x.expired else x.final_at) for x in t.tracks)
        if t.teach_at is not None and (t.deadline is None or t.teach_at < t.deadline):
            t.deadline = t.teach_at


def _copy(t: Timeline) -> Timeline:
    return Timeline(
        t.version,
        t.offset,
        t.deadline,
        t.account_id,
        t.now,
        t.sealed_to,
        t.profile,
        t.recent,
        t.tracks,
        t.settled,
        t.late,
        t.conflicts,
        t.dropped,
        t.disposals,
        t.kept,
        t.teach_at,
        t.snoozes,
        t.raised,
    )


def new_timeline(account_id: str) -> Timeline:
    """An account of which nothing is known yet."""
    return Timeline(account_id=account_id, profile=Profile())
