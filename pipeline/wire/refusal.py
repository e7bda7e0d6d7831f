"""Why could bytes not be decoded? Turns a decoder's complaint into a refusal that names the field and the rule, never the content."""

import re

import msgspec

from pipeline.core.errors import InvalidEvent, Refusal

_FIELD = re.compile(r" - at `\$\.([a-z_]{1,32})[^`]*`\Z")  # the last path: an earlier one may stand in a quoted value
# What a message of the decoder begins with, and what we say instead: its own words may quote the value.
_RULES: tuple[tuple[str, Refusal, str], ...] = (
    ("Invalid RFC3339", "invalid_time", "is not an RFC 3339 instant in the years 1 to 9999"),
    ("Expected `datetime` with", "invalid_time", "has no offset"),
    ("Invalid enum value", "invalid_field", "is none of the values that the contract lists"),
    ("Invalid value", "invalid_field", "is none of the values that the contract lists"),
    ("Expected `str` matching", "invalid_field", "does not have the form that the contract asks for"),
    ("Expected `str` of length", "invalid_field", "is shorter or longer than the contract allows"),
    ("Expected `int` ", "invalid_field", "is outside the range that the contract allows"),
    ("Integer value out of range", "invalid_field", "is outside the range that the contract allows"),
    ("Expected ", "invalid_field", "has another type than the contract says"),
)
_MISSING = "Object missing required field `"


def check_utf8(value: bytes) -> None:
    """Refuse bytes that are not UTF-8: a decoder looks only into the fields it keeps. Raises InvalidEvent."""
    if value.isascii():
        return
    try:
        value.decode()
    except UnicodeDecodeError as e:
        at = e.start
    else:
        return
    raise InvalidEvent("not_utf8", f"byte {at} of {len(value)} is not UTF-8")  # out here: the other error holds the whole value


def refusal(error: Exception, fields: frozenset[str]) -> InvalidEvent:
    """Say why a decoder raised ``error``; only names in ``fields`` (those the contract has) are ever repeated."""
    if isinstance(error, RecursionError):
        return InvalidEvent("not_json", "nested too deep")
    if isinstance(error, UnicodeError):
        return InvalidEvent("not_utf8", "a string is not UTF-8")
    if not isinstance(error, msgspec.ValidationError):
        return InvalidEvent("not_json", "not a JSON object")
    message = str(error)
    if message.startswith(_MISSING):
        name = message[len(_MISSING) :].partition("`")[0]
        return InvalidEvent("invalid_field", f"{_known(name, fields)} is missing")
    at = _FIELD.search(message)
    if at is None:
        return InvalidEvent("not_json", "not a JSON object")
    for start, reason, rule in _RULES:
        if message.startswith(start):
            return InvalidEvent(reason, f"{_known(at[1], fields)} {rule}")
    return InvalidEvent("invalid_field", f"{_known(at[1], fields)} is not what the contract says")


def _known(name: str, fields: frozenset[str]) -> str:
    return name if name in fields else "a field"
