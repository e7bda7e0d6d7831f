"""Which model scores? What an activation in the log names, found on a shelf that the driver has filled, and put in force in the detector.

A driver fills the shelf before it folds on: with every snapshot that an activation names, or the word that it is refused. Which model is
in force is therefore a function of the log and of the snapshots, and of nothing else (law 8).
"""

from typing import Protocol

from pipeline.core.detector import Detector
from pipeline.core.events import Activation
from pipeline.core.features import Features
from pipeline.core.model import WEIGHED, Model, Score, Scoring
from pipeline.core.outcome import RuleHit
from pipeline.core.policy import Thresholds

_FAMILY = WEIGHED.rstrip("0123456789")  # how the ids of all versions of the model begin that the policy weighs


class Shelf(Protocol):
    """Where the models are that activations name."""

    def get(self, model_id: str, /) -> Scoring | None:
        """The model; None for one that is refused. Raises LookupError for one of which nothing is known: the driver has not looked."""


class NoModels:
    """A shelf without models."""

    def get(self, model_id: str, /) -> Scoring | None:
        """Nothing is known of any."""
        raise LookupError(f"the log activates the model {model_id}, and there is no place to look for it")


class NotEquipped:
    """Stands where a model should be, after a restart and before the driver has looked for it."""

    id = ""

    def score(self, features: Features, rules: tuple[RuleHit, ...]) -> Score:
        """Never: a driver equips a partition before it folds."""
        raise AssertionError("a partition was folded before its models were there")


def is_by_hand(model_id: str) -> bool:
    """Whether an id names the model that the policy weighs, which is always there."""
    return model_id.startswith(_FAMILY)


def named_by(activation: Activation | None) -> tuple[str, ...]:
    """The snapshots that an activation needs, the champion first."""
    ids = () if activation is None else (activation.champion, *activation.challengers)
    return tuple(dict.fromkeys(i for i in ids if not is_by_hand(i)))


def found(model_id: str, by_hand: Model, shelf: Shelf) -> Scoring | None:
    """The model of an id; None for one that is refused. Raises LookupError as the shelf does."""
    return by_hand if is_by_hand(model_id) else shelf.get(model_id)


def put_in_force(detector: Detector, activation: Activation | None, by_hand: Model, shelf: Shelf) -> None:
    """Let score what an activation names; the model that the policy weighs without one, and where the champion is refused.

    Raises LookupError as the shelf does.
    """
    detector.model, detector.challengers, detector.thresholds = by_hand, (), detector.policy.thresholds
    if activation is None:
        return
    champion = found(activation.champion, by_hand, shelf)
    if champion is None:
        return
    detector.model, detector.thresholds = champion, thresholds_of(activation, detector.policy.thresholds)
    shadows = [found(i, by_hand, shelf) for i in activation.challengers if i != activation.champion]
    detector.challengers = tuple(s for s in shadows if s is not None)


def thresholds_of(activation: Activation, policy: Thresholds) -> Thresholds:
    """The thresholds in force; where only one for alerts is given, that for watching keeps its share of it."""
    alert = policy.alert if activation.alert is None else activation.alert
    watch = activation.watch if activation.watch is not None else policy.watch / policy.alert * alert
    return Thresholds(watch=min(watch, alert), alert=alert)
