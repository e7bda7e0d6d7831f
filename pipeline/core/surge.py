"""How many customers of the whole bank are sent a code now, beside what is usual at this hour? X3 of the feature catalogue.

Accounts are counted in stretches of five minutes, in each one a share of them that is chosen by hash; the campaign stage keeps their
names as a set, bounded: of too many the first ones stay, from which their number is known still. What it says of a stretch only ever
grows, so that order, repetition and restarts do not show. An account counts once in a stretch: one that is bombed is no surge.
"""

import msgspec

from pipeline.core.baselines import MOST_Z, Codes, spreads_above
from pipeline.core.events import CampaignMark, CodesSurged, Ms
from pipeline.core.policy import SURGE_STRETCH_S, Policy
from pipeline.core.profile import HOUR_MS
from pipeline.core.sampling import taken

STRETCH_MS = 1000 * SURGE_STRETCH_S
NAMES = 256  # kept of a stretch: the number of accounts is then known to 6 % (1 / sqrt(n - 2), Beyer et al., SIGMOD 2007)
LEAST_Z = 2.0  # spreads: less is said of by nobody, and is 0; where days vary by a fifth, one code in forty of ordinary days has more
LEAST_COUNTED = 5  # names: fewer are chance, wherever next to none are usual (of Poisson counts that pass, one in 140 at most)
STEP_Z = 0.5  # what is said of a stretch grows in such steps, so that it is said 17 times at most
_KIND = "codes"
_NAME_BITS = 48  # of campaign.short_name
_MONDAY = 4  # 1970-01-05


def stretch_of(at: Ms) -> Ms:
    """When the stretch of a moment begins (ms)."""
    return at // STRETCH_MS * STRETCH_MS


def entity_of(at: Ms) -> str:
    """The name under which the codes of a moment's stretch are counted.

    >>> entity_of(1795342530400)
    'codes:1795342500'
    """
    return f"{_KIND}:{stretch_of(at) // 1000}"


def is_of_codes(entity: str) -> bool:
    """Whether a sighting's entity is a stretch of time in which codes are counted."""
    return entity.startswith(_KIND + ":")


def counts(account_id: str, at: Ms, codes: Codes) -> bool:
    """Whether the account is one of those that are counted in the moment's stretch; other ones in each."""
    return taken(f"{entity_of(at)}:{account_id}", codes.share)


def estimated(names: tuple[str, ...]) -> float:
    """How many names there were of which these, in order, stayed: all below ``NAMES`` of them, else as many as lie so close together.

    >>> estimated(("000000000001", "7fffffffffff"))
    2.0
    """
    if len(names) < NAMES:
        return float(len(names))
    return (NAMES - 1) / ((int(names[-1], 16) + 1) / (1 << _NAME_BITS))


def hour_of_week(at: Ms) -> tuple[int, int]:
    """Day, Monday being 0, and hour of a moment (UTC).

    >>> hour_of_week(1795342530400)
    (6, 10)
    """
    hour = at // HOUR_MS
    return (hour // 24 - _MONDAY) % 7, hour % 24


def usual_at(codes: Codes, at: Ms) -> float:
    """How many accounts are usually sent a code in the moment's stretch."""
    day, hour = hour_of_week(at)
    return codes.accounts[day][hour]


def level(marks: tuple[CampaignMark, ...], codes: Codes) -> float:
    """How many spreads above the usual the accounts of a stretch are, rounded down to half ones; 0 below ``LEAST_Z``, 10 at most.

    Also 0 where fewer than ``LEAST_COUNTED`` were counted.
    """
    if not marks or len(marks[0].accounts) < LEAST_COUNTED:
        return 0.0
    z = excess(estimated(marks[0].accounts) / codes.share, marks[0].at, codes)
    return 0.0 if z < LEAST_Z else min(MOST_Z, z // STEP_Z * STEP_Z)


def excess(accounts: float, at: Ms, codes: Codes) -> float:
    """How many spreads above the usual of the moment's stretch so many accounts are.

    On ln(1 + n), with what chance does to the sample as well: at night it is small.
    """
    usual = usual_at(codes, at)
    return spreads_above(accounts, usual, (codes.spread**2 + 1.0 / (1.0 + codes.share * usual)) ** 0.5)


class Surge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a partition knows of a stretch with a surge: when it was known to be so many spreads (ms), and how many."""

    heard_at: Ms
    z: float


def hear(table: dict[Ms, Surge], said: CodesSurged) -> None:
    """Take in what is said of a stretch, in whatever order."""
    new, have = Surge(said.arrived_at, said.z), table.get(said.at)
    table[said.at] = new if have is None else _greater(have, new)


def around(table: dict[Ms, Surge], start: Ms) -> Surge | None:
    """The surge in which a code was sent at ``start`` (ms): that of its stretch or the one before, of which more is known at once."""
    at = stretch_of(start)
    here, before = table.get(at), table.get(at - STRETCH_MS)
    if here is None or before is None:
        return here or before
    return _greater(before, here)


def _greater(one: Surge, other: Surge) -> Surge:
    """The greater of two; of two that are as great the one that was known first."""
    return one if (one.z, -one.heard_at) >= (other.z, -other.heard_at) else other


def forget(table: dict[Ms, Surge], now: Ms, policy: Policy) -> None:
    """Forget what no challenge that is still open at ``now`` (ms) can ask for."""
    until = now - policy.retain_ms - 2 * STRETCH_MS
    for at in [at for at in table if at < until]:
        del table[at]
