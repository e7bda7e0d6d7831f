"""What else is exchanged? The headers of a dead letter and a line of a log on disk, which are no structs of ours."""

from typing import get_args

from pipeline.core.errors import REFUSALS
from pipeline.wire.dead_letter import Form
from pipeline.wire.schemas.generated import MS, JsonSchema, document

_COUNT: JsonSchema = {"type": "string", "pattern": "^[0-9]+$"}
_BASE64: JsonSchema = {"type": "string", "contentEncoding": "base64"}


def dead_letter_schema() -> JsonSchema:
    """Build the schema of a dead letter's headers, as an object of names and UTF-8 texts."""
    properties: dict[str, JsonSchema] = {
        "topic": {"type": "string", "minLength": 1, "description": "where the record stood"},
        "partition": _COUNT,
        "offset": _COUNT,
        "timestamp": {"type": "string", "pattern": "^-?[0-9]+$", "description": "its arrival, " + MS},
        "reason": {"enum": list(REFUSALS)},
        "detail": {"type": "string", "description": "the field and the rule, never the content"},
        "length": {"type": "string", "pattern": "^[0-9]*$", "description": "bytes of the value; empty for a null one"},
        "sha256": {"type": "string", "pattern": "^([0-9a-f]{64})?$", "description": "of the value; empty for a null one"},
        "version": {**_COUNT, "description": "of these headers"},
        "form": {"enum": list(get_args(Form)), "description": "what of the original was kept"},
    }
    return document(
        "dead_letter",
        {
            "title": "DeadLetter",
            "description": "The headers of a record that could not be read. In plain form the original's headers follow.",
            "type": "object",
            "properties": {f"offhook.error.{name}": schema for name, schema in properties.items()},
            "required": [f"offhook.error.{name}" for name in properties],
        },
    )


def log_record_schema() -> JsonSchema:
    """Build the schema of one line of a log: the envelope of ``kcat -C -J``, and base64 for what kcat cannot carry."""
    text: JsonSchema = {"type": ["string", "null"]}
    return document(
        "log_record",
        {
            "title": "LogRecord",
            "description": "One Kafka record as one line of a log on disk.",
            "type": "object",
            "properties": {
                "topic": {"type": "string", "minLength": 1},
                "partition": {"type": "integer", "default": 0},
                "offset": {"type": ["integer", "null"], "description": "without it, the next one of its partition"},
                "tstype": {"type": ["string", "null"], "description": "create, append or unknown"},
                "ts": {"type": "integer", "description": "when it arrived, " + MS},
                "headers": {
                    "type": ["array", "null"],
                    "items": {"type": ["string", "null"]},
                    "description": "names and values in turn",
                },
                "headers_b64": {"type": "array", "items": {"type": "string"}, "description": "names as they are, values in base64"},
                "key": text,
                "payload": text,
                "key_b64": _BASE64,
                "payload_b64": _BASE64,
            },
            "required": ["topic", "ts"],
            "allOf": [
                {"not": {"required": ["key_b64", "key"], "properties": {"key": {"type": "string"}}}},
                {"not": {"required": ["payload_b64", "payload"], "properties": {"payload": {"type": "string"}}}},
            ],
        },
    )
