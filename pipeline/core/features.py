"""What does the episode look like, in numbers? Episode + Profile -> a flat frozen struct; missing is missing, never zero.

The ids in the comments (T1, C3, ...) are those of the feature catalogue in the design. Seconds are seconds, shares are 0 to 1.
A feature is None when the feed that would tell it is absent, or when the account's past is too short to say.
"""

from statistics import median

import msgspec

from pipeline.core.calls import CallSeen
from pipeline.core.episode import Episode
from pipeline.core.events import LoggedIn, Ms
from pipeline.core.outcome import FeatureValue
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS, HOUR_MS, Profile, Seen

LEAST_ENTRIES = 3  # entry latencies needed before "usual" means anything
LEAST_SPREAD_S = 2.0  # nobody is steadier than this; keeps a z-score finite
LEAST_HISTORY_MS = 3 * DAY_MS  # before that, daily rates say nothing
LONG_TALK_S = 600.0  # a call that had run this long when the login came did not cause it
STRANGER_TEXT_MS = 120_000  # T10: a text this long before the call


class Features(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One episode in numbers."""

    # call and time
    telephony_known: bool = False  # Q1: calls or answers about the line are seen for this customer at all
    call_live: bool | None = None  # T1: somebody is talking when the code is entered (while it is valid, when it is not entered)
    seconds_answer_to_entry: float | None = None  # T2
    seconds_dispatch_to_call: float | None = None  # T3, signed: negative when the call came first
    call_overlap_share: float | None = None  # T4: share of dispatch-to-entry during which the call was live
    seconds_entry_to_hangup: float | None = None  # T5
    entry_latency_s: float | None = None  # T6: last (re)dispatch to entry
    entry_latency_z: float | None = None  # T6: against the account's own usual latency (median, spread)
    entry_latency_usual_s: float | None = None
    entry_latency_spread_s: float | None = None
    seconds_login_to_dispatch: float | None = None  # T7
    order: str | None = None  # T8: such as login>otp>call>entry
    calls_in_episode: int | None = None  # T9: inbound calls around the code, ring-outs included, the delivery and contacts left out
    missed_calls: int | None = None
    stranger_text_before_call: bool | None = None  # T10
    code_texted_out: bool | None = None  # a message to a number never written to, between code and entry, after one from it (V5)
    unexplained_call: bool = False  # a live inbound call that is neither the institution's, nor a contact's, nor an old talk
    seconds_call_before_login: float | None = None  # how long the call had run when the login came; negative: call came later
    # the caller
    caller_inbound: bool | None = None  # C9
    caller_never_seen: bool | None = None  # C3
    caller_is_contact: bool | None = None  # C4
    caller_is_bank: bool | None = None  # A1: the institution's own trunk confirms the call
    caller_claims_bank: bool | None = None  # C2: shows a number that codes come from, and the trunk does not confirm it
    caller_withheld: bool | None = None
    caller_attestation: str | None = None  # C1
    caller_line: str | None = None  # C6
    caller_abroad: bool | None = None  # C7
    call_seconds: float | None = None  # C8: from answer to end, or to now
    call_in_app: bool | None = None  # C11
    # login
    new_device: bool | None = None  # L1: never seen, or first seen under 3 h ago
    device_age_h: float | None = None
    known_devices: int = 0
    new_network: bool | None = None  # L2
    network_kind: str | None = None  # L2
    new_country: bool | None = None  # L3
    new_user_agent: bool | None = None  # L5
    failed_logins: int | None = None  # L6: in the 10 minutes before the code
    first_try_on_new_device: bool | None = None  # L7
    login_far_from_line: bool | None = None  # L8: the login's country is neither the line's own nor where it roams
    other_session_active: bool | None = None  # L10: another session, on a known device, in the half hour before
    hour_share: float | None = None  # L11: share of the account's entries in this hour and its neighbours
    reset_flow: bool | None = None  # L12
    # code
    requests_10m: int = 1  # O1
    requests_1h: int = 1
    requests_24h: int = 1
    abandoned_codes: int = 0  # O2: challenges of the 24 hours before that were never used
    wrong_codes: int = 0  # O3
    purpose: str | None = None  # O4
    channel: str | None = None  # O5
    delivery_delay_s: float | None = None  # O6
    entry_method: str | None = None  # O7
    entry_other_ip: bool | None = None  # O8
    entry_other_device: bool | None = None  # O8
    agent_initiated: bool | None = None  # A2
    entered: bool = False
    refused: bool = False  # codes were entered, none was accepted
    # line
    hours_since_sim_swap: float | None = None  # S1
    forwarding_active: bool | None = None  # S2
    hours_since_forwarding: float | None = None
    hours_since_port: float | None = None  # S3
    roaming: bool | None = None  # S4
    hours_since_phone_change: float | None = None  # S5
    linked_accounts: int | None = None
    # account
    bank_called: bool | None = None  # A1: a call of the institution itself ended, or is live, within 10 minutes of the code
    calls_usual_per_day: float | None = None  # A4
    logins_usual_per_day: float | None = None  # A4
    # after the entry
    changes_after: int = 0  # P1: changes by the session in the ten minutes after
    takeover_change: bool = False  # P1: payee, phone, email, password, device or notifications
    money_moved: bool = False  # P2


FIELDS = Features.__struct_fields__


def as_dict(features: Features) -> dict[str, FeatureValue]:
    """The features that are there, floats rounded to six digits."""
    out: dict[str, FeatureValue] = {}
    for name in FIELDS:
        value = getattr(features, name)
        if value is not None:
            out[name] = round(value, 6) if type(value) is float else value
    return out


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


def is_stranger(peer: tuple[str, ...], episode: Episode, profile: Profile, policy: Policy) -> bool | None:
    """Whether the number was not seen for 90 days; None when it is not known, or (key rotation) nothing under its key is."""
    if not peer:
        return None
    since = episode.start - DAY_MS * policy.windows.peer_known_days
    for token in peer:
        seen = profile.peers.get(token)
        if seen is not None and seen.last >= since:
            return False
    keys = {token.partition(":")[0] for token in peer}
    if not any(token.partition(":")[0] in keys for token in profile.peers):
        # nothing under this key: a young profile of a line that is observed knows no stranger; a rotated key knows nobody
        return None if profile.peers or profile.telephony_at is None else True
    return True


def extract(episode: Episode, profile: Profile, policy: Policy) -> tuple[Features, CallSeen | None]:
    """Compute the features of an episode, and the call they speak of. About 60 us."""
    e, windows = episode, policy.windows
    challenge, entry, login = e.challenge, e.entry, e.login
    f: dict[str, object] = {}
    first = challenge.sends[0] if challenge.sends else (challenge.receipts[0] if challenge.receipts else None)

    # --- calls and messages
    observed = profile.telephony_at is not None or bool(e.calls)
    f["telephony_known"] = observed
    call = suspect_call(e, profile, policy)
    if observed:
        _call_features(f, e, profile, policy, call)
    f["order"] = _order(e, call)

    # --- login
    device = (entry.device_id if entry is not None and entry.device_id is not None else None) or (login.device_id if login else None)
    asn = login.asn if login is not None and login.asn is not None else (entry.asn if entry is not None else None)
    country = login.country if login is not None and login.country is not None else (entry.country if entry is not None else None)
    known_before = e.start - 1000 * windows.known_after_s
    f["known_devices"] = sum(1 for s in profile.devices.values() if s.first <= known_before)
    if device is not None:
        seen = profile.devices.get(device)
        if seen is not None:
            f["device_age_h"] = max(0.0, (e.start - seen.first) / HOUR_MS)
        f["new_device"] = _is_new(profile.devices, device, known_before)
    if asn is not None:
        f["new_network"] = _is_new(profile.networks, str(asn), known_before)
    if country is not None:
        f["new_country"] = _is_new(profile.countries, country, known_before)
    if login is not None:
        f["network_kind"] = login.asn_kind
        f["reset_flow"] = login.flow == "password_reset"
        if login.user_agent is not None:
            f["new_user_agent"] = _is_new(profile.agents, login.user_agent, known_before)
        if first is not None:
            f["seconds_login_to_dispatch"] = (first.occurred_at - login.occurred_at) / 1000
        failed = [x for x in e.failed_logins if x.occurred_at >= e.start - 600_000]
        f["failed_logins"] = len(failed)
        if f.get("new_device") is not None:
            f["first_try_on_new_device"] = bool(f["new_device"]) and not failed
        f["other_session_active"] = any(_elsewhere(x, login, e, profile, known_before) for x in e.other_logins)
    if profile.hours and sum(profile.hours) >= 10:
        hour = e.start // HOUR_MS % 24
        near = profile.hours[hour] + profile.hours[hour - 1] + profile.hours[(hour + 1) % 24]
        f["hour_share"] = near / sum(profile.hours)

    # --- code
    _code_features(f, e, profile)
    if first is not None:
        f["purpose"], f["channel"] = first.purpose, first.channel
        f["agent_initiated"] = first.initiated_by == "agent"
    if challenge.receipts and challenge.sends:
        f["delivery_delay_s"] = (challenge.receipts[0].occurred_at - challenge.sends[0].occurred_at) / 1000
    if entry is not None:
        f["entered"] = True
        f["refused"] = entry.outcome != "accepted"
        f["entry_method"] = entry.method
        if login is not None:
            if entry.ip is not None and login.ip is not None:
                f["entry_other_ip"] = entry.ip != login.ip
            if entry.device_id is not None and login.device_id is not None:
                f["entry_other_device"] = entry.device_id != login.device_id

    # --- line
    _line_features(f, e, profile, policy, country, first.line if first is not None else None, first.line_country if first else None)

    # --- account
    if profile.since is not None and e.start - profile.since >= LEAST_HISTORY_MS:
        days = (e.start - profile.since) / DAY_MS
        f["logins_usual_per_day"] = profile.logins / days
        if observed:
            f["calls_usual_per_day"] = profile.calls / days
    f["changes_after"] = len(e.changes)
    f["takeover_change"] = any(c.change != "transfer" for c in e.changes)
    f["money_moved"] = any(c.change == "transfer" for c in e.changes)
    f["unexplained_call"] = _unexplained(f)
    return Features(**f), call  # type: ignore[arg-type]


def _unexplained(f: dict[str, object]) -> bool:
    """Nothing explains the live call: not the institution's, not a contact's, not the customer's own, not running for long (B10)."""
    if f.get("call_live") is not True or f.get("caller_inbound") is False or f.get("agent_initiated") is True:
        return False
    if f.get("caller_is_bank") is True or f.get("caller_is_contact") is True or f.get("caller_never_seen") is False:
        return False
    ran = f.get("seconds_call_before_login")
    return not (isinstance(ran, float) and ran > LONG_TALK_S)


def _is_new(known: dict[str, Seen], key: str, known_before: Ms) -> bool | None:
    """Never seen, or first seen too recently; None while nothing has been known for long enough to compare with."""
    seen = known.get(key)
    if seen is not None and seen.first <= known_before:
        return False
    return True if any(s.first <= known_before for s in known.values()) else None


def _elsewhere(other: LoggedIn, login: LoggedIn, e: Episode, profile: Profile, known_before: Ms) -> bool:
    if other.session_id == login.session_id or other.device_id is None or other.device_id == login.device_id:
        return False
    seen = profile.devices.get(other.device_id)
    return seen is not None and seen.first <= known_before and other.occurred_at >= e.start - 1_800_000


def _call_features(f: dict[str, object], e: Episode, profile: Profile, policy: Policy, call: CallSeen | None) -> None:
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
    _message_features(f, e, profile, policy, around)
    if call is None:
        return
    assert call.answered is not None
    end = min(call.end(windows), moment)
    if e.entry is not None:
        f["seconds_answer_to_entry"] = (moment - call.answered) / 1000
        if call.ended is not None and call.ended >= moment:
            f["seconds_entry_to_hangup"] = (call.ended - moment) / 1000
    f["seconds_dispatch_to_call"] = (call.started - start) / 1000
    if moment > start:
        f["call_overlap_share"] = max(0.0, (end - max(call.answered, start)) / (moment - start))
    if e.login is not None:
        f["seconds_call_before_login"] = (e.login.occurred_at - call.answered) / 1000
    f["call_seconds"] = ((call.ended if call.ended is not None else max(moment, call.answered)) - call.answered) / 1000
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


def _message_features(f: dict[str, object], e: Episode, profile: Profile, policy: Policy, around: list[CallSeen]) -> None:
    if not e.messages and not profile.texters:
        return  # no message feed for this customer
    senders = set(profile.senders).union(*(s.sender for s in e.challenge.sends))
    strange_from: list[tuple[Ms, tuple[str, ...]]] = []
    first_ring = min((c.started for c in around), default=None)
    sent = [s.occurred_at for s in e.challenge.sends if s.channel == "sms"]
    texted_out = False
    before_call = False
    unexplained = set(range(len(sent)))  # a dispatch without a sender explains one unknown text (B18)
    for message in e.messages:
        at = message.occurred_at
        if message.direction == "inbound":
            if at > e.moment or message.peer_is_contact is True or senders & set(message.peer):
                continue
            if any(token in profile.peers or token in profile.texters for token in message.peer):
                continue
            if not e.challenge.sends or not e.challenge.sends[0].sender:
                told = next((i for i in sorted(unexplained) if 0 <= at - sent[i] <= 1000 * policy.windows.delivery_s), None)
                if told is not None and message.has_code is not False:
                    unexplained.discard(told)
                    continue
            strange_from.append((at, message.peer))
            if first_ring is not None and 0 <= first_ring - at <= STRANGER_TEXT_MS:
                before_call = True
        elif e.start <= at <= e.moment and message.peer_is_contact is not True:
            strange = is_stranger(message.peer, e, profile, policy)
            answered = any(set(peer) & set(message.peer) for _, peer in strange_from) if message.peer else bool(strange_from)
            if strange is not False and answered:
                texted_out = True
    f["stranger_text_before_call"] = before_call
    f["code_texted_out"] = texted_out


def _code_features(f: dict[str, object], e: Episode, profile: Profile) -> None:
    challenge, start = e.challenge, e.start
    sends = [s.occurred_at for c in (*e.others, challenge) for s in c.sends] or [start]
    latest = max(s.occurred_at for s in challenge.sends) if challenge.sends else start
    f["requests_10m"] = max(1, sum(1 for s in sends if latest - 600_000 <= s <= latest))
    f["requests_1h"] = max(1, sum(1 for s in sends if latest - 3_600_000 <= s <= latest))
    recent_starts = {c.start for c in e.others}
    older = [(at, used) for at, used in profile.challenges if start - DAY_MS <= at < start and at not in recent_starts]
    f["requests_24h"] = max(1, len(sends) + len(older))
    f["abandoned_codes"] = sum(1 for c in e.others if c.accepted is None) + sum(1 for _, used in older if not used)
    f["wrong_codes"] = sum(1 for x in challenge.entries if x.outcome == "rejected")
    if e.entry is None or not challenge.sends:
        return
    sent = max((s.occurred_at for s in challenge.sends if s.occurred_at <= e.moment), default=start)
    latency = max(0.0, (e.moment - sent) / 1000)
    f["entry_latency_s"] = latency
    if len(profile.entry_ms) >= LEAST_ENTRIES:
        usual = median(profile.entry_ms) / 1000
        spread = max(LEAST_SPREAD_S, 1.4826 * median(abs(x / 1000 - usual) for x in profile.entry_ms))  # MAD of a normal
        f["entry_latency_usual_s"], f["entry_latency_spread_s"] = usual, spread
        f["entry_latency_z"] = (latency - usual) / spread


def _line_features(
    f: dict[str, object], e: Episode, profile: Profile, policy: Policy, country: str | None, line: str | None, home: str | None
) -> None:
    end = e.entry.occurred_at if e.entry is not None else e.expires_at
    seen_by = e.now
    lines = [line] if line is not None else sorted(profile.line_facts)
    last: dict[str, tuple[Ms, str | None]] = {}
    for each in lines:
        for fact in profile.line_facts.get(each, ()):  # in order of occurrence
            if fact.occurred_at <= end and fact.arrived_at <= seen_by:
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
        f["linked_accounts"] = link.accounts
        if link.status == "linked" and changed is None and len(profile.links) > 1:
            changed = link.occurred_at
    if changed is not None and changed <= e.start:
        f["hours_since_phone_change"] = (e.start - changed) / HOUR_MS


def _order(e: Episode, call: CallSeen | None) -> str:
    marks = [(e.start, "otp")]
    if e.login is not None:
        marks.append((e.login.occurred_at, "login"))
    if call is not None and call.answered is not None:
        marks.append((call.answered, "call"))
    if e.entry is not None:
        marks.append((e.moment, "entry"))
    return ">".join(name for _, name in sorted(marks))
