"""What does each feature mean, and which ideas of the design's catalogue are carried? The table behind ``deploy/features.md``.

A test holds it against the struct: a feature without a line, or a line without a feature, fails. Ids are those of the design's
catalogue: T time, C caller, L login, O code, S line, A account, X campaign, P afterwards, Q quality of the data.
"""

from typing import Literal, NamedTuple

Direction = Literal["raises", "lowers", "either", "context"]


class About(NamedTuple):
    """One feature: its unit, which way it speaks, why and under which ids, the feed it needs, and what its absence means."""

    unit: str
    direction: Direction
    why: str
    ids: tuple[str, ...]
    feed: str
    missing: str


_NO_CALLS = "no telephony for this customer"
_NO_CALL = "no call near the code, or no telephony"
_NOT_TOLD = "the source does not say"
_YOUNG = "too little is known of the account"
_NO_FACT = "no such change is known"
_ALWAYS = "never missing"
_NO_BASELINE = "the policy has no such baseline"


def _call(unit: str, direction: Direction, why: str, *ids: str, missing: str = _NO_CALL) -> About:
    return About(unit, direction, why, ids, "telephony", missing)


def _login(unit: str, direction: Direction, why: str, *ids: str, missing: str = "no login is known, or it does not say") -> About:
    return About(unit, direction, why, ids, "logins", missing)


def _code(unit: str, direction: Direction, why: str, *ids: str, missing: str = _ALWAYS) -> About:
    return About(unit, direction, why, ids, "otp-dispatches", missing)


def _entry(unit: str, direction: Direction, why: str, *ids: str, missing: str = "the code was not entered, or nobody says") -> About:
    return About(unit, direction, why, ids, "otp-entries", missing)


def _line(unit: str, direction: Direction, why: str, *ids: str, missing: str = _NO_FACT) -> About:
    return About(unit, direction, why, ids, "telephony", missing)


def _after(unit: str, direction: Direction, why: str, *ids: str) -> About:
    return About(
        unit, direction, why, ids, "account-changes", "never missing; 0 or false also where the feed is absent, which the alert says"
    )


FEATURES: dict[str, About] = {
    "telephony_known": _call("flag", "context", "whether calls are seen at all for this customer", "Q1", missing=_ALWAYS),
    "call_live": _call("flag", "raises", "the bot needs the victim on the line", "T1", missing=_NO_CALLS),
    "seconds_answer_to_entry": _call("s", "raises", "short: a script takes under a minute", "T2"),
    "seconds_dispatch_to_call": _call("s", "raises", "between -60 and 120: the bot dials as the code goes out", "T3"),
    "call_overlap_share": _call("share", "raises", "chance calls overlap less", "T4"),
    "seconds_entry_to_hangup": _call("s", "raises", "short: the bot has what it wanted", "T5"),
    "seconds_hangup_to_entry": _call("s", "raises", "short: some bots hang up before the entry", "T5"),
    "call_lag_s": _call("s", "context", "how late the call was told: a backlog makes orders that never were", "Q2"),
    "entry_latency_s": _entry("s", "either", "read out takes long, forwarders are very fast", "T6"),
    "entry_latency_z": _entry("spreads", "either", "the same against the account's own usual", "T6", missing=_YOUNG),
    "entry_latency_usual_s": _entry("s", "context", "the account's usual, for the one above", "T6", missing=_YOUNG),
    "entry_latency_spread_s": _entry("s", "context", "and how much it varies", "T6", missing=_YOUNG),
    "entry_latency_channel_z": _entry("spreads", "either", "the same against what is usual on the channel", "T6", missing=_NO_BASELINE + ", or the code was not entered"),
    "seconds_login_to_dispatch": _login("s", "raises", "long: an operator waits until the victim is ready", "T7"),
    "order": About("word", "either", "which came first tells the variants apart", ("T8",), "all", _ALWAYS),
    "calls_in_episode": _call("count", "raises", "repeated dialling", "T9", missing=_NO_CALLS),
    "missed_calls": _call("count", "raises", "ring-outs on one phone after the other", "T9", missing=_NO_CALLS),
    "stranger_text_before_call": _call("flag", "raises", "a text first, then the call", "T10", missing="no messages are seen for this customer"),
    "code_texted_out": _call("flag", "raises", "the victim answers with the code", "T10", missing="no messages are seen for this customer"),
    "unexplained_call": _call("flag", "raises", "an inbound call, live or just over, that nothing explains", "T1", "C3", missing=_ALWAYS),
    "seconds_call_before_login": _call("s", "lowers", "long: the call did not cause the login", "T4", "T8"),
    "caller_inbound": _call("flag", "raises", "a customer who calls the bank is none of the bot's", "C9"),
    "caller_never_seen": _call("flag", "raises", "not seen for 90 days", "C3", missing="no number, or its key was rotated"),
    "caller_is_contact": _call("flag", "lowers", "family reads codes out too", "C4", missing=_NOT_TOLD),
    "caller_is_bank": _call("flag", "lowers", "the institution's own trunk confirms the call", "A1", missing=_NOT_TOLD),
    "caller_claims_bank": _call("flag", "raises", "shows a number that codes come from, unconfirmed", "C2", missing="no number"),
    "caller_withheld": _call("flag", "raises", "seldom among wanted calls", "C3", missing="the source sees no numbers"),
    "caller_attestation": _call("word", "either", "B, C and failed are more often robocalls", "C1", missing=_NOT_TOLD),
    "caller_line": _call("word", "either", "campaigns dial from VoIP", "C6", missing=_NOT_TOLD),
    "caller_abroad": _call("flag", "raises", "another country than the line's", "C7", missing="no number"),
    "call_seconds": _call("s", "either", "spam 11 s, strangers 35 s, businesses 173 s", "C8"),
    "call_in_app": _call("flag", "lowers", "a call inside an app is weak evidence", "C11"),
    "new_device": _login("flag", "raises", "never seen, or first seen under 3 h ago", "L1", missing="no device is told, or none was known before"),
    "device_age_h": _login("h", "lowers", "an aged device is rare among attacks", "L1", missing="the device was never seen"),
    "known_devices": _login("count", "context", "what new is measured against", "L1", missing=_ALWAYS),
    "new_network": _login("flag", "raises", "an ASN never seen", "L2", missing="no ASN is told, or none was known before"),
    "network_kind": _login("word", "either", "hosting and proxies", "L2", missing=_NOT_TOLD),
    "new_country": _login("flag", "raises", "a country never seen", "L3", missing="no country is told, or none was known before"),
    "hours_since_other_country": _login("h", "raises", "short: nobody travels so fast", "L3", missing="the account was in one country only"),
    "new_user_agent": _login("flag", "raises", "a browser or app never seen", "L5", missing="none is told, or none was known before"),
    "user_agent_rarity": _login("powers of ten", "raises", "3: one login in a thousand; what tools pretend to be is rare", "L5", missing=_NO_BASELINE + ", or no login tells one"),
    "failed_logins": _login("count", "raises", "wrong passwords in ten minutes before", "L6"),
    "failed_logins_1h": _login("count", "raises", "and in the hour before", "L6"),
    "first_try_on_new_device": _login("flag", "raises", "the password was known", "L7", missing="whether the device is new is not known"),
    "login_far_from_line": _login("flag", "raises", "neither the line's country nor where it roams", "L8", missing="no country of one of them"),
    "other_session_active": _login("flag", "raises", "the customer is logged in elsewhere", "L10"),
    "hour_share": _login("share", "lowers", "how usual the hour is for this account", "L11", missing="fewer than ten entries known"),
    "reset_flow": _login("flag", "raises", "recovery instead of a login", "L12"),
    "requests_10m": _code("count", "raises", "bombing", "O1"),
    "requests_1h": _code("count", "raises", "bombing, slower", "O1"),
    "requests_24h": _code("count", "raises", "bombing over a day", "O1"),
    "abandoned_codes": _code("count", "raises", "tries before the victim bites", "O2"),
    "wrong_codes": _entry("count", "either", "a victim mishears; customers mistype", "O3", missing=_ALWAYS),
    "purpose": _code("word", "either", "wallets and payees are where money leaves", "O4", missing="the dispatch is not known"),
    "channel": _code("word", "either", "voice codes can be forwarded", "O5", missing="the dispatch is not known"),
    "delivery_delay_s": _code("s", "lowers", "explains a late entry", "O6", missing="no receipt"),
    "entry_method": _entry("word", "either", "a phone that fills in by itself is the customer's", "O7"),
    "entry_other_ip": _entry("flag", "raises", "entered from another address than the login's", "O8", missing="one of the two is not told"),
    "entry_other_device": _entry("flag", "raises", "entered on another device than the login's", "O8", missing="one of the two is not told"),
    "agent_initiated": _code("flag", "lowers", "an agent sent it during a call", "A2", missing="the dispatch is not known"),
    "entered": _entry("flag", "context", "whether the code was entered", "T8", missing=_ALWAYS),
    "refused": _entry("flag", "context", "entered, and never accepted", "O3", missing=_ALWAYS),
    "hours_since_sim_swap": _line("h", "raises", "under 240 h", "S1"),
    "forwarding_active": _line("flag", "raises", "calls go elsewhere", "S2"),
    "hours_since_forwarding": _line("h", "raises", "recent: a change, not a habit", "S2"),
    "hours_since_port": _line("h", "raises", "the number moved to another carrier", "S3"),
    "roaming": _line("flag", "either", "explains a country, if the login is there too", "S4"),
    "hours_since_phone_change": About("h", "raises", "a new number for the codes", ("S5",), "account-changes, phone-links", _NO_FACT),
    "bank_called": _call("flag", "lowers", "a call of the institution itself within ten minutes", "A1", missing=_NO_CALLS),
    "calls_usual_per_day": _call("per day", "context", "turns counts into surprises", "A4", missing=_YOUNG),
    "logins_usual_per_day": _login("per day", "context", "turns counts into surprises", "A4", missing=_YOUNG),
    "codes_usual_per_day": _code("per day", "context", "turns counts into surprises", "A4", missing=_YOUNG),
    "takeover_before": About("flag", "raises", "who was robbed is tried again", ("A5",), "dispositions", "no verdict is known of the account"),
    "hours_since_takeover": About("h", "raises", "short: who was robbed is tried again", ("A5",), "dispositions", "no takeover is known of the account"),
    "false_alarms_90d": About("count", "lowers", "this customer's ways have alarmed before", ("A5",), "dispositions", "no verdict is known of the account"),
    "test_account": About("flag", "lowers", "the policy names it", ("A5",), "none", _ALWAYS),
    "same_caller_accounts": _call("accounts", "raises", "one caller on several accounts in an hour", "C5", "X2", missing="no campaign is known, or fewer accounts than the policy's"),
    "same_sender_accounts": _call("accounts", "raises", "one text sender on several accounts", "X2", missing="no campaign is known, or fewer accounts than the policy's"),
    "same_device_accounts": _login("accounts", "raises", "one device, new on several accounts", "X1", missing="no campaign is known, or fewer accounts than the policy's"),
    "same_network_accounts": _login("accounts", "raises", "one address, new on several accounts with new devices", "X1", missing="no campaign is known, or fewer accounts than the policy's"),
    "code_surge_z": _code("spreads", "raises", "so many customers of the whole bank are sent codes at once: an attack at scale, or an outage of an app; 0: no surge", "X3", missing=_NO_BASELINE + ", or nobody tells of codes that are sent"),
    "changes_after": _after("count", "raises", "what the session changed in ten minutes after the entry", "P1"),
    "takeover_change": _after("flag", "raises", "payee, phone, email, password or notifications", "P1", "P3"),
    "device_bound": _after("flag", "raises", "a device was bound; a customer's own new phone does so too", "P1"),
    "money_moved": _after("flag", "raises", "a transfer followed", "P2"),
}  # fmt: skip

NOT_CARRIED: dict[str, str] = {
    "C10": "the contract has no keys pressed during a call; few carriers would tell",
    "C12": "the contract has the line's forwarding (S2), not the legs of a call",
    "L4": "the contract has no round-trip times",
    "L9": "the contract does not say that the session runs on the phone the code went to",
    "A3": "age or vulnerability is no field on purpose: a governed use with a review, and segments are judged in the scorecard",
    "Q3": "the version of each record's schema is not told; what is unknown is ignored and what is wrong is a dead letter",
}
IDS: tuple[str, ...] = tuple(
    f"{family}{n}"
    for family, most in (("T", 10), ("C", 12), ("L", 12), ("O", 8), ("S", 5), ("A", 5), ("X", 3), ("P", 3), ("Q", 3))
    for n in range(1, most + 1)
)


def carried(uid: str) -> list[str]:
    """The features that carry an id of the catalogue, in the order of the struct."""
    return [name for name, about in FEATURES.items() if uid in about.ids]


def reference() -> str:
    """Write the reference that stands in deploy/features.md."""
    rows = [
        f"| `{name}` | {a.unit} | {a.direction} | {a.why} | {' '.join(a.ids)} | {a.feed} | {a.missing} |" for name, a in FEATURES.items()
    ]
    ideas = [f"| {uid} | {' '.join(f'`{n}`' for n in carried(uid)) or 'no: ' + NOT_CARRIED[uid]} |" for uid in IDS]
    return "\n".join(
        [
            "# Features",
            "",
            "What an episode is judged by, made by `offhook features --markdown` from `pipeline/core/features/catalogue.py`. A feature that is",
            "missing is missing, never zero, and weighs nothing. Direction: what a large or true value says of a takeover; `context` is for the others.",
            "",
            "| feature | unit | direction | why | id | feed | missing means |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "## The catalogue of the design",
            "",
            "| id | carried by |",
            "|---|---|",
            *ideas,
        ]
    )
