"""Which call would be the attacker's, and what does it look like? The features of families T and C."""

from pipeline.core.calls import CallSeen
from pipeline.core.episode import Episode
from pipeline.core.events import Ms
from pipeline.core.features.message import message_features
from pipeline.core.features.stranger import is_stranger
from pipeline.core.policy import Policy
from pipeline.core.profile import Profile

JUST_OVER_S = 30.0  # the bot may hang up with the code before the attacker has entered it; relaying takes 5 to 60 s (domain.md T2)
LONG_TALK_S = 600.0  # a call that had run this long when the login came did not cause it


def suspect_call(episode: Episode, profile: Profile, policy: Policy) -> CallSeen | None:
    """The call that would be the attacker's, if there is one: answered, around the code, not the code's own delivery.

    A call that is live at the moment goes before one that is over, an inbound one before an outbound one, a stranger's before a
    known one, and then the latest answered.
    """
    windows = policy.windows
    best: CallSeen | None = None
    best_rank: tuple[int, int, int, Ms] | None = None
    for call in episode.calls:
        if call.delivery or call.answered is None or call.answered > episode.moment:
            continue
        overlaps = call.end(windows) > episode.start - 120_000  # T3: a call up to two minutes before the dispatch counts
        if not overlaps:
            continue
        live = call.live_at(episode.moment, windows)
        known = call.is_contact is True or call.is_bank is True or is_stranger(call.peer, episode, profile, policy) is False
        rank = (int(live), int(call.direction != "outbound"), int(not known), call.answered)
        if best_rank is None or rank > best_rank:
            best, best_rank = call, rank
    return best


def call_features(f: dict[str, object], e: Episode, profile: Profile, policy: Policy, call: CallSeen | None) -> None:
    windows, moment, start = policy.windows, e.moment, e.start
    around = [c for c in e.calls if not c.delivery and c.direction != "outbound" and start - 120_000 <= c.started <= moment]
    strangers = [c for c in around if c.is_contact is not True and is_stranger(c.peer, e, profile, policy) is not False]
    f["calls_in_episode"] = len(strangers)
    f["missed_calls"] = sum(1 for c in strangers if c.missed)
    f["bank_called"] = any(c.is_bank is True and not c.delivery and c.end(windows) >= start - 600_000 for c in e.calls)
    if e.entry is not None:
        f["call_live"] = call is not None and call.live_at(moment, windows)
    else:
        f["call_live"] = call is not None and call.end(windows) > start
    message_features(f, e, profile, policy, around)
    if call is None:
        return
    assert call.answered is not None
    end = min(call.end(windows), moment)
    if e.entry is not None:
        f["seconds_answer_to_entry"] = (moment - call.answered) / 1000
        if call.ended is not None and call.ended >= moment:
            f["seconds_entry_to_hangup"] = (call.ended - moment) / 1000
        elif call.ended is not None:
            f["seconds_hangup_to_entry"] = (moment - call.ended) / 1000
    f["seconds_dispatch_to_call"] = (call.started - start) / 1000
    if moment > start:
        f["call_overlap_share"] = max(0.0, (end - max(call.answered, start)) / (moment - start))
    if e.login is not None:
        f["seconds_call_before_login"] = (e.login.occurred_at - call.answered) / 1000
    f["call_seconds"] = ((call.ended if call.ended is not None else max(moment, call.answered)) - call.answered) / 1000
    f["call_lag_s"] = (call.events[0].arrived_at - call.events[0].occurred_at) / 1000
    if call.direction is not None:
        f["caller_inbound"] = call.direction == "inbound"
    f["caller_never_seen"] = is_stranger(call.peer, e, profile, policy)
    f["caller_is_contact"] = call.is_contact
    f["caller_is_bank"] = call.is_bank
    f["caller_withheld"] = call.withheld
    f["caller_attestation"] = call.attestation
    f["caller_line"] = call.peer_line
    f["caller_abroad"] = call.peer_abroad
    f["call_in_app"] = None if call.via is None else call.via == "app"
    if call.peer and call.is_bank is not True and call.direction == "inbound":
        senders = set(profile.senders).union(*(s.sender for s in e.challenge.sends))
        f["caller_claims_bank"] = bool(senders & set(call.peer))


def unexplained(f: dict[str, object]) -> bool:
    """Nothing explains the live call: not the institution's, not a contact's, not the customer's own, not running for long (B10)."""
    over = f.get("seconds_hangup_to_entry")
    just_over = isinstance(over, float) and over <= JUST_OVER_S
    if not (f.get("call_live") is True or just_over) or f.get("caller_inbound") is False or f.get("agent_initiated") is True:
        return False
    if f.get("caller_is_bank") is True or f.get("caller_is_contact") is True or f.get("caller_never_seen") is False:
        return False
    ran = f.get("seconds_call_before_login")
    return not (isinstance(ran, float) and ran > LONG_TALK_S)
