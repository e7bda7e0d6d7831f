"""How likely is a takeover? A logistic model over named terms: features -> probability and signed contributions.

The weights below are set by hand, in natural-log units, with the reason for each: what a person would defend. In force are those of
pipeline.core.weights, which labelled logs made of them; a policy may override any. Contributions add up to the log-odds exactly. The
intercept is the base rate: one attack in 10,000 codes. Every term is 0 when its feature is missing, so absent data neither accuses
nor acquits. Where a share is given, a weight is about ln(share among attacks / share among benign).
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import exp
from typing import Protocol

import msgspec

from pipeline.core.features import LONG_TALK_S, Features
from pipeline.core.outcome import Reason, RuleHit
from pipeline.core.policy import Policy
from pipeline.core.rules import RULES, RULES_BY_NAME
from pipeline.core.weights import FITTED

INTERCEPT = -9.21  # ln(1e-4): attacks are one in 10,000 codes or fewer (domain.md, anchors)
BASE = "base_rate"  # the name under which what is known of no code in particular contributes
MODEL_VERSION = "3"
WEIGHED = f"m_fitted{MODEL_VERSION}"  # the id of the model that is in force without an activation


class Term(msgspec.Struct, frozen=True):
    """One part of the log-odds: its name, weight by hand, how an analyst says it, why it weighs that much, and when it counts."""

    name: str
    weight: float
    text: str
    why: str
    value: Callable[[Features], float]
    of_call: bool = False  # 0 when no call is live: not asked then


class Score(msgspec.Struct, eq=False, gc=False):
    """The probability (0 to 1), its log-odds, and how to say why: three assessments in four are never told, and need no words."""

    probability: float
    log_odds: float
    explain: Callable[[], tuple[Reason, ...]]
    explained: tuple[Reason, ...] | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The contributions that add up to the log-odds, largest first by size."""
        if self.explained is None:
            self.explained = self.explain()
        return self.explained


class Scoring(Protocol):
    """A model that scores, whatever kind it is."""

    id: str

    def score(self, features: Features, rules: tuple[RuleHit, ...]) -> Score:
        """Score an episode; the contributions of the reasons add up to the log-odds."""


def _between(value: float | None, least: float, most: float) -> float:
    return 1.0 if value is not None and least <= value <= most else 0.0


def _is(condition: bool | None) -> float:
    return 1.0 if condition else 0.0


def _stranger_talking(f: Features) -> float:
    return _is(f.unexplained_call)


def _near_code(f: Features) -> float:
    return _between(f.seconds_dispatch_to_call, -120, 180) if f.unexplained_call else 0.0


def _slow_for_them(f: Features) -> float:
    return _is(f.entry_latency_z is not None and f.entry_latency_z > 3 and f.entry_method != "autofill")


TERMS: tuple[Term, ...] = (
    # --- the call
    Term("stranger_call_live", 3.6, "a stranger's call is live or just over", "0.15 % of codes have an answered stranger within 3 min (domain.md); nearly all voice attacks", _stranger_talking, True),
    Term("call_near_code", 1.6, "the call came with the code", "the bot dials as the code goes out: within 2 min before, 3 after (domain.md T3)", _near_code, True),
    Term("entered_right_after_answer", 0.7, "the code was entered within 90 s of the answer", "a bot's script takes 15 to 60 s (domain.md C8)", lambda f: _between(f.seconds_answer_to_entry, 3, 90) * _stranger_talking(f), True),
    Term("hangup_after_entry", 0.9, "the caller hung up right after the entry", "the bot has what it wanted (T5); chance calls end at any time", lambda f: _between(f.seconds_entry_to_hangup, 0, 15) * _stranger_talking(f), True),
    Term("weak_attestation", 0.7, "nobody vouches for the caller's number", "B, C or failed: robocalls carry it more often (C1)", lambda f: _is(f.caller_attestation in ("B", "C", "failed")) * _stranger_talking(f), True),
    Term("caller_claims_bank", 2.5, "the caller shows the bank's own number, but the bank is not calling", "spoofed official number (C2); the trunk does not confirm", lambda f: _is(f.caller_claims_bank) * _stranger_talking(f), True),
    Term("caller_unknown", -1.2, "nobody says who is calling", "without numbers it may be anybody: answered calls of all kinds are several times a stranger's (domain.md, Hiya)", lambda f: _is(f.caller_never_seen is None and f.caller_is_contact is None and f.caller_is_bank is None and f.caller_withheld is None) * _stranger_talking(f), True),
    Term("caller_withheld", 0.5, "the caller withheld the number", "seldom among wanted calls", lambda f: _is(f.caller_withheld) * _stranger_talking(f), True),
    Term("caller_voip", 0.5, "the caller uses an internet line", "campaigns dial from VoIP and CPaaS (C6)", lambda f: _is(f.caller_line == "voip") * _stranger_talking(f), True),
    Term("caller_abroad", 0.4, "the caller is abroad", "C7", lambda f: _is(f.caller_abroad) * _stranger_talking(f), True),
    Term("repeated_ringing", 0.8, "the phone rang again and again", "repeated dialling (T9): up to 5 dials on 2 phones", lambda f: _is((f.missed_calls or 0) >= 2)),
    Term("stranger_text_before_call", 1.2, "a text from an unknown sender came before the call", "two-stage text (T10)", lambda f: _is(f.stranger_text_before_call)),
    Term("code_texted_out", 6.9, "a text went to a stranger who had texted first, before the entry", "the victim replies with the code (V5); hardly ever by chance", lambda f: _is(f.code_texted_out)),
    # --- the login
    Term("new_device", 3.0, "the device is new", "4 % of benign codes, nearly all attacks (L1)", lambda f: _is(f.new_device)),
    Term("known_device", -1.6, "the device is known", "an aged device is rare among attacks (V12)", lambda f: _is(f.new_device is False)),
    Term("new_network", 1.6, "the network is new", "10 % of benign codes, 9 of 10 attacks (L2)", lambda f: _is(f.new_network)),
    Term("known_network", -1.2, "the network is known", "residential proxies seldom hit the customer's own network", lambda f: _is(f.new_network is False)),
    Term("hosting_network", 2.0, "the login comes from a hosting or proxy network", "under 1 % of benign logins (L2)", lambda f: _is(f.network_kind in ("hosting", "proxy"))),
    Term("new_country", 1.0, "the country is new", "L3", lambda f: _is(f.new_country)),
    Term("new_user_agent", 0.5, "the browser or app is new", "L5; mostly said by the device already", lambda f: _is(f.new_user_agent)),
    Term("failed_logins", 0.7, "passwords failed before", "three or more in ten minutes (L6)", lambda f: _is((f.failed_logins or 0) >= 3)),
    Term("login_far_from_line", 0.9, "the login is far from the phone", "L8", lambda f: _is(f.login_far_from_line)),
    Term("other_session_active", 1.0, "the customer is logged in elsewhere on a known device", "L10", lambda f: _is(f.other_session_active)),
    Term("unusual_hour", 0.4, "an unusual hour for this customer", "L11, weak", lambda f: _is(f.hour_share is not None and f.hour_share < 0.02)),
    # --- the code
    Term("many_requests", 1.0, "many codes were asked for", "three or more in ten minutes (O1)", lambda f: _is(f.requests_10m >= 3)),
    Term("abandoned_codes", 0.6, "codes were left unused before", "two or more within 24 h (O2); 4.35 % of codes are never used (Duo)", lambda f: _is(f.abandoned_codes >= 2)),
    Term("password_reset", 0.8, "the code resets a password", "recovery flow (L12)", lambda f: _is(f.purpose == "password_reset")),
    Term("wallet_or_payee", 0.8, "the code adds a wallet or a payee", "where the money leaves (O4)", lambda f: _is(f.purpose in ("wallet_provisioning", "new_payee"))),
    Term("entry_other_ip", 0.7, "the code was entered from another address than the login's", "O8; also a phone that changes networks", lambda f: _is(f.entry_other_ip)),
    Term("entry_other_device", 1.5, "the code was entered on another device than the login's", "O8", lambda f: _is(f.entry_other_device)),
    Term("slow_for_them", 0.7, "the entry took far longer than usual", "T6: read out over the phone", _slow_for_them),
    Term("code_typed", 0.2, "the code was typed, not filled in", "O7", lambda f: _is(f.entry_method in ("typed", "pasted"))),
    # --- the line
    Term("sim_swapped", 2.6, "the SIM was swapped within ten days", "under 0.2 % of lines at a time (S1, 240 h)", lambda f: _between(f.hours_since_sim_swap, 0, 240)),
    Term("ported", 2.0, "the number moved to another carrier within ten days", "S3", lambda f: _between(f.hours_since_port, 0, 240)),
    Term("forwarding_recent", 2.0, "calls have been forwarded for less than seven days", "S2; permanent forwarding is no change (B12)", lambda f: _between(f.hours_since_forwarding, 0, 168) * _is(f.forwarding_active)),
    Term("phone_changed", 1.5, "the phone on the account changed within seven days", "S5", lambda f: _between(f.hours_since_phone_change, 0, 168)),
    # --- campaigns: all are there only for what is new to this account too
    Term("campaign_caller", 2.0, "the same caller has rung several customers with an open code within the hour", "C5, X2; by chance a dialler that blasts a region meets open codes too, some one code in 2,000 at a large bank", lambda f: _is(f.same_caller_accounts is not None)),
    Term("campaign_caller_unanswered", 2.5, "a caller of a campaign rang, and was not talked to", "C5: a live stranger weighs by itself; a ring-out weighs only here", lambda f: _is(f.same_caller_accounts is not None and not f.unexplained_call)),
    Term("campaign_sender", 4.0, "the same sender has texted several customers with an open code within the hour", "X2; shops and couriers text many, but seldom within minutes of a code and again and again", lambda f: _is(f.same_sender_accounts is not None)),
    Term("campaign_device", 4.0, "the same device has just been new on several accounts", "X1: nearly only attackers' machines; shared tablets and agents of many clients are the rest", lambda f: _is(f.same_device_accounts is not None)),
    Term("campaign_network", 2.0, "the same address has just been new on several accounts, on new devices", "X1: also exits of a VPN, and families that move", lambda f: _is(f.same_network_accounts is not None)),
    # --- after the entry
    Term("changed_after_entry", 1.8, "the account was changed right after the entry", "P1, within ten minutes", lambda f: _is(f.takeover_change)),
    Term("device_bound_after_entry", 0.3, "a device was bound right after the entry", "P1; a customer's own new phone does so too (B3)", lambda f: _is(f.device_bound)),
    Term("money_moved", 0.5, "money was moved right after the entry", "P2", lambda f: _is(f.money_moved)),
    # --- evidence against
    Term("test_account", -20.0, "the account is the institution's own test", "B16: monitors and exercises have the perfect shape", lambda f: _is(f.test_account)),
    Term("bank_call", -5.0, "the bank itself is on the phone", "the trunk confirms the call (A1, B2)", lambda f: _is(f.caller_is_bank) * _is(f.call_live), True),
    Term("agent_sent_code", -4.0, "an agent sent the code during a call", "A2, B1", lambda f: _is(f.agent_initiated)),
    Term("contact_on_phone", -2.5, "a usual contact is on the phone", "C4: family reads codes out (B4)", lambda f: _is(f.call_live) * _is(f.caller_is_contact is True or (f.caller_never_seen is False and f.caller_is_contact is not False)), True),
    Term("customer_called", -1.5, "the customer made the call", "C9", lambda f: _is(f.call_live) * _is(f.caller_inbound is False), True),
    Term("call_began_long_before", -2.0, "the call began long before the login", "B10: meetings, long talks", lambda f: _is(f.call_live) * _is((f.seconds_call_before_login or 0) > LONG_TALK_S), True),
    Term("call_in_app", -1.0, "the call runs inside an app", "C11: weak evidence", lambda f: _is(f.call_live) * _is(f.call_in_app), True),
    Term("autofill_on_known_device", -2.5, "the phone filled in the code itself, on a known device", "O7, B6", lambda f: _is(f.entry_method == "autofill" and f.new_device is False)),
    Term("roaming_fits_login", -1.0, "the phone roams where the login is", "S4, B5", lambda f: _is(f.roaming and f.login_far_from_line is False)),
)  # fmt: skip

RULE_WEIGHTS: dict[str, float] = {  # what a pattern adds to its parts: they are not independent
    "R01": 1.0,
    "R02": 0.7,
    "R03": 1.0,
    "R04": 1.0,
    "R05": 1.5,
    "R06": 2.5,
    "R07": 0.8,
    "R08": 0.5,
    "R09": 1.2,
    "R10": 1.8,
    "R11": 0.8,
    "R12": 1.0,
    "R13": 0.8,
    "R14": 0.8,
    "R15": 0.5,
}

BY_HAND: dict[str, float] = {
    "intercept": INTERCEPT,
    **{t.name: t.weight for t in TERMS},
    **{r.name: RULE_WEIGHTS[r.uid] for r in RULES},
}
WEIGHTS: dict[str, float] = {**BY_HAND, **FITTED}  # in force, where the policy says nothing


class Model:
    """The logistic model, with the policy's overrides in place."""

    def __init__(self, policy: Policy, weights: Mapping[str, float] | None = None) -> None:
        """``weights``: instead of the policy's; what they do not name weighs nothing. Raises ValueError when a weight does not exist."""
        unknown = sorted(set(policy.weights if weights is None else weights) - set(WEIGHTS))
        if unknown:
            raise ValueError(f"policy.weights: no such weight: {', '.join(unknown)}; `offhook policy show` lists them")
        self.weights = {**WEIGHTS, **policy.weights} if weights is None else {**dict.fromkeys(WEIGHTS, 0.0), **weights}
        terms = [(t.name, self.weights[t.name], t.text, t.value) for t in TERMS if self.weights[t.name]]
        of_call = {t.name for t in TERMS if t.of_call}
        self._terms = tuple(terms)
        self._terms_without_call = tuple(t for t in terms if t[0] not in of_call)
        self.id = WEIGHED

    def score(self, features: Features, rules: tuple[RuleHit, ...]) -> Score:
        """Score an episode. Contributions below 1e-9 are left out; the sum of all is the log-odds."""
        log_odds = self.weights["intercept"]
        parts = [(BASE, log_odds, "one code in 10,000 is an attack")]
        for name, weight, text, value in self._terms if features.call_live or features.unexplained_call else self._terms_without_call:
            x = value(features)
            if x:
                parts.append((name, weight * x, text))
                log_odds += weight * x
        for hit in rules:
            weight = self.weights[hit.name]
            if weight:
                parts.append((hit.name, weight, RULES_BY_NAME[hit.name].text))
                log_odds += weight
        return Score(1.0 / (1.0 + exp(-log_odds)), log_odds, partial(_ranked, parts))


def _ranked(parts: list[tuple[str, float, str]]) -> tuple[Reason, ...]:
    return tuple([Reason(*part) for part in sorted(parts, key=lambda part: (-abs(part[1]), part[0]))])
