"""Do the schemas, the examples and the code say the same? Every example is a test for who writes a record and for who reads it."""

import base64
import copy
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]
from referencing import Registry, Resource

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import AnyEvent, Feed, LineEvent
from pipeline.core.outcome import Decision, Hold, HoldEnded, Late, Reason
from pipeline.core.policy import Policy
from pipeline.wire.cloudevents import ALERT_SCHEMA
from pipeline.wire.codec import OutcomeEncoder, decode_event, decode_line_event, encode_event
from pipeline.wire.dead_letter import DeadLetters, parse
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import encode_line, read_log
from pipeline.wire.pseudonym import Pseudonyms
from pipeline.wire.schemas import files, schemas, stale, write
from pipeline.wire.schemas.asyncapi import CARRIES, asyncapi_document
from pipeline.wire.topics import TOPICS

FOLDER = Path(__file__).parent.parent / "schemas"
EXAMPLES = FOLDER / "examples"
ARRIVED = int(datetime(2026, 11, 22, 12, 30, tzinfo=UTC).timestamp() * 1000)  # when every raw example arrived
RAW: dict[str, Feed] = {
    "login": "logins",
    "otp_dispatch": "otp-dispatches",
    "telephony": "telephony",
    "otp_entry": "otp-entries",
    "phone_link": "phone-links",
    "account_change": "account-changes",
    "disposition": "dispositions",
    "snooze": "snoozes",
}
UNIONS = ("event", "line_event")  # their stories stand with their members
# What the reader refuses and JSON Schema cannot: story -> why.
BEYOND_JSON_SCHEMA = {"login/account_id_with_a_line_break": "`$` also matches before a last line break, in Python's dialect"}


def stories(folder: Path) -> list[Any]:
    found = sorted(path for path in folder.glob("*/*.json") if path.parent.name != "invalid")
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in found]


def of(*records: str) -> list[Any]:
    return [p for p in stories(EXAMPLES) if p.values[0].parent.name in records]


def validator(record: str) -> Draft202012Validator:
    return Draft202012Validator(schemas()[f"{record}.schema.json"], format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(record: str, value: object) -> list[str]:
    return [f"{e.json_path}: {e.message}" for e in validator(record).iter_errors(value)]


@pytest.fixture(scope="module")
def ingest() -> Ingest:
    return Ingest(Policy(), Pseudonyms.for_demo())


# The files


def test_the_files_in_the_repository_are_what_the_types_say() -> None:
    assert stale(FOLDER) == [], "run `make schemas`"


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    written = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == files()


def test_stale_names_what_is_missing_changed_or_left_over(tmp_path: Path) -> None:
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "login.schema.json").unlink()
    (tmp_path / "hold.schema.json").write_bytes((tmp_path / "hold.schema.json").read_bytes() + b"\n")
    (tmp_path / "coffee.schema.json").write_text("{}")
    (tmp_path / "README.md").write_text("kept")
    assert stale(tmp_path) == ["coffee.schema.json", "hold.schema.json", "login.schema.json"]
    write(tmp_path)
    assert stale(tmp_path) == []
    assert (tmp_path / "README.md").read_text() == "kept"


@pytest.mark.parametrize("name", sorted(schemas()))
def test_every_schema_is_one_and_stands_alone(name: str) -> None:
    schema = schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith("/" + name)
    assert all(ref.startswith("#/$defs/") for ref in refs(schema))
    for ref in refs(schema):
        assert ref.removeprefix("#/$defs/") in schema["$defs"]


def test_what_we_write_is_closed_and_what_we_read_is_open() -> None:
    for record in RAW:
        assert "additionalProperties" not in orjson.dumps(schemas()[f"{record}.schema.json"]).decode()
    for kind in (*AnyEvent.__args__, *LineEvent.__args__):
        record = kind.__struct_config__.tag
        assert schemas()[f"{record}.schema.json"]["additionalProperties"] is False


def test_the_schema_that_headers_name_is_there() -> None:
    assert schemas()["alert.schema.json"]["$id"] == ALERT_SCHEMA


def refs(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from refs(value)
    elif isinstance(node, list):
        for item in node:
            yield from refs(item)


# The examples


def test_every_record_has_stories_and_every_story_a_record() -> None:
    records = {name.removesuffix(".schema.json") for name in schemas()} - set(UNIONS)
    counted = {record: len(list((EXAMPLES / record).glob("*.json"))) for record in records}
    assert {record: n for record, n in counted.items() if n < 2} == {}
    assert {path.parent.name for path in EXAMPLES.glob("*/*.json")} == records
    assert {path.name for path in (EXAMPLES / "invalid").iterdir()} == set(RAW)


@pytest.mark.parametrize("path", stories(EXAMPLES))
def test_an_example_is_what_its_schema_says(path: Path) -> None:
    assert faults(path.parent.name, json.loads(path.read_bytes())) == []


@pytest.mark.parametrize("path", of(*RAW))
def test_a_raw_example_is_read_and_becomes_the_canonical_one_of_its_story(ingest: Ingest, path: Path) -> None:
    addressed = ingest.read(RAW[path.parent.name], path.read_bytes(), ARRIVED)
    assert addressed
    for topic, key, event in addressed:
        written = encode_event(event)
        tag = type(event).__struct_config__.tag
        expected = json.loads((EXAMPLES / str(tag) / path.name).read_bytes())
        assert json.loads(written) == expected
        assert faults("event" if topic == "events" else "line_event", expected) == []
        assert key == (expected["account_id"] if topic == "events" else expected["line"])


@pytest.mark.parametrize("path", of(*(k.__struct_config__.tag for k in (*AnyEvent.__args__, *LineEvent.__args__))))
def test_a_canonical_example_comes_back_from_the_codec(path: Path) -> None:
    value = path.read_bytes()
    readers: list[Callable[[bytes], AnyEvent | LineEvent]] = []
    if faults("event", json.loads(value)) == []:
        readers.append(decode_event)
    if faults("line_event", json.loads(value)) == []:
        readers.append(decode_line_event)
    assert readers
    for read in readers:
        assert json.loads(encode_event(read(value))) == json.loads(value)


def invalid_bytes(example: dict[str, Any]) -> bytes | None:
    """The value of an invalid example: ``record`` as JSON (null: a null value), or ``text`` or ``base64`` where JSON cannot say it."""
    if "text" in example:
        return str(example["text"]).encode()
    if "base64" in example:
        return base64.b64decode(example["base64"], validate=True)
    return None if example["record"] is None else json.dumps(example["record"]).encode()


@pytest.mark.parametrize("path", stories(EXAMPLES / "invalid"))
def test_an_invalid_example_is_refused_for_its_reason(ingest: Ingest, path: Path) -> None:
    record, example = path.parent.name, json.loads(path.read_bytes())
    with pytest.raises(InvalidEvent) as refused:
        ingest.read(RAW[record], invalid_bytes(example), ARRIVED)
    assert refused.value.reason == example["reason"]
    contents = {str(content) for field, content in (example.get("record") or {}).items() if field != "type"}
    assert [content for content in contents if len(content) > 3 and content in refused.value.detail] == []
    beyond = f"{record}/{path.stem}" in BEYOND_JSON_SCHEMA
    if example["reason"] in ("invalid_field", "invalid_time"):
        assert (faults(record, example["record"]) == []) == beyond


@pytest.mark.parametrize("path", of("alert"))
def test_an_alert_example_is_ocsf(path: Path) -> None:
    value = json.loads(path.read_bytes())
    published = OcsfJsonSchemaEmbedded(get_ocsf_schema(value["metadata"]["version"]))
    name = published.lookup_class_name_from_uid(value["class_uid"])
    schema = published.get_class_schema(name, list(value["metadata"]["profiles"]))
    assert [f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema).iter_errors(value)] == []


@pytest.mark.parametrize("path", of("dead_letter"))
def test_a_dead_letter_example_is_read_back(path: Path) -> None:
    headers = tuple((name, text.encode()) for name, text in json.loads(path.read_bytes()).items())
    letter = parse(headers, None, None)
    again = DeadLetters("plain").record(
        letter.topic, letter.partition, letter.offset, letter.timestamp, letter.reason, letter.detail, None, None
    )
    assert faults("dead_letter", {name: text.decode() for name, text in again.headers}) == []


@pytest.mark.parametrize("path", of("log_record"))
def test_a_log_example_is_read_back(tmp_path: Path, path: Path) -> None:
    line = json.loads(path.read_bytes())
    (tmp_path / "log.jsonl").write_bytes(orjson.dumps(line) + b"\n")
    (record,) = read_log(tmp_path / "log.jsonl")
    assert json.loads(encode_line(record)) == line


# What the codec writes

DECISION = Decision(
    decision_id="d_1",
    account_id="acct-000417",
    otp_id="otp-5521",
    incident_id="i_7f3c1e9a2b",
    finding_uid=None,
    time=1_795_342_543_180,
    stage="before_entry",
    level="watch",
    probability=0.1 + 0.2,
    threshold=0.5,
    features={"call_live": True, "calls": 2, "seconds_answer_to_entry": 31.0, "order": "login,otp,call"},
    reasons=(Reason("call_live", 1.5, "a call is live"), Reason("known_device", -0.5)),
    event_ids=("ev-1",),
    policy_id="p_91bc7d4e02",
    model_id="m_1",
    version="0.1.0",
)
HOLD = Hold(
    account_id="acct-000417",
    otp_id="otp-5521",
    session_id=None,
    finding_uid="f_1",
    probability=0.9,
    expires_at=1_795_342_802_000,
    reason="a stranger's call is live",
)


@pytest.mark.parametrize(("record", "outcome"), [("decision", DECISION), ("hold", HOLD)])
def test_outcomes_are_written_as_their_schemas_say(record: str, outcome: Decision | Hold) -> None:
    for mode in ("live", "replay"):
        out = OutcomeEncoder("live" if mode == "live" else "replay").encode(outcome)
        assert out is not None
        assert out.value is not None
        assert faults(record, json.loads(out.value)) == []
        assert record in CARRIES[out.topic]


def test_what_the_schemas_of_outcomes_refuse() -> None:
    out = OutcomeEncoder("live").encode(DECISION)
    assert out is not None
    assert out.value is not None
    value = json.loads(out.value)
    for field in value:
        assert faults("decision", {k: v for k, v in value.items() if k != field}), field
    assert faults("decision", {**value, "probability": 1.1})
    assert faults("decision", {**value, "phone": "+447700900417"})
    assert faults("decision", {**value, "reasons": [["call_live", 1.5, ""]]})


def test_the_end_of_a_hold_is_a_tombstone_and_late_is_no_record_of_its_own() -> None:
    encoder = OutcomeEncoder("live")
    ended = encoder.encode(HoldEnded(account_id="acct-000417", otp_id="otp-5521"))
    assert ended is not None
    assert (ended.topic, ended.value) == ("holds", None)
    assert encoder.encode(Late(account_id="acct-000417", event_id="ev-1", occurred_at=0, arrived_at=1)) is None


# The AsyncAPI document


@pytest.fixture(scope="module")
def published_asyncapi() -> Draft7Validator:
    packed = Path(__file__).parent / "published" / "asyncapi-3.0.0.schema.json.gz"
    return Draft7Validator(json.loads(gzip.decompress(packed.read_bytes())))


def test_the_document_is_asyncapi_3(published_asyncapi: Draft7Validator) -> None:
    assert [f"{e.json_path}: {e.message[:200]}" for e in published_asyncapi.iter_errors(asyncapi_document())] == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["operations"]["receive_logins"].update(action="hear"),
        lambda d: d["channels"]["logins"]["bindings"]["kafka"]["topicConfiguration"].update({"cleanup.policy": ["shred"]}),
        lambda d: d.pop("info"),
        lambda d: d["components"]["messages"]["login"].update(payloads={}),
    ],
)
def test_the_published_definition_refuses_a_spoiled_document(published_asyncapi: Draft7Validator, spoil: Callable[[Any], object]) -> None:
    document = copy.deepcopy(asyncapi_document())
    spoil(document)
    assert not published_asyncapi.is_valid(document)


def test_every_topic_has_a_channel_and_every_channel_a_topic() -> None:
    document = asyncapi_document()
    assert set(document["channels"]) == set(TOPICS) == set(CARRIES)
    acted_on = {operation["channel"]["$ref"].removeprefix("#/channels/") for operation in document["operations"].values()}
    assert acted_on == set(TOPICS)
    for name, channel in document["channels"].items():
        kafka = channel["bindings"]["kafka"]
        assert (channel["address"], kafka["topic"], kafka["partitions"]) == (name, name, TOPICS[name].partitions)
        assert ",".join(kafka["topicConfiguration"]["cleanup.policy"]) == TOPICS[name].cleanup


def test_every_reference_leads_somewhere_and_every_schema_is_carried() -> None:
    document = asyncapi_document()
    carried: set[str] = set()
    for ref in refs(document):
        file, _, pointer = ref.partition("#")
        if file:
            assert (FOLDER / file).is_file(), ref
            carried.add(Path(file).name)
        else:
            Registry().with_resource("", Resource.opaque(document)).resolver().lookup("#" + pointer)
    members = {f"{k.__struct_config__.tag}.schema.json" for k in (*AnyEvent.__args__, *LineEvent.__args__)}
    assert set(schemas()) - carried == (members - carried) | {"log_record.schema.json"}


def test_a_message_of_an_operation_belongs_to_its_channel() -> None:
    for operation in asyncapi_document()["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(channel + "/messages/") for message in operation["messages"])


def test_the_readme_names_what_is_there() -> None:
    text = (FOLDER / "README.md").read_text()
    for name in ("asyncapi.json", "examples/invalid", "event.schema.json", "line_event.schema.json", "log_record.schema.json"):
        assert name in text
        assert (FOLDER / name).exists()
