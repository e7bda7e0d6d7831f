"""The lives of several accounts with the campaign stage beside them: what the laws over accounts are tested on."""

from itertools import count
from typing import TypeVar

from strategies import T0

from pipeline.core.events import AccountEvent, CampaignSeen, CodesSurged
from pipeline.core.gatherer import Gatherer
from pipeline.core.outcome import Outcome, Sighting
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy

FAR = T0 + 40 * 86_400_000
Fold = TypeVar("Fold", Partition, Gatherer)


def restarted(fold: Fold, new: Fold, kept: dict[str, bytes]) -> Fold:
    """A new worker's fold from the bytes of the old one's; ``kept``: what was written so far."""
    kept |= fold.changes()
    for name, state in kept.items():
        new.restore(name, state)
    new.restore_clock(fold.clock())
    return new


def lived(events: list[AccountEvent], policy: Policy, restart: bool = False, partitions: int = 1) -> tuple[list[Outcome], list[Partition]]:
    """Fold them to their end; with ``restart`` all state goes through bytes between every two records."""
    folds, gatherer, offsets, sightings = [Partition(policy) for _ in range(partitions)], Gatherer(policy), count(), count()
    kept: list[dict[str, bytes]] = [{} for _ in folds]
    slots: dict[str, bytes] = {}
    said: list[Outcome] = []

    def fold(event: AccountEvent | CampaignSeen | CodesSurged) -> None:
        nonlocal gatherer
        everywhere = isinstance(event, CampaignSeen | CodesSurged)
        for p in range(partitions) if everywhere else (len(event.account_id) % partitions,):
            outcomes = folds[p].fold(next(offsets), event)
            said.extend(outcomes)
            assert not folds[p].tripped
            if restart:
                folds[p] = restarted(folds[p], Partition(policy), kept[p])
            for outcome in outcomes:
                if isinstance(outcome, Sighting):
                    seen = gatherer.fold(next(sightings), outcome)
                    if restart:
                        gatherer = restarted(gatherer, Gatherer(policy), slots)
                    if seen is not None:
                        fold(seen)

    for event in events:
        fold(event)
    for partition in folds:
        for account in sorted(partition.accounts()):
            timeline = partition.timeline(account)
            assert timeline is not None
            said += partition.detector.fire(timeline, FAR)[1]
    return said, folds
