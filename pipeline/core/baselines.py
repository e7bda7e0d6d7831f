"""What is normal for everybody? Tables of past days that the policy carries, beside which an entry, a browser and an hour are held.

State is per account and per partition: a population's normal that was learned live would depend on the order of records, on partitions
and on restarts. So `offhook baselines` computes it from past days of a log and proposes it, and it is in force when a policy says so.
"""

from math import log1p, log10
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.events import Channel

MOST_AGENTS = 500  # user agents listed: whoever reads a policy can still page through it, and it stays below 20 kB
MOST_Z = 10.0  # spreads: further out says nothing more
LEAST_SPREAD = 0.1  # of ln(1 + s), a tenth of the latency: no channel is steadier than this; keeps a z-score finite
LEAST_SHARE = 1e-7  # of logins: no log of a bank says more
Agent = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{11}$")]  # the digest that events carry, never a user agent itself
Hours = Annotated[tuple[Annotated[float, Meta(ge=0.0, le=1e8)], ...], Meta(min_length=24, max_length=24)]
ShareOfLogins = Annotated[float, Meta(ge=LEAST_SHARE, le=1.0)]


class EntryLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long honest entries of one channel take from (re)dispatch to entry."""

    median_s: Annotated[float, Meta(gt=0.0, le=86_400.0)]
    spread: Annotated[float, Meta(ge=LEAST_SPREAD, le=5.0)]  # of ln(1 + s): 1.4826 times the median absolute deviation


class Codes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many accounts of the whole bank are sent a code in five minutes: by day, Monday first, and hour (UTC)."""

    share: Annotated[float, Meta(gt=0.0, le=1.0)]  # of the accounts is counted, chosen by hash: what a stage in one place can count
    spread: Annotated[float, Meta(ge=LEAST_SPREAD, le=5.0)]  # of ln(1 + n)
    accounts: Annotated[tuple[Hours, ...], Meta(min_length=7, max_length=7)]


class Baselines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latencies by channel, shares of logins by user agent (what is not listed counts as the floor), codes by hour. Empty: not known."""

    entry_latency: dict[Channel, EntryLatency] = {}
    user_agent_floor: Annotated[float, Meta(ge=LEAST_SHARE, lt=1.0)] | None = None
    user_agents: Annotated[dict[Agent, ShareOfLogins], Meta(max_length=MOST_AGENTS)] = {}
    codes: Codes | None = None

    def __post_init__(self) -> None:
        shares, floor = self.user_agents.values(), self.user_agent_floor
        if bool(shares) != (floor is not None):
            raise ValueError("baselines.user_agents and baselines.user_agent_floor go together")
        if floor is not None and floor > min(shares):
            raise ValueError("baselines.user_agents: a share lies below baselines.user_agent_floor")
        if sum(shares) > 1.001:
            raise ValueError("baselines.user_agents: the shares come to more than 1")


def channel_z(baselines: Baselines, channel: Channel, latency_s: float) -> float | None:
    """How many spreads above the channel's median a latency lies, -10 to 10; None where the channel has no baseline.

    On ln(1 + s), since entry times are log-normal (domain.md, generator anchors): on seconds the slow tail alone would make the spread, and
    nothing could be too fast. Six digits, as decisions have them, so that no library's last digit is in a decision's id.
    """
    normal = baselines.entry_latency.get(channel)
    if normal is None:
        return None
    z = spreads_above(latency_s, normal.median_s, normal.spread)
    return round(max(-MOST_Z, min(MOST_Z, z)), 6) + 0.0


def spreads_above(value: float, usual: float, spread: float) -> float:
    """How many spreads of ln(1 + x) a value lies above what is usual."""
    return (log1p(value) - log1p(usual)) / spread


def rarity(baselines: Baselines, user_agent: str) -> float | None:
    """In how many powers of ten of logins a user agent comes once, 0 to 7; None without a baseline. What is not listed counts as the floor.

    The negative log of a share, as the features of a login are scored by Freeman et al. ("Who are you?", NDSS 2016).
    """
    if baselines.user_agent_floor is None:
        return None
    return round(-log10(baselines.user_agents.get(user_agent, baselines.user_agent_floor)), 6) + 0.0
