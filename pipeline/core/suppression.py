"""Is a finding to be heard? What would be left of its score without what somebody has snoozed, and whether there is a flood.

A suppressed finding is written all the same; it does not page and places no hold.
"""

from math import inf, log

from pipeline.core.decision import Assessment
from pipeline.core.features import FIELDS
from pipeline.core.model import WEIGHTS
from pipeline.core.outcome import Reason, Snooze, Suppression
from pipeline.core.rules import RULES
from pipeline.core.snooze import MODEL, Kept

FLOOD = Suppression("flood")

# What a rule says of a lasting state of affairs, under the names by which models say the same: whoever has confirmed a SIM swap for good
# wants neither the rule nor the swap to count. A call, a device or a change after the entry is new each time, so it stays evidence.
LASTING: dict[str, frozenset[str]] = {
    "R05": frozenset(("sim_swapped", "hours_since_sim_swap")),
    "R06": frozenset(("forwarding_recent", "forwarding_active", "hours_since_forwarding")),
    "R15": frozenset(("new_country", "login_far_from_line")),
}
_UID_OF: dict[str, str] = {r.name: r.uid for r in RULES}
_SUBJECTS: dict[str, frozenset[str]] = {r.uid: LASTING.get(r.uid, frozenset()) | {r.name} for r in RULES}


def subject(scope: str) -> frozenset[str]:
    """The names of the reasons that a scope is about: of a rule (by id or name), what it says; else the reason of that name."""
    return _SUBJECTS.get(_UID_OF.get(scope, scope), frozenset((scope,)))


def known_scope(scope: str) -> bool:
    """Whether a snooze of it can ever silence anything: a rule, a reason of the models that this code knows, or a model."""
    return scope in _SUBJECTS or scope in _UID_OF or scope in WEIGHTS or scope in FIELDS or scope == MODEL or scope.startswith("m_")


def snoozed(found: list[Kept], a: Assessment, threshold: float, model_id: str) -> Suppression | None:
    """Say whether snoozes in force silence a finding, and which: one of its model, else the fewest of those it would not stand without.

    What the subject of a snooze adds to the log-odds is taken out; evidence against stays in. If what is left still reaches the threshold,
    the finding stands on other evidence and is heard.
    """
    for s in found:
        if s.scope in (MODEL, model_id):
            return Suppression("snooze", (_told(s),))
    reasons = a.score.reasons
    weighed = sorted(((_adds(reasons, subject(s.scope)), s) for s in found), key=lambda x: (-x[0], x[1].scope))
    names: frozenset[str] = frozenset()
    taken: list[Snooze] = []
    for weight, s in weighed:
        if not weight:
            break
        names |= subject(s.scope)
        taken.append(_told(s))
        if a.score.log_odds - _adds(reasons, names) < _logit(threshold):
            return Suppression("snooze", tuple(taken))
    return None


def _adds(reasons: tuple[Reason, ...], names: frozenset[str]) -> float:
    """What these reasons add to the log-odds."""
    return sum(r.contribution for r in reasons if r.name in names and r.contribution > 0)


def _told(s: Kept) -> Snooze:
    return Snooze(s.scope, s.until, s.reason, s.who)


def _logit(probability: float) -> float:
    if probability <= 0.0:
        return -inf
    return inf if probability >= 1.0 else log(probability / (1.0 - probability))
