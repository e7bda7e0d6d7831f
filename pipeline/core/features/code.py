"""How were codes asked for and entered, compared with what is usual? The features of family O, and T6."""

from statistics import median

from pipeline.core.baselines import channel_z
from pipeline.core.episode import Episode
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS, Profile

LEAST_ENTRIES = 3  # entry latencies needed before "usual" means anything
LEAST_SPREAD_S = 2.0  # nobody is steadier than this; keeps a z-score finite


def code_features(f: dict[str, object], e: Episode, profile: Profile, policy: Policy) -> None:
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
    send = challenge.last_send(e.moment)
    latency = max(0.0, (e.moment - (start if send is None else send.occurred_at)) / 1000)
    f["entry_latency_s"] = latency
    if send is not None:
        f["entry_latency_channel_z"] = channel_z(policy.baselines, send.channel, latency)
    if len(profile.entry_ms) >= LEAST_ENTRIES:
        usual = median(profile.entry_ms) / 1000
        spread = max(LEAST_SPREAD_S, 1.4826 * median(abs(x / 1000 - usual) for x in profile.entry_ms))  # MAD of a normal
        f["entry_latency_usual_s"], f["entry_latency_spread_s"] = usual, spread
        f["entry_latency_z"] = (latency - usual) / spread
