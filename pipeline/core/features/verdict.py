"""What was found out of the account before? The features of family A that come from earlier verdicts."""

from pipeline.core.episode import Episode
from pipeline.core.profile import DAY_MS, HOUR_MS, Profile, VerdictFact

VERDICT_MS = 90 * DAY_MS  # as long as a number that called counts as seen (C3)


def verdict_features(f: dict[str, object], e: Episode, profile: Profile) -> None:
    """Those that were given before the code was sent, as far as they were told in time; the last one on each challenge counts.

    Whoever judges a session judges all its challenges, so that verdicts with that session are then about one thing.
    """
    told = [v for v in profile.verdicts if v.occurred_at < e.start and v.arrived_at <= e.seen_by]
    if not told:
        return
    whole = {v.session for v in told if not v.challenge}
    last: dict[tuple[bool, str], VerdictFact] = {}
    for v in told:  # in order of occurrence
        last[(True, v.session) if v.session in whole else (False, v.challenge)] = v
    confirmed = [v.occurred_at for v in last.values() if v.takeover]
    f["takeover_before"] = bool(confirmed)
    if confirmed:
        f["hours_since_takeover"] = (e.start - max(confirmed)) / HOUR_MS
    f["false_alarms_90d"] = sum(v.takeover is False and v.occurred_at >= e.start - VERDICT_MS for v in last.values())
