"""In what state is the phone line, and where is it? The features of family S, and L8."""

from pipeline.core.episode import Episode
from pipeline.core.events import Ms
from pipeline.core.policy import Policy
from pipeline.core.profile import HOUR_MS, Profile


def line_features(
    f: dict[str, object], e: Episode, profile: Profile, policy: Policy, country: str | None, line: str | None, home: str | None
) -> None:
    end = e.entry.occurred_at if e.entry is not None else e.expires_at
    lines = [line] if line is not None else sorted(profile.line_facts)
    last: dict[str, tuple[Ms, str | None]] = {}
    for each in lines:
        for fact in profile.line_facts.get(each, ()):  # in order of occurrence
            if fact.occurred_at <= end and fact.arrived_at <= e.seen_by:
                have = last.get(fact.change)
                if have is None or fact.occurred_at > have[0]:
                    last[fact.change] = (fact.occurred_at, fact.country)
    if "sim_swapped" in last:
        f["hours_since_sim_swap"] = max(0.0, (e.start - last["sim_swapped"][0]) / HOUR_MS)
    if "ported" in last:
        f["hours_since_port"] = max(0.0, (e.start - last["ported"][0]) / HOUR_MS)
    on, off = last.get("forwarding_on"), last.get("forwarding_off")
    if on is not None or off is not None:
        f["forwarding_active"] = on is not None and (off is None or on[0] > off[0])
    if on is not None:
        f["hours_since_forwarding"] = max(0.0, (e.start - on[0]) / HOUR_MS)
    r_on, r_off = last.get("roaming_on"), last.get("roaming_off")
    roaming = r_on is not None and (r_off is None or r_on[0] > r_off[0])
    if r_on is not None or r_off is not None:
        f["roaming"] = roaming
    if country is not None and home is not None:
        f["login_far_from_line"] = country != home and not (roaming and r_on is not None and r_on[1] in (None, country))
    changed = profile.changes.get("phone_changed")
    if line is not None and line in profile.links:
        link = profile.links[line]
        if link.status == "linked" and link.arrived_at <= e.seen_by and changed is None and len(profile.links) > 1:
            changed = link.since
    if changed is not None and changed <= e.start:
        f["hours_since_phone_change"] = (e.start - changed) / HOUR_MS
