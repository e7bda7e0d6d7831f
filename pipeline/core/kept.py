"""What did a decision rest on, for the day its truth comes? The features of an account's last decisions, and what was taught of them.

Kept beside the timeline as one packed block that is only opened when a code is entered, a disposition comes, or the waiting time of a
challenge that nobody labelled is over: an event that is none of these carries the bytes along. Bounded in number and age by the policy.
"""

from math import isfinite
from typing import Any, Final

import msgspec
import zstandard

from pipeline.core.episode import named
from pipeline.core.errors import UnsupportedState
from pipeline.core.events import Disposed, Ms
from pipeline.core.features.vector import DECIMAL, FIELDS, Features
from pipeline.core.kept_words import WORDS
from pipeline.core.labels import LABELS, sampled, weight_of
from pipeline.core.outcome import Decision, Example, ExampleSource, FeatureValue, Level, Replaced
from pipeline.core.policy import Policy
from pipeline.core.profile import DAY_MS
from pipeline.core.sampling import is_control, taken

# The places of the features in kept state. Frozen: a new feature is appended here, and one that is gone keeps its place.
STORED: Final[tuple[str, ...]] = (
    "telephony_known", "call_live", "seconds_answer_to_entry", "seconds_dispatch_to_call", "call_overlap_share",
    "seconds_entry_to_hangup", "seconds_hangup_to_entry", "entry_latency_s", "entry_latency_z", "entry_latency_usual_s",
    "entry_latency_spread_s", "seconds_login_to_dispatch", "order", "calls_in_episode", "missed_calls", "stranger_text_before_call",
    "code_texted_out", "unexplained_call", "seconds_call_before_login", "caller_inbound", "caller_never_seen", "caller_is_contact",
    "caller_is_bank", "caller_claims_bank", "caller_withheld", "caller_attestation", "caller_line", "caller_abroad", "call_seconds",
    "call_in_app", "new_device", "device_age_h", "known_devices", "new_network", "network_kind", "new_country", "new_user_agent",
    "failed_logins", "first_try_on_new_device", "login_far_from_line", "other_session_active", "hour_share", "reset_flow",
    "requests_10m", "requests_1h", "requests_24h", "abandoned_codes", "wrong_codes", "purpose", "channel", "delivery_delay_s",
    "entry_method", "entry_other_ip", "entry_other_device", "agent_initiated", "entered", "refused", "hours_since_sim_swap",
    "forwarding_active", "hours_since_forwarding", "hours_since_port", "roaming", "hours_since_phone_change", "bank_called",
    "calls_usual_per_day", "logins_usual_per_day", "test_account", "changes_after", "takeover_change", "device_bound", "money_moved",
    "same_caller_accounts", "same_sender_accounts", "same_device_accounts", "same_network_accounts", "hours_since_other_country",
    "failed_logins_1h", "codes_usual_per_day", "call_lag_s", "takeover_before", "hours_since_takeover",
    "false_alarms_90d", "entry_latency_channel_z", "user_agent_rarity", "code_surge_z",
)  # fmt: skip
ORDER: Final = (*STORED, *(name for name in FIELDS if name not in STORED))
_PLACES: Final = tuple(FIELDS.index(name) if name in FIELDS else None for name in ORDER)
_STRAIGHT: Final = tuple(range(len(FIELDS))) == _PLACES
_DECIMAL: Final = tuple(n for n, name in enumerate(ORDER) if name in DECIMAL)
_MILLION: Final = 1_000_000  # decisions have six decimals: as a whole number of millionths a float takes half the room, and nothing is lost
_LEVEL = 1  # of zstd
replace = msgspec.structs.replace


class Taught(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What was last taught of a decision, and by which disposition: that of a later one counts (``occurred_at``, ``event_id``)."""

    occurred_at: Ms
    event_id: str
    label: bool
    weight: float


class Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One decision. ``row``: its features as ``row_of`` packs them. ``pending``: taken for benign if nobody says anything for long.

    ``level`` is alert where the challenge alarmed at any time, before the decision or after it.
    """

    otp_id: str
    session_id: str | None
    start: Ms
    decision: bytes  # its id without the prefix
    after: Ms  # from the start to the decision's time
    model_id: str
    millionths: int  # probability
    level: Level
    control: bool
    row: bytes
    pending: bool = False
    taught: Taught | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Kept, ...]).decode
_decode_row = msgspec.msgpack.Decoder(list[int | bool | str | None]).decode
_words = zstandard.ZstdCompressionDict(WORDS)
_words.precompute_compress(level=_LEVEL)
_compress = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_words, write_dict_id=False, write_content_size=True).compress
_decompress = zstandard.ZstdDecompressor(dict_data=_words).decompress


def pack(kept: tuple[Kept, ...]) -> bytes:
    """Write the decisions down; nothing for none."""
    return _compress(_encode(kept)) if kept else b""


def unpack(raw: bytes) -> tuple[Kept, ...]:
    """Read them. Raises UnsupportedState for what is no such block."""
    if not raw:
        return ()
    try:
        return _decode(_decompress(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, zstandard.ZstdError) as e:
        raise UnsupportedState(f"the features kept of an account are damaged: {type(e).__name__}") from None


def row_of(features: Features) -> bytes:
    """The features in their places, decimals as millionths; one that is not finite is left out."""
    values: Any = msgspec.structs.astuple(features)
    row = list(values) if _STRAIGHT else [None if n is None else values[n] for n in _PLACES]
    for n in _DECIMAL:
        value = row[n]
        if value is not None:
            row[n] = round(round(value, 6) * _MILLION) if isfinite(value) else None
    return _encode(row)


def features_of(row: bytes) -> dict[str, FeatureValue]:
    """The features that are there, by name, as the decision had them."""
    values: list[Any] = _decode_row(row)
    for n in _DECIMAL[: len(values)]:
        if n < len(values) and values[n] is not None:
            values[n] /= _MILLION
    return {name: value for name, value in zip(ORDER, values, strict=False) if value is not None}


def remembered(
    raw: bytes, made: Decision, features: Features, session_id: str | None, start: Ms, policy: Policy, alarmed: bool = False
) -> tuple[bytes, Ms | None]:
    """The block with one more decision, which replaces an earlier one of its challenge; and when one is due next.

    What was taught of the challenge stays taught. ``alarmed``: there has been a finding of it, whatever this decision says. The oldest go
    first, those last that alarmed or are still to be taught.
    """
    kept = unpack(raw)
    before = next((k for k in kept if k.otp_id == made.otp_id), None)
    taught = None if before is None else before.taught
    learning, bounds = policy.learning, policy.bounds
    level: Level = "alert" if alarmed else made.level
    control = level == "alert" and is_control(made.account_id, made.otp_id, policy)
    quiet = level != "alert" and taught is None and bool(learning.negatives) and taken(made.decision_id, learning.negatives)
    new = Kept(
        made.otp_id, session_id, start, bytes.fromhex(made.decision_id.removeprefix("d_")), made.time - start, made.model_id,
        round(made.probability * _MILLION), level, control, row_of(features), quiet, taught,
    )  # fmt: skip
    since = start - bounds.settled_days * DAY_MS
    all_ = [*(k for k in kept if k.otp_id != made.otp_id and k.start >= since), new]
    if len(all_) > bounds.settled:
        all_.remove(min(all_, key=lambda k: (k.level != "clear" or k.pending, k.start, k.otp_id)))
    left = tuple(sorted(all_, key=lambda k: (k.start, k.otp_id)))
    return pack(left), _next(left, policy)


def alarmed(raw: bytes, account_id: str, otp_id: str, policy: Policy) -> tuple[bytes, Ms | None]:
    """The block when a challenge has alarmed after its decision was kept: that nobody says anything of it makes it no benign one."""
    kept, control = unpack(raw), is_control(account_id, otp_id, policy)
    left = tuple(replace(k, level="alert", control=control, pending=False) if k.otp_id == otp_id else k for k in kept)
    return (raw if left == kept else pack(left)), _next(left, policy)


def disposed(raw: bytes, event: Disposed, account_id: str, policy: Policy) -> tuple[bytes, Ms | None, list[Example]]:
    """What a disposition teaches of the decisions it names; the block after it, and when one is due next.

    A later disposition of the same challenge replaces an earlier one, in whatever order they come; one that adds nothing teaches nothing.
    """
    kept, examples = unpack(raw), []
    weight, oldest = weight_of(event.verdict, event.source), event.arrived_at - policy.bounds.settled_days * DAY_MS
    new: list[Kept] = []
    key = (event.occurred_at, event.event_id)
    for k in kept:
        earlier = k.taught is not None and key <= (k.taught.occurred_at, k.taught.event_id)
        if weight is None or earlier or k.start < oldest or not _names(event, k, account_id):
            new.append(k)
            continue
        label = LABELS[event.verdict]
        adds = k.taught is None or k.taught.label != label or k.taught.weight < weight
        if adds:
            examples.append(_example(k, account_id, event.arrived_at, label, weight, event.source))
        new.append(replace(k, pending=False, taught=Taught(*key, label, weight if adds else k.taught.weight)))  # type: ignore[union-attr]
    left = tuple(new)
    return (raw if left == kept else pack(left)), _next(left, policy), examples


def unlabelled(raw: bytes, account_id: str, now: Ms, policy: Policy) -> tuple[bytes, Ms | None, list[Example]]:
    """The decisions that nobody has labelled by ``now`` (ms) and whose waiting time is over, as benign; and what is left."""
    learning = policy.learning
    weight = sampled(learning.trust, learning.negatives) if learning.negatives else 0.0
    kept, examples = unpack(raw), []
    new: list[Kept] = []
    for k in kept:
        due = k.start + learning.wait_days * DAY_MS
        if k.pending and due <= now:
            if weight:
                examples.append(_example(k, account_id, due, False, weight, "unlabelled"))
            new.append(replace(k, pending=False, taught=Taught(0, "", False, weight) if weight else None))
        else:
            new.append(k)
    left = tuple(new)
    return pack(left), _next(left, policy), examples


def _next(kept: tuple[Kept, ...], policy: Policy) -> Ms | None:
    return min((k.start + policy.learning.wait_days * DAY_MS for k in kept if k.pending), default=None)


def _names(event: Disposed, k: Kept, account_id: str) -> bool:
    if event.finding_uid is not None:
        return event.finding_uid == named("f_", account_id, k.otp_id)
    if event.otp_id is not None:
        return event.otp_id == k.otp_id
    return event.session_id is not None and event.session_id == k.session_id


def _example(k: Kept, account_id: str, time: Ms, label: bool, weight: float, source: ExampleSource) -> Example:
    return Example(
        example_id=f"d_{k.decision.hex()}",
        time=time,
        features=features_of(k.row),
        label=label,
        weight=weight,
        replaces=None if k.taught is None else Replaced(k.taught.label, k.taught.weight),
        account_id=account_id,
        source=source,
        decided_at=k.start + k.after,
        model_id=k.model_id,
        probability=k.millionths / _MILLION,
        level=k.level,
        control=k.control,
    )
