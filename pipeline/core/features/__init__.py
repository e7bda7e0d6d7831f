"""What does the episode look like, in numbers? Episode + Profile -> Features, one module per family."""

from pipeline.core.baselines import rarity
from pipeline.core.calls import CallSeen
from pipeline.core.episode import Episode
from pipeline.core.events import LoggedIn, Ms
from pipeline.core.features.call import LONG_TALK_S, call_features, suspect_call, unexplained
from pipeline.core.features.campaign import Heard, campaign_features
from pipeline.core.features.code import code_features
from pipeline.core.features.line import line_features
from pipeline.core.features.vector import FIELDS, Features, as_dict
from pipeline.core.features.verdict import verdict_features
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS, HOUR_MS, Profile, is_new

__all__ = ["FIELDS", "LONG_TALK_S", "Features", "as_dict", "extract"]

TAKEOVER_CHANGES = ("payee_added", "password_changed", "phone_changed", "email_changed", "notifications_off")
LEAST_HISTORY_MS = 3 * DAY_MS  # before that, daily rates say nothing


def extract(
    episode: Episode, profile: Profile, policy: Policy, account_id: str, heard: Heard | None = None
) -> tuple[Features, CallSeen | None]:
    """Compute the features of an episode, and the call they speak of. About 60 us. ``heard``: asked of campaigns, where any run."""
    e, windows = episode, policy.windows
    challenge, entry, login = e.challenge, e.entry, e.login
    f: dict[str, object] = {}
    first = challenge.sends[0] if challenge.sends else (challenge.receipts[0] if challenge.receipts else None)

    # --- calls and messages
    observed = profile.telephony_at is not None or bool(e.calls) or e.asked
    f["telephony_known"] = observed
    call = suspect_call(e, profile, policy)
    if observed:
        call_features(f, e, profile, policy, call)
    f["order"] = _order(e, call)

    # --- login
    device = (entry.device_id if entry is not None and entry.device_id is not None else None) or (login.device_id if login else None)
    asn = login.asn if login is not None and login.asn is not None else (entry.asn if entry is not None else None)
    country = login.country if login is not None and login.country is not None else (entry.country if entry is not None else None)
    known_before = e.start - 1000 * windows.known_after_s
    f["known_devices"] = len([s for s in profile.devices.values() if s.first <= known_before])
    if device is not None:
        seen = profile.devices.get(device)
        if seen is not None:
            f["device_age_h"] = max(0.0, (e.start - seen.first) / HOUR_MS)
        f["new_device"] = is_new(profile.devices, device, known_before)
    if asn is not None:
        f["new_network"] = is_new(profile.networks, str(asn), known_before)
    if country is not None:
        f["new_country"] = is_new(profile.countries, country, known_before)
        elsewhere_at = max((s.last for c, s in profile.countries.items() if c != country and s.last <= e.start), default=None)
        if elsewhere_at is not None:
            f["hours_since_other_country"] = (e.start - elsewhere_at) / HOUR_MS
    if login is not None:
        f["network_kind"] = login.asn_kind
        f["reset_flow"] = login.flow == "password_reset"
        if login.user_agent is not None:
            f["new_user_agent"] = is_new(profile.agents, login.user_agent, known_before)
            f["user_agent_rarity"] = rarity(policy.baselines, login.user_agent)
        if first is not None:
            f["seconds_login_to_dispatch"] = (first.occurred_at - login.occurred_at) / 1000
        failed = [x for x in e.failed_logins if x.occurred_at >= e.start - 600_000] if e.failed_logins else []
        f["failed_logins"], f["failed_logins_1h"] = len(failed), len(e.failed_logins)
        if f.get("new_device") is not None:
            f["first_try_on_new_device"] = bool(f["new_device"]) and not failed
        f["other_session_active"] = bool(e.other_logins) and any(elsewhere(x, login, e, profile, known_before) for x in e.other_logins)
    entries = sum(profile.hours)
    if entries >= 10:
        hour = e.start // HOUR_MS % 24
        near = profile.hours[hour] + profile.hours[hour - 1] + profile.hours[(hour + 1) % 24]
        f["hour_share"] = near / entries

    # --- code
    code_features(f, e, profile, policy)
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

    # --- campaigns
    if heard is not None:
        campaign_features(f, e, profile, policy, heard)
    if policy.baselines.codes is not None and first is not None:
        f["code_surge_z"] = heard.surge_z(e.start) if heard is not None else 0.0

    # --- line
    line_features(f, e, profile, policy, country, first.line if first is not None else None, first.line_country if first else None)

    # --- account
    if profile.since is not None and e.start - profile.since >= LEAST_HISTORY_MS:
        days = (e.start - profile.since) / DAY_MS
        f["logins_usual_per_day"] = profile.logins / days
        if observed:
            f["calls_usual_per_day"] = profile.calls / days
    starts = [at for at, _ in profile.challenges if at < known_before]
    if starts and e.start - starts[0] >= LEAST_HISTORY_MS:
        f["codes_usual_per_day"] = len(starts) * DAY_MS / (e.start - starts[0])
    if profile.verdicts:
        verdict_features(f, e, profile)
    f["changes_after"] = len(e.changes)
    if e.changes:
        f["takeover_change"] = any(c.change in TAKEOVER_CHANGES for c in e.changes)
        f["device_bound"] = any(c.change == "device_bound" for c in e.changes)
        f["money_moved"] = any(c.change == "transfer" for c in e.changes)
    f["test_account"] = account_id in policy.test_accounts
    f["unexplained_call"] = unexplained(f)
    return Features(**f), call  # type: ignore[arg-type]


def elsewhere(other: LoggedIn, login: LoggedIn, e: Episode, profile: Profile, known_before: Ms) -> bool:
    if other.session_id == login.session_id or other.device_id is None or other.device_id == login.device_id:
        return False
    seen = profile.devices.get(other.device_id)
    return seen is not None and seen.first <= known_before and other.occurred_at >= e.start - 1_800_000


def _order(e: Episode, call: CallSeen | None) -> str:
    marks = [(e.start, "otp")]
    if e.login is not None:
        marks.append((e.login.occurred_at, "login"))
    if call is not None and call.answered is not None:
        marks.append((call.answered, "call"))
    if e.entry is not None:
        marks.append((e.moment, "entry"))
    return ">".join(name for _, name in sorted(marks))
