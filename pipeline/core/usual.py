"""What is normal for this account, beside what was seen? Puts the account's own usual next to the features of an alert, and everybody's
where the policy has a baseline.
"""

from pipeline.core.baselines import EntryLatency
from pipeline.core.episode import Episode
from pipeline.core.features import Features
from pipeline.core.policy import Policy
from pipeline.core.profile import HOUR_MS, Profile, Seen
from pipeline.core.surge import STRETCH_MS, hour_of_week, usual_at

SHOWN = 3  # networks, countries and hours named: those used most
_PLACES = 2  # decimals of rates


def beside(data: dict[str, object], f: Features, e: Episode, profile: Profile, policy: Policy) -> None:
    """Turn features in ``data`` that have a usual into ``{"value", "usual"...}``; those whose usual is not known stay as they are."""
    _latency(data, f, _of_channel(e, policy))
    _rate(data, "requests_24h", f.codes_usual_per_day, "codes_usual_per_day")
    _rate(data, "calls_in_episode", f.calls_usual_per_day, "calls_usual_per_day")
    if f.hour_share is not None:
        most = sorted(range(24), key=lambda hour: (-profile.hours[hour], hour))[:SHOWN]
        data["hour_share"] = {
            "value": round(f.hour_share, 3),
            "hour": e.start // HOUR_MS % 24,
            "usual": [hour for hour in most if profile.hours[hour]],
        }
    if f.new_device is not None:
        data["new_device"] = {"value": f.new_device, "usual": f.known_devices}
        data.pop("known_devices", None)
    for name, known in (("new_network", profile.networks), ("new_country", profile.countries)):
        value = getattr(f, name)
        if value is not None:
            data[name] = {"value": value, "usual": _most(known)}
    if f.caller_never_seen is not None:
        data["caller_never_seen"] = {"value": f.caller_never_seen, "usual": len(profile.peers)}
    if f.code_surge_z and (codes := _of_hour(e, policy)) is not None:
        data["code_surge_z"] = {"value": f.code_surge_z, "usual_accounts": codes}


def surge_sentence(f: Features, e: Episode, policy: Policy) -> str | None:
    """Say that unusually many customers were sent codes, or nothing."""
    if not f.code_surge_z:
        return None
    codes = _of_hour(e, policy)
    usual = "usual" if codes is None else f"usual {codes:,.0f}" if codes >= 10 else f"usual {codes:g}"
    return f"Around then codes went out to unusually many customers: {f.code_surge_z:g} spreads above the {usual} in five minutes."


def _of_hour(e: Episode, policy: Policy) -> float | None:
    """How many accounts are usually sent a code in five minutes of this hour; None where the five minutes before were another hour's."""
    codes, here, before = policy.baselines.codes, e.start, e.start - STRETCH_MS
    return usual_at(codes, here) if codes is not None and hour_of_week(here) == hour_of_week(before) else None


def _of_channel(e: Episode, policy: Policy) -> EntryLatency | None:
    """What is usual on the channel that the entered code came by."""
    send = e.challenge.last_send(e.moment) if e.entry is not None else None
    return None if send is None else policy.baselines.entry_latency.get(send.channel)


def _latency(data: dict[str, object], f: Features, of_channel: EntryLatency | None) -> None:
    if f.entry_latency_s is None or (f.entry_latency_usual_s is None and of_channel is None):
        return
    shown = {"value": round(f.entry_latency_s, 3)}
    if f.entry_latency_usual_s is not None:
        shown |= {"usual": round(f.entry_latency_usual_s, 3), "usual_spread": round(f.entry_latency_spread_s or 0.0, 3)}
    if of_channel is not None:
        shown["usual_on_channel"] = round(of_channel.median_s, 3)
    data["entry_latency_s"] = shown
    for name in ("entry_latency_usual_s", "entry_latency_spread_s"):
        data.pop(name, None)


def _rate(data: dict[str, object], name: str, per_day: float | None, told_by: str) -> None:
    if per_day is not None and name in data:
        data[name] = {"value": data[name], "usual_per_day": round(per_day, _PLACES)}
        data.pop(told_by, None)


def _most(known: dict[str, Seen]) -> list[str]:
    return sorted(known, key=lambda key: (-known[key].count, key))[:SHOWN]


def sentence(f: Features, e: Episode, profile: Profile, policy: Policy) -> str | None:
    """Say what is usual in one sentence: for the account, else for everybody, or nothing while too little is known."""
    if f.entry_latency_usual_s is None:
        of_channel = _of_channel(e, policy)
        return None if of_channel is None else f"Customers usually enter a code sent this way after {of_channel.median_s:.0f} s."
    devices = "one known device" if f.known_devices == 1 else f"one of {f.known_devices} known devices"
    said = f"The customer usually enters a code after {f.entry_latency_usual_s:.0f} s, on {devices}"
    if f.codes_usual_per_day is not None:
        said += f", about {_often(f.codes_usual_per_day)}"
    if f.hour_share is not None:
        hour = max(range(24), key=lambda h: (profile.hours[h], -h))
        said += f", most often around {hour:02d}:00"
    return said + "."


def _often(per_day: float) -> str:
    if per_day >= 1.0:
        return f"{per_day:.0f} a day"
    days = 1.0 / per_day
    return f"one in {days:.0f} days" if days >= 1.5 else "one a day"
