"""The log is one that a broker and its readers could have written: envelope, partitions, records, and what noise did to them."""

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import orjson
import pytest

from pipeline.core.errors import InvalidEvent
from pipeline.core.events import EVIDENCE_FEEDS
from pipeline.core.policy import Policy
from pipeline.simulate import arrivals
from pipeline.simulate.run import Summary, simulate
from pipeline.simulate.views import View
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord, read_log
from pipeline.wire.pseudonym import Pseudonyms

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, list[LogRecord]]:
    out = tmp_path_factory.mktemp("noisy")
    summary = simulate(2, 1500, 10, out, prior=0.1, lookalikes=0.2, history_days=0)
    return summary, list(read_log(out / summary.log))


def test_envelope_is_kcats(tmp_path: Path) -> None:
    summary = simulate(2, 20, 2, tmp_path)
    for line in (tmp_path / summary.log).read_bytes().splitlines():
        envelope = orjson.loads(line)
        assert list(envelope)[:7] == ["topic", "partition", "offset", "tstype", "ts", "headers", "key"]
        assert envelope["tstype"] == "logappend"
        assert isinstance(envelope["key"], str)


def test_partitions_are_consistent(noisy: tuple[Summary, list[LogRecord]]) -> None:
    _, records = noisy
    assert {r.topic for r in records} == set(EVIDENCE_FEEDS)
    assert all(a.ts <= b.ts for a, b in itertools.pairwise(records))
    offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
    partition_of: dict[tuple[str, bytes | None], int] = {}
    for r in records:
        offsets[r.topic, r.partition].append(r.offset)
        assert partition_of.setdefault((r.topic, r.key), r.partition) == r.partition
    assert all(numbers == list(range(len(numbers))) for numbers in offsets.values())
    assert {p for t, p in offsets if t == "telephony"} == {0, 1, 2, 3}


def refusals(records: list[LogRecord]) -> Counter[str]:
    ingest = Ingest(Policy(), Pseudonyms.for_demo())
    refused: Counter[str] = Counter()
    for r in records:
        try:
            ingest.read(r.topic, r.value, r.ts)
        except InvalidEvent as e:
            refused[e.reason] += 1
    return refused


def test_every_record_is_read_or_counted_as_malformed(noisy: tuple[Summary, list[LogRecord]]) -> None:
    summary, records = noisy
    assert refusals(records) == summary.malformed_refused_as
    assert 1 <= sum(summary.malformed.values()) < 0.001 * len(records)


def test_every_fault_is_refused_for_the_reason_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MALFORMED_SHARE", 0.1)
    summary = simulate(2, 250, 10, tmp_path, prior=0.3, history_days=0)
    assert set(summary.malformed) == set(arrivals.FAULTS)
    assert refusals(list(read_log(tmp_path / summary.log))) == summary.malformed_refused_as
    assert len(summary.malformed_by_topic) >= 5


def test_duplicates_and_late_records_are_as_counted(noisy: tuple[Summary, list[LogRecord]]) -> None:
    summary, records = noisy
    seen: dict[str, bytes] = {}
    again: Counter[str] = Counter()
    for r in records:
        try:
            event_id = orjson.loads(r.value or b"null")["event_id"]
        except (ValueError, KeyError, TypeError):
            continue
        assert r.value is not None
        if not isinstance(event_id, str) or event_id.endswith(".x"):  # the mark of what noise made up
            continue
        if event_id in seen:
            again[r.topic] += 1
            assert seen[event_id] == r.value
        seen[event_id] = r.value
    assert dict(again) == summary.duplicates
    live = sum(r.ts >= summary.live_from for r in records)
    assert 0.0015 < again.total() / live < 0.0045
    assert sum(summary.late.values()) < 0.004 * len(records)


def test_keys_are_the_contracts(noisy: tuple[Summary, list[LogRecord]]) -> None:
    for r in noisy[1]:
        if r.value is None or not r.value.startswith(b'{"event_id":"') or b"\xff" in r.value or not r.value.endswith(b"}"):
            continue
        body = orjson.loads(r.value)
        expected = {"telephony": "{phone}", "phone-links": "{phone}|{account_id}"}.get(r.topic, "{account_id}").format_map(body)
        assert r.key == expected.encode()


def test_without_noise_nothing_is_disordered_or_broken(tmp_path: Path) -> None:
    summary = simulate(2, 200, 6, tmp_path, noise=False)
    assert not summary.malformed
    assert not summary.duplicates
    assert not summary.late
    last: dict[bytes | None, str] = {}
    for r in read_log(tmp_path / summary.log):
        if r.topic == "logins":
            at = orjson.loads(r.value or b"")["occurred_at"]
            assert last.get(r.key, "") <= at
            last[r.key] = at


@pytest.mark.parametrize("feeds", ["full", "no-telephony", "probe", "app"])
def test_about_reconciles_with_the_log(tmp_path: Path, feeds: View) -> None:
    summary = simulate(9, 200, 4, tmp_path, feeds=feeds, prior=0.3, lookalikes=0.3)
    records = list(read_log(tmp_path / summary.log))
    truth = [orjson.loads(line) for line in (tmp_path / summary.truth).read_bytes().splitlines()]
    live = [t for t in truth if not t["history"]]
    assert len(records) == summary.records == sum(summary.records_by_topic.values())
    assert Counter(r.topic for r in records) == summary.records_by_topic
    assert len(live) == summary.challenges
    assert Counter(t["story"] for t in live) == summary.stories
    assert Counter(t["label"] for t in live) == summary.labels
    assert orjson.loads((tmp_path / "about.json").read_bytes())["records"] == summary.records
    assert (records[0].ts, records[-1].ts) == (summary.first_arrival, summary.last_arrival)
