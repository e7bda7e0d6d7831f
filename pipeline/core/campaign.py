"""How many accounts has one caller, text sender, device or address met within the hour? Its marks, and the table of campaigns that run.

Marks are a set: per stretch of time the accounts met in it, at most as many as are counted. Joining two is a union, so that order and
repetition do not show; which accounts stay where there are too many depends on their names alone.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from pipeline.core.events import CampaignMark, CampaignSeen, Ms
from pipeline.core.policy import Policy

ENTITIES = 4096  # campaigns remembered per partition: more than run at once anywhere; those heard of longest ago go first
_NAME_BYTES = 6  # 48 bits: two of a thousand accounts share a name once in 5 * 10^8


def short_name(account_id: str) -> str:
    """Name an account in 12 hexadecimal characters: enough to count it once, and no account to anybody else."""
    return hashlib.blake2b(account_id.encode(), digest_size=_NAME_BYTES).hexdigest()


def joined(one: Iterable[CampaignMark], other: Iterable[CampaignMark], most: int) -> tuple[CampaignMark, ...]:
    """The union of two sets of marks, in order of time; in each stretch the ``most`` first names stay."""
    found: dict[Ms, CampaignMark] = {mark.at: mark for mark in one}
    for mark in other:
        have = found.get(mark.at)
        if have is not None:
            accounts = tuple(sorted({*have.accounts, *mark.accounts})[:most])
            mark = CampaignMark(mark.at, accounts, have.exempt or mark.exempt)  # noqa: PLW2901
        found[mark.at] = mark
    return tuple(found[at] for at in sorted(found))


def since(marks: tuple[CampaignMark, ...], at: Ms) -> tuple[CampaignMark, ...]:
    """The marks that begin at ``at`` (ms) or later."""
    return marks if not marks or marks[0].at >= at else tuple(mark for mark in marks if mark.at >= at)


def runs(marks: tuple[CampaignMark, ...], policy: Policy) -> bool:
    """Whether within any window there are as many accounts as make a campaign."""
    if len({name for mark in marks for name in mark.accounts}) < policy.campaigns.accounts:
        return False
    return any(len(_met(marks, mark.at, policy)) >= policy.campaigns.accounts for mark in marks)


def met_around(marks: tuple[CampaignMark, ...], moment: Ms, account_id: str, policy: Policy) -> int:
    """How many accounts, this one among them, the entity met in the window that ends with the moment's stretch; at most ``most``.

    0 where it was seen to be the institution's own.
    """
    step = 1000 * policy.campaigns.step_s
    end = moment // step * step
    first = end - 1000 * policy.campaigns.window_s
    if any(mark.exempt for mark in marks if first <= mark.at <= end):
        return 0
    return min(policy.campaigns.most, len(_met(marks, end, policy) - {short_name(account_id)}) + 1)


def _met(marks: tuple[CampaignMark, ...], end: Ms, policy: Policy) -> set[str]:
    first = end - 1000 * policy.campaigns.window_s
    return {name for mark in marks if first <= mark.at <= end for name in mark.accounts}


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a partition knows of one campaign: when it last heard something new of it (ms), and its marks."""

    heard_at: Ms
    marks: tuple[CampaignMark, ...]


def hear(table: dict[str, Known], said: CampaignSeen, policy: Policy) -> bool:
    """Take in what is said of a campaign; returns whether anything of it is new."""
    have = table.get(said.entity)
    marks = joined(have.marks if have is not None else (), said.marks, policy.campaigns.most)
    if have is not None and marks == have.marks:
        return False
    table[said.entity] = Known(max(said.arrived_at, have.heard_at if have is not None else 0), marks)
    while len(table) > ENTITIES:
        del table[min(table, key=lambda entity: (table[entity].marks[-1].at, entity))]
    return True


def forget(table: dict[str, Known], now: Ms, policy: Policy) -> None:
    """Forget what no challenge that is still open at ``now`` (ms) can ask for."""
    until = now - policy.retain_ms - 1000 * policy.campaigns.window_s
    for entity in [entity for entity, known in table.items() if known.marks[-1].at < until]:
        del table[entity]
