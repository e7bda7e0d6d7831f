"""The exceptions that are ours: input that is not an event we know, a flood of it, and state of a version we cannot read."""

from typing import Literal, get_args

Refusal = Literal[
    "not_utf8",  # the bytes are not UTF-8
    "not_json",  # not one JSON object, or nested too deep
    "no_value",  # a null value where a record is needed
    "too_large",  # above the size bound
    "invalid_field",  # a field is missing, of the wrong type, or outside what the contract allows
    "invalid_time",  # a time without offset, or one that cannot be
    "future",  # occurred_at too far beyond the arrival
    "unknown_topic",  # a record of a topic we do not read
    "late",  # arrived too long after it occurred (recorded, not folded)
    "bug",  # our own fault; the account is quarantined
]
REFUSALS: tuple[str, ...] = get_args(Refusal)


class InvalidEvent(Exception):
    """Bytes that are not an event we know. ``detail`` names the field and the rule, never the content."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Refusal = reason
        self.detail = detail


class DeadLetterFlood(Exception):
    """Too large a share of a feed cannot be read."""


class UnsupportedState(Exception):
    """The stored state was written by a newer version."""
