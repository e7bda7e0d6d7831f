"""What would have made this benign? The fewest facts that an analyst can ask for and that would take a score below the threshold.

A fact is something that could still turn out otherwise than it looks: nobody has said yet who called, the new device may be the
customer's own. Times, the purpose of a code and a denial of the bank's own trunk are not among them. Each fact is what the features
would have been; the rules and the model are asked again, so it holds for any model and for evidence that weighs only once it is known.
"""

from collections.abc import Callable
from itertools import combinations

import msgspec

from pipeline.core import rules
from pipeline.core.features import Features
from pipeline.core.features.call import unexplained
from pipeline.core.model import Scoring
from pipeline.core.outcome import Exoneration
from pipeline.core.policy import Policy

MOST = 3  # alternatives, and facts together: more than that nobody asks in one call
_TRIED = 6  # facts that are combined: the strongest alone

replace = msgspec.structs.replace


class Fact(msgspec.Struct, frozen=True):
    """Something to ask for: its name, the words after "if", when there is something to ask, and the features if it were so."""

    name: str
    text: str
    asked: Callable[[Features], bool]
    features: dict[str, object]


def _within(value: float | None, most: float) -> bool:
    return value is not None and value <= most


FACTS: tuple[Fact, ...] = (
    Fact(
        "bank_called",
        "the bank's own trunk confirmed the call",
        lambda f: f.unexplained_call and f.caller_is_bank is None,
        {"caller_is_bank": True, "caller_claims_bank": False, "bank_called": True},
    ),
    Fact(
        "caller_known",
        "the caller were somebody the customer has long known",
        lambda f: f.unexplained_call and not f.caller_claims_bank,
        {"caller_is_contact": True, "caller_never_seen": False},
    ),
    Fact(
        "customer_called",
        "the customer had made the call",
        lambda f: f.unexplained_call and f.caller_inbound is None,
        {"caller_inbound": False},
    ),
    Fact(
        "texter_known",
        "the texts were with somebody the customer has long known",
        lambda f: f.code_texted_out is True or f.stranger_text_before_call is True,
        {"code_texted_out": False, "stranger_text_before_call": False},
    ),
    Fact(
        "device_owned",
        "the new device were the customer's own",
        lambda f: f.new_device is True,
        {"new_device": False, "first_try_on_new_device": False, "new_user_agent": False},
    ),
    Fact(
        "network_used",
        "the customer used this network, or a VPN, themselves",
        lambda f: f.new_network is True or f.network_kind in ("hosting", "proxy"),
        {"new_network": False, "network_kind": None},
    ),
    Fact(
        "customer_there",
        "the customer were in the country the login comes from",
        lambda f: f.new_country is True or f.login_far_from_line is True,
        {"new_country": False, "login_far_from_line": False},
    ),
    Fact(
        "entered_elsewhere",
        "the customer had entered the code on another device or network of theirs",
        lambda f: f.entry_other_ip is True or f.entry_other_device is True,
        {"entry_other_ip": False, "entry_other_device": False},
    ),
    Fact(
        "sim_swapped_by_customer",
        "the customer had the SIM swapped themselves",
        lambda f: _within(f.hours_since_sim_swap, 240),
        {"hours_since_sim_swap": None},
    ),
    Fact(
        "number_moved_by_customer",
        "the customer had moved the number to another carrier themselves",
        lambda f: _within(f.hours_since_port, 240),
        {"hours_since_port": None},
    ),
    Fact(
        "forwarded_by_customer",
        "the customer had switched the forwarding on themselves",
        lambda f: f.forwarding_active is True and _within(f.hours_since_forwarding, 168),
        {"forwarding_active": False, "hours_since_forwarding": None},
    ),
    Fact(
        "phone_changed_by_customer",
        "the customer had changed the phone number on the account themselves",
        lambda f: _within(f.hours_since_phone_change, 168),
        {"hours_since_phone_change": None},
    ),
    Fact(
        "codes_asked_by_customer",
        "the customer had asked for all these codes themselves",
        lambda f: f.requests_10m >= 3 or f.abandoned_codes >= 2,
        {"requests_10m": 1, "requests_1h": 1, "requests_24h": 1, "abandoned_codes": 0},
    ),
    Fact(
        "password_mistyped",
        "the customer had mistyped the password",
        lambda f: (f.failed_logins or 0) >= 3,
        {"failed_logins": 0},
    ),
    Fact(
        "changed_by_customer",
        "the customer had made the changes after the entry themselves",
        lambda f: f.takeover_change or f.money_moved or f.device_bound,
        {"takeover_change": False, "money_moved": False, "device_bound": False, "changes_after": 0},
    ),
)


def if_so(features: Features, *facts: Fact) -> Features:
    """The features if the facts were so; who is on the phone is judged anew."""
    changed = replace(features, **{name: value for fact in facts for name, value in fact.features.items()})
    return replace(changed, unexplained_call=unexplained(msgspec.structs.asdict(changed)))


def exonerations(features: Features, policy: Policy, model: Scoring, threshold: float) -> tuple[Exoneration, ...]:
    """Find what would have taken an alert below the threshold (0 to 1): up to three single facts, the strongest first, each enough alone.

    Where none is, the one pair, else the one triple, that leaves least; nothing where not even that is enough. At most 50 scores.
    """
    found: list[tuple[float, tuple[Fact, ...]]] = [
        (_probability(if_so(features, fact), policy, model), (fact,)) for fact in FACTS if fact.asked(features)
    ]
    found.sort(key=lambda x: x[0])  # facts keep their order where they leave the same
    enough = [one for one in found if one[0] < threshold][:MOST]
    strongest = [facts[0] for _, facts in found[:_TRIED]]
    for many in range(2, MOST + 1):
        if enough:
            break
        together = [(_probability(if_so(features, *some), policy, model), some) for some in combinations(strongest, many)]
        enough = sorted((one for one in together if one[0] < threshold), key=lambda x: x[0])[:1]
    return tuple(Exoneration(tuple(f.name for f in facts), _words(facts), probability) for probability, facts in enough)


def _probability(features: Features, policy: Policy, model: Scoring) -> float:
    return model.score(features, rules.hits(features, policy)).probability


def _words(facts: tuple[Fact, ...]) -> str:
    return "if " + ", and ".join(fact.text for fact in facts)
