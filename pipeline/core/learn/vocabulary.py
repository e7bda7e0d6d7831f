"""Which columns does a model over OffHook's episodes have? The schema of the features, derived from their types."""

from functools import cache
from types import NoneType
from typing import get_args, get_type_hints

from pipeline.core.events import AsnKind, Attestation, Channel, OtpEntered, PeerLine, Purpose
from pipeline.core.features.vector import Features
from pipeline.core.learn.schema import Field, Schema

ORDERS = (  # T8: who came first; what is rare is "other"
    "login>otp>entry", "login>otp", "otp>entry", "otp",
    "login>otp>call>entry", "login>call>otp>entry", "call>login>otp>entry", "login>otp>entry>call",
    "login>otp>call", "login>call>otp", "call>login>otp",
    "otp>call>entry", "call>otp>entry", "otp>call", "call>otp",
)  # fmt: skip
WORDS: dict[str, tuple[str, ...]] = {
    "order": ORDERS,
    "caller_attestation": get_args(Attestation),
    "caller_line": get_args(PeerLine),
    "network_kind": get_args(AsnKind),
    "purpose": get_args(Purpose),
    "channel": get_args(Channel),
    "entry_method": get_args(get_args(get_type_hints(OtpEntered)["method"])[0]),
}
NOT_LEARNED = ("test_account",)  # the policy's own word, not evidence
IN_LOGS = ("_s", "_h", "_per_day")  # seconds, hours and rates span orders of magnitude: names that end so, or begin with one of these
BEGIN_IN_LOGS = ("seconds_", "hours_", "requests_", "calls_", "missed_", "abandoned_", "wrong_", "failed_", "changes_")


@cache
def episode_schema() -> Schema:
    """The schema of ``Features``. Raises ValueError for a feature of words that ``WORDS`` does not declare."""
    fields = []
    for name, hint in get_type_hints(Features).items():
        kinds = {kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType}
        if name in NOT_LEARNED:
            continue
        if kinds == {bool}:
            fields.append(Field(name, "flag"))
        elif kinds <= {int, float}:
            fields.append(Field(name, "number", log=name.endswith(IN_LOGS) or name.startswith(BEGIN_IN_LOGS)))
        elif name in WORDS:
            fields.append(Field(name, "category", WORDS[name]))
        else:
            raise ValueError(f"{name}: its words are not declared")
    return Schema(tuple(fields))
