"""Which known patterns does the episode fit? Named predicates that an analyst can read; a rule's name is its reason code.

Numbers are those of the starter rules of the design unless a line says otherwise. A rule that lacks a feature does not hit: missing is
not suspicious.
"""

from collections.abc import Callable

import msgspec

from pipeline.core.features import Features
from pipeline.core.outcome import RuleHit
from pipeline.core.policy import Policy


class Rule(msgspec.Struct, frozen=True):
    """One pattern: id, name, the sentence an analyst reads, and the predicate."""

    uid: str
    name: str
    text: str
    holds: Callable[[Features, Policy], bool]
    version: str = "1"
    attacks: tuple[str, ...] = ()  # MITRE F3 technique ids


def _under(value: float | None, bound: float) -> bool:
    return value is not None and value < bound


def _r01(f: Features, _: Policy) -> bool:
    return f.entered and not f.refused and f.unexplained_call and f.new_device is True


def _r02(f: Features, _: Policy) -> bool:
    explained = f.caller_is_bank is True or f.caller_is_contact is True or f.caller_inbound is False
    return f.caller_never_seen is True and not explained and f.seconds_answer_to_entry is not None and 0 <= f.seconds_answer_to_entry <= 30


def _r03(f: Features, _: Policy) -> bool:
    return f.requests_10m >= 3 and f.entered and not f.refused and f.new_network is True


def _r04(f: Features, _: Policy) -> bool:
    return f.same_caller_accounts is not None  # there only from the policy's number of accounts on, within its window


def _r05(f: Features, p: Policy) -> bool:
    return _under(f.hours_since_sim_swap, p.windows.line_change_s / 3600) and f.new_device is True


def _r06(f: Features, p: Policy) -> bool:
    return f.forwarding_active is True and _under(f.hours_since_forwarding, p.windows.forwarding_s / 3600) and f.channel == "voice"


def _r07(f: Features, _: Policy) -> bool:
    return f.unexplained_call and f.caller_attestation in ("B", "C", "failed") and f.login_far_from_line is True


def _r08(f: Features, _: Policy) -> bool:
    return f.entry_other_ip is True and (f.entry_other_device is True or f.new_network is True)


def _r09(f: Features, _: Policy) -> bool:
    return f.unexplained_call and (f.purpose == "password_reset" or f.reset_flow is True)


def _r10(f: Features, _: Policy) -> bool:
    return f.unexplained_call and f.purpose == "wallet_provisioning"


def _r11(f: Features, _: Policy) -> bool:
    return f.abandoned_codes >= 2 and f.entered and not f.refused and f.new_device is True


def _r12(f: Features, _: Policy) -> bool:
    return f.stranger_text_before_call is True and f.entered and f.call_live is not None


def _r13(f: Features, _: Policy) -> bool:
    return f.entered and not f.refused and f.takeover_change and (f.new_device is True or f.unexplained_call)


def _r14(f: Features, _: Policy) -> bool:
    return (
        f.unexplained_call
        and f.seconds_dispatch_to_call is not None
        and -600 <= f.seconds_dispatch_to_call < 0
        and f.entry_latency_s is not None
        and f.entry_latency_s <= 90
    )


def _r15(f: Features, _: Policy) -> bool:
    return f.login_far_from_line is True and f.new_country is True and f.roaming is not True


RULES: tuple[Rule, ...] = (
    Rule(
        "R01",
        "code_entered_on_new_device_during_call",
        "the code was entered on a new device during a stranger's call",
        _r01,
        attacks=("T1111",),
    ),
    Rule(
        "R02",
        "code_entered_right_after_stranger_answered",
        "the code was entered within 30 s of answering a number never seen",
        _r02,
        attacks=("T1111",),
    ),
    Rule(
        "R03",
        "many_codes_then_new_network",
        "three or more codes in ten minutes, then success from a new network",
        _r03,
        attacks=("T1621",),
    ),
    Rule("R04", "one_caller_on_several_accounts", "the same caller has rung several customers with an open code within the hour", _r04),
    Rule("R05", "sim_swapped_and_new_device", "the SIM was swapped within 240 h and the device is new", _r05, attacks=("T1451",)),
    Rule("R06", "forwarding_switched_on_and_voice_code", "forwarding was switched on within 7 days and the code went out by voice", _r06),
    Rule(
        "R07",
        "weak_attestation_and_login_far_from_phone",
        "a caller id nobody vouches for, and a login far from the phone's country",
        _r07,
        attacks=("F1040.002",),
    ),
    Rule("R08", "code_entered_from_another_address", "the code was entered from another address than the login's", _r08),
    Rule("R09", "password_reset_during_call", "a password-reset code during a stranger's call", _r09, attacks=("F1006.003",)),
    Rule("R10", "wallet_code_during_call", "a wallet-provisioning code during a stranger's call", _r10),
    Rule(
        "R11",
        "abandoned_codes_then_new_device",
        "two or more codes were left unused, then success on a new device",
        _r11,
        attacks=("T1621",),
    ),
    Rule("R12", "stranger_text_then_call_then_entry", "a text from an unknown sender, a call within two minutes, then the entry", _r12),
    Rule(
        "R13", "account_changed_after_suspicious_entry", "payee, phone or password changed within ten minutes of a suspicious entry", _r13
    ),
    Rule(
        "R14", "call_first_then_code_then_entry", "the call came first, then the code, then its entry within 90 s", _r14, attacks=("T1111",)
    ),
    Rule("R15", "login_impossibly_far_from_phone", "the login came from a new country where the phone is not", _r15),
)


def hits(features: Features, policy: Policy) -> tuple[RuleHit, ...]:
    """The rules that hold, in order of their ids; those the policy switched off do not count."""
    return tuple(RuleHit(r.uid, r.name, r.version) for r in RULES if r.uid not in policy.rules_off and r.holds(features, policy))


RULES_BY_NAME: dict[str, Rule] = {rule.name: rule for rule in RULES}
