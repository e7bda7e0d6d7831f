"""What do the types say? JSON Schema of the raw records, the canonical events and the outcomes, made from their structs.

msgspec writes most of it; here it is made to stand alone, to say the same to every validator, and, for what we write ourselves, to
refuse unknown fields: readers are tolerant, writers are strict.
"""

import inspect
import re
from typing import Any, get_args

import msgspec

from pipeline.core import events
from pipeline.core.outcome import Decision, Example, Hold, Reason, Sighting
from pipeline.wire.cloudevents import SCHEMA_ROOT
from pipeline.wire.records import RECORDS

JsonSchema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
MS = "milliseconds since the epoch"
# "format" alone asserts nothing, so the form stands in a pattern too: as we write it, and as the reader takes it.
RFC3339: JsonSchema = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?Z$"}
_DATE_TIME = r"^(19[7-9]\d|[2-9]\d{3})-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$"
_INSTANTS = frozenset(("occurred_at", "arrived_at", "expires_at", "since", "time", "decided_at"))


def document(name: str, schema: JsonSchema) -> JsonSchema:
    """Give a schema its draft and its identity."""
    return {"$schema": DRAFT, "$id": f"{SCHEMA_ROOT}{name}.schema.json", **schema}


def snake(name: str) -> str:
    """Turn a class name into the word that names its file: ``OtpDispatched`` is ``otp_dispatched``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def record_schemas() -> dict[str, JsonSchema]:
    """Build the schemas of the eight raw records, by word; unknown fields are allowed."""
    named: dict[str, JsonSchema] = {}
    for feed, kind in RECORDS.items():
        name = snake(kind.__name__) if isinstance(kind, type) else feed
        named[name] = document(name, of_type(kind, closed=False))
        if not isinstance(kind, type):
            named[name] = {**named[name], "title": "Telephony", "description": "Calls, messages and changes of a phone line."}
    return named


def event_schemas() -> dict[str, JsonSchema]:
    """Build one schema per canonical event, and the unions that the ``events`` and ``lines`` topics carry."""
    kinds = {*get_args(events.AnyEvent), *get_args(events.LineEvent)}
    named = {snake(k.__name__): of_type(k, closed=True) for k in sorted(kinds, key=lambda k: str(k.__name__))}
    named["event"] = {
        "title": "AnyEvent",
        "description": "A record of the events topic: what happened to an account, a beat, an activation, news of campaigns or surges.",
        **of_type(events.AnyEvent, closed=True),
    }
    named["line_event"] = {
        "title": "LineEvent",
        "description": "A record of the lines topic: what happened to a phone line, before it is known whose it is.",
        **of_type(events.LineEvent, closed=True),
    }
    return {name: document(name, _say_ms(schema)) for name, schema in named.items()}


def outcome_schemas() -> dict[str, JsonSchema]:
    """Build the schemas of decisions, holds, examples and sightings as the codec writes them: reasons by name, a hold's end as RFC 3339."""
    decision = _say_ms(of_type(Decision, closed=True))
    reason = decision["$defs"]["Reason"]
    names = [field.name for field in msgspec.structs.fields(Reason)]
    decision["$defs"]["Reason"] = {
        "title": "Reason",
        "description": reason["description"],
        "type": "object",
        "properties": dict(zip(names, reason["prefixItems"], strict=True)),
        "required": names,
        "additionalProperties": False,
    }
    decision["properties"]["mode"] = {"enum": ["live", "replay"]}
    decision["required"].append("mode")
    challenger = decision["$defs"]["Challenger"]
    decision["$defs"]["Challenger"] = {
        "title": "Challenger",
        "description": challenger["description"],
        "type": "object",
        "properties": {"model_id": {"type": "string"}, "probability": {"type": "number", "minimum": 0, "maximum": 1}},
        "required": ["model_id", "probability"],
        "additionalProperties": False,
    }
    hold = of_type(Hold, closed=True)
    hold["properties"]["expires_at"] = {"description": "until when the code is valid", **RFC3339}
    for share in (decision["properties"]["probability"], decision["properties"]["threshold"], hold["properties"]["probability"]):
        share |= {"minimum": 0, "maximum": 1}
    example, sighting = _say_ms(of_type(Example, closed=True)), _say_ms(of_type(Sighting, closed=True))
    named = {"decision": decision, "hold": hold, "example": example, "sighting": sighting}
    return {name: document(name, schema) for name, schema in named.items()}


def of_type(kind: Any, *, closed: bool) -> JsonSchema:
    """Build the schema of a type, its parts under ``$defs``. ``closed`` refuses unknown fields."""
    (top,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    parts = {name: _plain(part, closed) for name, part in sorted(parts.items())}
    own = top.get("$ref", "").removeprefix("#/$defs/")
    schema: JsonSchema = parts.pop(own) if own else _plain(top, closed)
    return {**schema, "$defs": parts} if parts else schema


def _plain(node: Any, closed: bool) -> Any:
    """Rewrite what only Python or OpenAPI would understand, and close objects when asked."""
    if isinstance(node, list):
        return [_plain(item, closed) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _plain(value, closed) for key, value in node.items() if key != "discriminator"}
    if isinstance(plain.get("pattern"), str):
        plain["pattern"] = plain["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(plain.get("description"), str):
        plain["description"] = inspect.cleandoc(plain["description"]).replace("``", "")
    if plain.get("format") == "date-time":
        plain["pattern"] = _DATE_TIME
    if closed and plain.get("type") == "object" and "properties" in plain:
        plain["additionalProperties"] = False
    return plain


def _say_ms(node: Any) -> Any:
    """Name the unit of instants, which the type cannot."""
    if isinstance(node, list):
        return [_say_ms(item) for item in node]
    if not isinstance(node, dict):
        return node
    said = {key: _say_ms(value) for key, value in node.items()}
    for name, field in (said.get("properties") or {}).items():
        if name in _INSTANTS:
            field["description"] = MS
    return said
