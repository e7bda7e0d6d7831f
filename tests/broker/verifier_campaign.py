"""Is every sighting in the state of its slot, and every piece of news in the table of the partition it was told to?

Read from the records alone, as all that verifier_state knows: names of accounts and slots are hashed here anew.
"""

import hashlib

import msgspec

from pipeline.core.beats import ClockState
from pipeline.core.events import CampaignMark, CampaignSeen, CodesSurged
from pipeline.core.gatherer import Slot
from pipeline.core.outcome import Sighting
from pipeline.core.policy import Policy

SLOT_BYTES, NAME_BYTES = 1, 6
SURGE_S, SURGE_NAMES = 300, 256
decode_sighting = msgspec.json.Decoder(Sighting).decode


def slot_name(entity: str) -> str:
    """The slot that an entity's marks are kept in."""
    return hashlib.blake2b(entity.encode(), digest_size=SLOT_BYTES).hexdigest()


def _short_name(account_id: str) -> str:
    return hashlib.blake2b(account_id.encode(), digest_size=NAME_BYTES).hexdigest()


def in_slot(slot: Slot | None, sighting: Sighting, now: int, policy: Policy) -> str:
    """Where campaign's state has a sighting: ``marks``, ``full`` of others, or ``aged`` out at ``now`` (ms); empty: nowhere."""
    campaigns, bounds = policy.campaigns, policy.bounds
    step_s, most = (SURGE_S, SURGE_NAMES) if sighting.entity.startswith("codes:") else (campaigns.step_s, campaigns.most)
    kept_s = campaigns.window_s + bounds.lateness_s + bounds.slack_s + policy.feeds.patience_s
    at = sighting.occurred_at // (1000 * step_s) * 1000 * step_s
    accounts = () if sighting.exempt else (_short_name(sighting.account_id),)
    marks = slot.entities.get(sighting.entity, ()) if slot is not None else ()
    return _among(marks, CampaignMark(at, accounts, sighting.exempt), most) or ("aged" if at < now - 1000 * kept_s else "")


def in_table(clock: ClockState, said: CampaignSeen | CodesSurged, policy: Policy) -> str:
    """Where a partition's clock has what it was told of a campaign or surge: ``table``, or ``over`` by now; empty: nowhere."""
    now = clock.now
    if isinstance(said, CodesSurged):
        surge = clock.surges.get(said.at)
        if surge is not None and surge.z >= said.z:
            return "table"
        return "over" if said.at < now - policy.retain_ms - 2000 * SURGE_S else ""
    known = clock.campaigns.get(said.entity)
    if known is not None and all(_among(known.marks, mark, policy.campaigns.most) for mark in said.marks):
        return "table"
    return "over" if said.marks[-1].at < now - policy.retain_ms - 1000 * policy.campaigns.window_s else ""


def _among(marks: tuple[CampaignMark, ...], wanted: CampaignMark, most: int) -> str:
    have = next((mark for mark in marks if mark.at == wanted.at), None)
    if have is None or wanted.exempt > have.exempt:
        return ""
    missing = set(wanted.accounts) - set(have.accounts)
    if not missing:
        return "marks"
    return "full" if len(have.accounts) == most and min(missing) > have.accounts[-1] else ""
