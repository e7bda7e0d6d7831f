"""Which record goes over which topic, in which direction, with which key? An AsyncAPI 3 document of all topics."""

from typing import Any

from pipeline.wire.schemas.generated import JsonSchema
from pipeline.wire.topics import TOPICS, TopicSpec

CONTRACT_VERSION = "1.0.0"  # of the records; raised when a reader or writer must change
_KAFKA = "0.5.0"  # version of AsyncAPI's Kafka bindings
_STATE = "state"  # the records of a changelog: ours alone, not to be read by others

# What each topic carries. A word with a schema of its own names a file; the others are said here.
CARRIES: dict[str, tuple[str, ...]] = {
    "logins": ("login",),
    "otp-dispatches": ("otp_dispatch",),
    "telephony": ("telephony",),
    "otp-entries": ("otp_entry",),
    "phone-links": ("phone_link",),
    "account-changes": ("account_change",),
    "dispositions": ("disposition",),
    "snoozes": ("snooze", "snooze_ended"),
    "events": ("event",),
    "lines": ("line_event",),
    "alerts": ("alert",),
    "holds": ("hold", "hold_ended"),
    "decisions": ("decision",),
    "dead-letters": ("dead_letter",),
    "examples": ("example",),
    "models": ("model", "activation"),
    "detect-state": (_STATE,),
    "campaign-state": (_STATE,),
    "route-state": (_STATE,),
    "sightings": ("sighting",),
}
_ACTIONS = {"in": ("receive",), "out": ("send",), "internal": ("send", "receive")}


def asyncapi_document() -> JsonSchema:
    """Build the document; payloads point at the JSON Schemas beside it."""
    operations = {
        f"{action}_{_word(name)}": _operation(action, name) for name, spec in TOPICS.items() for action in _ACTIONS[spec.direction]
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "OffHook",
            "version": CONTRACT_VERSION,
            "description": (
                "The topics of OffHook, as OffHook sees them: it receives what an institution knows of logins, codes and calls and sends "
                "alerts, decisions and holds. Topic names get the configured prefix. A record's Kafka timestamp is when it arrived."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(spec) for name, spec in sorted(TOPICS.items())},
        "operations": dict(sorted(operations.items())),
        "components": {"messages": _messages()},
    }


def _word(topic: str) -> str:
    return topic.replace("-", "_")


def _channel(spec: TopicSpec) -> JsonSchema:
    configuration: dict[str, Any] = {
        "cleanup.policy": spec.cleanup.split(","),
        "retention.ms": -1 if spec.retention_ms is None else spec.retention_ms,
        "message.timestamp.type": "LogAppendTime" if spec.log_append_time else "CreateTime",
    }
    return {
        "address": spec.name,
        "title": spec.name,
        "description": spec.what,
        "messages": {word: {"$ref": f"#/components/messages/{word}"} for word in CARRIES[spec.name]},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": _KAFKA,
            }
        },
    }


def _operation(action: str, topic: str) -> JsonSchema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic}"},
        "messages": [{"$ref": f"#/channels/{topic}/messages/{word}"} for word in CARRIES[topic]],
    }


def _messages() -> JsonSchema:
    keys: dict[str, str] = {}
    for topic, words in CARRIES.items():
        for word in words:
            keys.setdefault(word, TOPICS[topic].key)
    return {word: _message(word, key) for word, key in sorted(keys.items())}


def _message(word: str, key: str) -> JsonSchema:
    message: JsonSchema = {
        "name": word,
        "title": word.replace("_", " ").capitalize(),
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": _KAFKA}},
    }
    if word == _STATE:
        return message | {
            "summary": "Stored state of a stage; its form may change with any version.",
            "contentType": "application/octet-stream",
        }
    if word == "model":
        return message | {"summary": "A snapshot of a model: numbers in JSON, hashed and signed; read it with `offhook models list`."}
    if word == "hold_ended":
        return message | {"summary": "A tombstone: the hold is over.", "payload": {"type": "null"}}
    if word == "snooze_ended":
        return message | {"summary": "A tombstone: the snooze is over.", "payload": {"type": "null"}}
    if word == "dead_letter":
        return message | {
            "summary": "A record that could not be read: why and where, in the headers.",
            "contentType": "application/octet-stream",
            "headers": _schema("dead_letter"),
        }
    message |= {"contentType": "application/json", "payload": _schema(word)}
    return message | {"headers": _schema("alert_headers")} if word == "alert" else message


def _schema(word: str) -> JsonSchema:
    return {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": {"$ref": f"./{word}.schema.json"}}
