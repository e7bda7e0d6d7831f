"""What would the campaign stage have said? It, over a dict, in a replay of raw topics; a recorded ``events`` topic has it already."""

from collections.abc import Iterable, Iterator

from pipeline.core.events import CampaignSeen, CodesSurged
from pipeline.core.gatherer import Gatherer
from pipeline.core.outcome import Outcome, Sighting
from pipeline.core.policy import Policy
from pipeline.replay.summary import Tally


class Campaigns:
    """Fold sightings as they are said."""

    def __init__(self, policy: Policy, tally: Tally) -> None:
        self._gatherer = Gatherer(policy)
        self._tally = tally
        self._sightings = 0  # the next offset in the virtual partition of sightings

    def news(self, outcomes: Iterable[Outcome]) -> Iterator[CampaignSeen | CodesSurged]:
        """What there is to say to ``events``, in order."""
        for outcome in outcomes:
            if type(outcome) is Sighting:
                said = self._gatherer.fold(self._sightings, outcome)
                self._sightings += 1
                if said is not None:
                    self._tally.told(said)
                    yield said
