"""What does a snapshot say of an episode, and why? A learned model in the place of the hand-weighted one, with reasons of the same kind.

Contributions add up to the log-odds. A linear member contributes weight times distance from neutral; a tree the steps of its node
log-odds along the path, each to the feature that was asked there (Saabas' method), meant over the trees; the log-odds of what people
know is taken apart into its terms and rules again. All are multiplied by what the stack gives their member.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import astuple

from pipeline.core import rules as rules_module
from pipeline.core.features.vector import FIELDS, Features, rounded_values
from pipeline.core.learn.prediction import Prediction, sigmoid
from pipeline.core.learn.schema import FeatureValue
from pipeline.core.learn.snapshot import Snapshot, SnapshotRefused
from pipeline.core.learn.stack import KNOWN
from pipeline.core.learn.words import text_of
from pipeline.core.model import BASE, Model, Score
from pipeline.core.outcome import Reason, RuleHit
from pipeline.core.policy import Policy

MOST_REASONS: Final = 12  # named one by one; the others are summed
TEST: Final = "test_account"
TEST_LOG_ODDS: Final = -20.0  # as the term of the hand-weighted model: the institution's own tests are never alerted
OTHERS: Final = "others"


class LearnedModel:
    """A checked snapshot that scores."""

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        """Raises SnapshotRefused when the parts do not fit each other, or its terms are not those of this code."""
        self.id = snapshot.id
        self.examples = snapshot.content.examples  # it has learned so many,
        self.through = snapshot.content.through  # of the topic ``examples`` those before this offset; made from logs, none
        self._ask = snapshot.scorer().over((*FIELDS, KNOWN))
        try:
            self._people = Model(policy, snapshot.content.weights) if snapshot.content.weights else None
        except ValueError as e:
            raise SnapshotRefused("malformed", str(e)) from None

    def score(self, features: Features, rules: tuple[RuleHit, ...]) -> Score:
        """Score an episode. Contributions are largest first by size; the smallest are summed under ``others``."""
        people = self._people.score(features, rules) if self._people is not None else None
        values = [*rounded_values(features), people.log_odds if people is not None else None]
        log_odds, predict = self._ask(values)
        if features.test_account:
            log_odds += TEST_LOG_ODDS
        return Score(sigmoid(log_odds), log_odds, partial(_reasons, predict, people, features.test_account))


def _reasons(predict: Callable[[], Prediction], people: Score | None, test: bool) -> tuple[Reason, ...]:
    found = predict()
    base, parts = found.bias, found.contributions
    texts = {BASE: "what the model says of a code of which nothing is known"}
    if people is not None and KNOWN in parts:
        share = parts.pop(KNOWN) / people.log_odds
        for name, contribution, text in map(astuple, people.reasons):
            if name == BASE:
                base += share * contribution
            else:
                parts[name] = parts.get(name, 0.0) + share * contribution
                texts[name] = text
    if test:
        parts[TEST] = parts.get(TEST, 0.0) + TEST_LOG_ODDS
        texts[TEST] = "the account is the institution's own test"
    ranked = sorted(parts.items(), key=_size, reverse=True)
    if len(ranked) > MOST_REASONS:
        ranked, rest = ranked[:MOST_REASONS], ranked[MOST_REASONS:]
        ranked.append((OTHERS, sum([c for _, c in rest])))
        texts[OTHERS] = f"{len(rest)} others, each of them small"
    ranked = sorted([*ranked, (BASE, base)], key=_size, reverse=True)
    return tuple([Reason(name, c, texts.get(name) or text_of(name)) for name, c in ranked])


def _size(part: tuple[str, float]) -> float:
    return abs(part[1])


def with_known(features: dict[str, FeatureValue], people: Model, policy: Policy) -> dict[str, FeatureValue]:
    """The features of an example with what people know of them, as a learner takes them. Raises ValueError for one of a wrong kind."""
    values = msgspec.convert(features, Features)
    return {**features, KNOWN: people.score(values, rules_module.hits(values, policy)).log_odds}
