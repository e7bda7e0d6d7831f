"""Is everything that a run reads and writes what the schemas say? A simulated morning full of attacks, read and answered for real."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import EVIDENCE_FEEDS
from pipeline.core.policy import Policy
from pipeline.replay.run import Replay
from pipeline.simulate.run import simulate
from pipeline.wire.codec import encode_event
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord, read_log
from pipeline.wire.ocsf import TECHNIQUES
from pipeline.wire.pseudonym import Pseudonyms
from pipeline.wire.schemas import schemas
from pipeline.wire.schemas.asyncapi import CARRIES
from pipeline.wire.topics import TOPICS

SAMPLE = 400  # records of a feed that are checked; validating one takes a quarter of a millisecond
BEFORE_SCHEMAS = ("not_json", "not_utf8", "no_value", "too_large")  # refusals of what is no JSON object at all
BEYOND_SCHEMAS = ("future",)  # and of what no schema can see


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``log.jsonl`` and, under ``out``, what replaying it wrote."""
    folder = tmp_path_factory.mktemp("run")
    simulate(11, 400, 3.0, folder, history_days=2, prior=1.0, lookalikes=0.5, all_labels=True)
    Replay(Policy(), Pseudonyms.for_demo(), folder / "out").run(read_log(folder / "log.jsonl"))
    return folder


@pytest.fixture(scope="module")
def check() -> dict[str, Draft202012Validator]:
    formats = Draft202012Validator.FORMAT_CHECKER
    return {name.removesuffix(".schema.json"): Draft202012Validator(schema, format_checker=formats) for name, schema in schemas().items()}


def faults(validator: Draft202012Validator, value: object) -> list[str]:
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(value)]


def out(run: Path, topic: str) -> Iterator[tuple[LogRecord, Any]]:
    for record in read_log(run / "out" / f"{topic}.jsonl"):
        yield record, None if record.value is None else json.loads(record.value)


def test_ingest_takes_what_the_schemas_allow_and_nothing_else(run: Path, check: dict[str, Draft202012Validator]) -> None:
    ingest = Ingest(Policy(), Pseudonyms.for_demo())
    read: Counter[str] = Counter()
    refused: dict[str, Counter[str]] = defaultdict(Counter)
    for record in read_log(run / "log.jsonl"):
        (word,) = CARRIES[record.topic]
        if TOPICS[record.topic].direction != "in":
            continue
        try:
            addressed = ingest.read(record.topic, record.value, record.ts)
        except InvalidEvent as e:
            refused[record.topic][e.reason] += 1
            if e.reason not in (*BEFORE_SCHEMAS, *BEYOND_SCHEMAS):
                assert faults(check[word], json.loads(record.value or b""))
            continue
        read[record.topic] += 1
        if record.value is not None and read[record.topic] <= SAMPLE:
            assert faults(check[word], json.loads(record.value)) == []
            for topic, _, event in addressed:
                assert faults(check["event" if topic == "events" else "line_event"], json.loads(encode_event(event))) == []
    assert set(EVIDENCE_FEEDS) == set(read)


def test_every_line_on_disk_is_an_envelope(run: Path, check: dict[str, Draft202012Validator]) -> None:
    for path in [run / "log.jsonl", *sorted((run / "out").glob("*.jsonl"))]:
        with path.open("rb") as lines:
            for line, _ in zip(lines, range(SAMPLE), strict=False):
                assert faults(check["log_record"], json.loads(line)) == []


def test_every_alert_is_ocsf_and_our_profile_of_it(run: Path, check: dict[str, Draft202012Validator]) -> None:
    published = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    ocsf = Draft202012Validator(published.get_class_schema("detection_finding", ["incident"]))
    seen: Counter[str] = Counter()
    for record, value in out(run, "alerts"):
        assert value["metadata"]["profiles"] == ["incident"]
        assert faults(ocsf, value) == []
        assert faults(check["alert"], value) == []
        assert faults(check["alert_headers"], {name: text.decode() for name, text in record.headers}) == []
        for attack in value["finding_info"]["attacks"]:
            assert all(t["uid"] in TECHNIQUES for t in (attack["technique"], attack.get("sub_technique", attack["technique"])))
        seen[value["activity_name"]] += 1
    assert seen["Create"]
    assert seen["Update"]


@pytest.mark.parametrize(("topic", "word"), [("decisions", "decision"), ("holds", "hold")])
def test_decisions_and_holds_are_what_their_schemas_say(run: Path, check: dict[str, Draft202012Validator], topic: str, word: str) -> None:
    values = [value for _, value in out(run, topic) if value is not None]
    assert values
    assert [fault for value in values[:SAMPLE] for fault in faults(check[word], value)] == []


def test_dead_letters_are_what_their_schema_says(run: Path, check: dict[str, Draft202012Validator]) -> None:
    for record, value in out(run, "dead-letters"):
        assert value is None  # by reference: nothing of the original
        assert faults(check["dead_letter"], {name: text.decode() for name, text in record.headers}) == []
