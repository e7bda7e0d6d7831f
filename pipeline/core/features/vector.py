"""Which numbers describe an episode? The flat frozen struct of features; missing is missing, never zero.

The ids in the comments (T1, C3, ...) are those of the feature catalogue in the design. Seconds are seconds, shares are 0 to 1.
A feature is None when the feed that would tell it is absent, or when the account's past is too short to say.
"""

from typing import get_args, get_type_hints

import msgspec
from msgspec.structs import astuple

from pipeline.core.outcome import FeatureValue


class Features(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One episode in numbers."""

    # call and time
    telephony_known: bool = False  # Q1: calls or answers about the line are seen for this customer at all
    call_live: bool | None = None  # T1: somebody is talking when the code is entered (while it is valid, when it is not entered)
    seconds_answer_to_entry: float | None = None  # T2
    seconds_dispatch_to_call: float | None = None  # T3, signed: negative when the call came first
    call_overlap_share: float | None = None  # T4: share of dispatch-to-entry during which the call was live
    seconds_entry_to_hangup: float | None = None  # T5
    call_lag_s: float | None = None  # Q2: how late the call's first record arrived
    seconds_hangup_to_entry: float | None = None  # how long the call had been over when the code was entered
    entry_latency_s: float | None = None  # T6: last (re)dispatch to entry
    entry_latency_z: float | None = None  # T6: against the account's own usual latency (median, spread)
    entry_latency_usual_s: float | None = None
    entry_latency_spread_s: float | None = None
    entry_latency_channel_z: float | None = None  # T6: against what is usual on the channel, by the policy's baselines
    seconds_login_to_dispatch: float | None = None  # T7
    order: str | None = None  # T8: such as login>otp>call>entry
    calls_in_episode: int | None = None  # T9: inbound calls around the code, ring-outs included, the delivery and contacts left out
    missed_calls: int | None = None
    stranger_text_before_call: bool | None = None  # T10
    code_texted_out: bool | None = None  # a message to a number never written to, between code and entry, after one from it (V5)
    unexplained_call: bool = False  # an inbound call, live or just over, that is not the institution's, a contact's, or an old talk
    seconds_call_before_login: float | None = None  # how long the call had run when the login came; negative: call came later
    # the caller
    caller_inbound: bool | None = None  # C9
    caller_never_seen: bool | None = None  # C3
    caller_is_contact: bool | None = None  # C4
    caller_is_bank: bool | None = None  # A1: the institution's own trunk confirms the call
    caller_claims_bank: bool | None = None  # C2: shows a number that codes come from, and the trunk does not confirm it
    caller_withheld: bool | None = None
    caller_attestation: str | None = None  # C1
    caller_line: str | None = None  # C6
    caller_abroad: bool | None = None  # C7
    call_seconds: float | None = None  # C8: from answer to end, or to now
    call_in_app: bool | None = None  # C11
    # login
    new_device: bool | None = None  # L1: never seen, or first seen under 3 h ago
    device_age_h: float | None = None
    known_devices: int = 0
    new_network: bool | None = None  # L2
    network_kind: str | None = None  # L2
    new_country: bool | None = None  # L3
    hours_since_other_country: float | None = None  # L3: since the account was last entered from another country than the login's
    new_user_agent: bool | None = None  # L5
    user_agent_rarity: float | None = None  # L5: among all logins, by the policy's baselines
    failed_logins: int | None = None  # L6: in the 10 minutes before the code
    failed_logins_1h: int | None = None  # L6
    first_try_on_new_device: bool | None = None  # L7
    login_far_from_line: bool | None = None  # L8: the login's country is neither the line's own nor where it roams
    other_session_active: bool | None = None  # L10: another session, on a known device, in the half hour before
    hour_share: float | None = None  # L11: share of the account's entries in this hour and its neighbours
    reset_flow: bool | None = None  # L12
    # code
    requests_10m: int = 1  # O1
    requests_1h: int = 1
    requests_24h: int = 1
    abandoned_codes: int = 0  # O2: challenges of the 24 hours before that were never used
    wrong_codes: int = 0  # O3
    purpose: str | None = None  # O4
    channel: str | None = None  # O5
    delivery_delay_s: float | None = None  # O6
    entry_method: str | None = None  # O7
    entry_other_ip: bool | None = None  # O8
    entry_other_device: bool | None = None  # O8
    agent_initiated: bool | None = None  # A2
    entered: bool = False
    refused: bool = False  # codes were entered, none was accepted
    # line
    hours_since_sim_swap: float | None = None  # S1
    forwarding_active: bool | None = None  # S2
    hours_since_forwarding: float | None = None
    hours_since_port: float | None = None  # S3
    roaming: bool | None = None  # S4
    hours_since_phone_change: float | None = None  # S5
    # account
    bank_called: bool | None = None  # A1: a call of the institution itself ended, or is live, within 10 minutes of the code
    calls_usual_per_day: float | None = None  # A4
    logins_usual_per_day: float | None = None  # A4
    codes_usual_per_day: float | None = None  # A4: over the last two dozen codes
    takeover_before: bool | None = None  # A5: a takeover of this account was confirmed; None while no verdict is known
    hours_since_takeover: float | None = None  # A5: since it was
    false_alarms_90d: int | None = None  # A5: alerts of 90 days that were found to be false; None while no verdict is known
    test_account: bool = False  # B16: the policy names it
    # campaigns: how many accounts, this one among them, met the same within the hour; None below the policy's number
    same_caller_accounts: int | None = None  # C5, X2
    same_sender_accounts: int | None = None  # X2
    same_device_accounts: int | None = None  # X1
    same_network_accounts: int | None = None  # X1
    code_surge_z: float | None = None  # X3: accounts of the whole bank that were sent a code, by the policy's baselines; 0: no surge
    # after the entry
    changes_after: int = 0  # P1: changes by the session in the ten minutes after
    takeover_change: bool = False  # P1: payee, phone, email, password or notifications
    device_bound: bool = False  # P1: a device was bound, which a customer's own new phone does too (B3)
    money_moved: bool = False  # P2


FIELDS = Features.__struct_fields__
DECIMAL = frozenset(name for name, hint in get_type_hints(Features).items() if float in (hint, *get_args(hint)))
_PLACES = tuple(n for n, name in enumerate(FIELDS) if name in DECIMAL)


def rounded_values(features: Features) -> list[FeatureValue | None]:
    """The features in their order, floats rounded to six digits, as decisions have them."""
    values = list(astuple(features))
    for n in _PLACES:
        if type(value := values[n]) is float:
            values[n] = round(value, 6) + 0.0
    return values


def as_dict(features: Features) -> dict[str, FeatureValue]:
    """The features that are there, floats rounded to six digits."""
    return {name: value for name, value in zip(FIELDS, rounded_values(features), strict=True) if value is not None}
