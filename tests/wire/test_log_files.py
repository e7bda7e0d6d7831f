"""Is a log on disk read as it was written, told apart from a broken one, and merged in the order of arrival?"""

import gzip
import itertools
import json
import os
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.policy import Policy
from pipeline.wire.log import DISORDER_MS, InvalidLog, LogRecord, encode_line, merge_logs, read_log

some_bytes = st.none() | st.binary(max_size=30) | st.text(max_size=30).map(str.encode)
records = st.builds(
    LogRecord,
    topic=st.sampled_from(["logins", "telephony"]),
    partition=st.integers(0, 3),
    offset=st.integers(0, 2**62),
    ts=st.integers(-1, 2**52),
    key=some_bytes,
    value=some_bytes,
    headers=st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=9)), max_size=3).map(tuple),
)


def write(path: Path, lines: Iterable[bytes | dict[str, Any]]) -> Path:
    text = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    if path.suffix == ".gz":
        text = gzip.compress(text)
    if path.suffix == ".zst":
        text = zstandard.ZstdCompressor().compress(text)
    path.write_bytes(text)
    return path


def record(ts: int, topic: str = "logins", partition: int = 0, offset: int = 0) -> LogRecord:
    return LogRecord(topic, partition, offset, ts, None, None)


def shape(records: Iterable[LogRecord]) -> list[tuple[str, int, int, int]]:
    return [(r.topic, r.partition, r.offset, r.ts) for r in records]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@given(st.lists(records, max_size=5), st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst"]))
def test_what_was_written_is_read(folder: Path, written: list[LogRecord], suffix: str) -> None:
    path = write(folder / f"log{suffix}", [encode_line(r) for r in written])
    read = list(read_log(path))
    assert [msgspec.structs.replace(r, source="") for r in read] == written
    assert [r.source for r in read] == [f"{path}:{n}" for n in range(1, len(written) + 1)]


def test_a_line_is_the_envelope_of_kcat() -> None:
    line = encode_line(LogRecord("logins", 1, 2, 3, b"acct-1", b'{"a":1}', (("h", b"v"), ("h", b""))))
    assert line == (
        b'{"topic":"logins","partition":1,"offset":2,"tstype":"logappend","ts":3,"headers":["h","v","h",""],'
        b'"key":"acct-1","payload":"{\\"a\\":1}"}\n'
    )


def test_a_dump_of_kcat_is_read(tmp_path: Path) -> None:
    """Lines as kcat 1.7 writes them: more fields than we need, headers absent or with null values, null keys and payloads."""
    path = write(
        tmp_path / "dump.jsonl",
        [
            b'{"topic":"logins","partition":0,"offset":7,"tstype":"create","ts":1795342543120,"broker":1,"key":null,"payload":"{}"}\n',
            b'{"topic":"phone-links","partition":3,"offset":0,"tstype":"logappend","ts":5,"broker":1,'
            b'"headers":["a","b","c",null],"key":"+447700900123|acct-1","payload":null}',
        ],
    )
    first, second = read_log(path)
    assert (first.key, first.value, first.headers, first.offset, first.ts) == (None, b"{}", (), 7, 1_795_342_543_120)
    assert (second.key, second.value, second.headers) == (b"+447700900123|acct-1", None, (("a", b"b"), ("c", b"")))


def test_lines_written_by_hand_need_a_topic_and_a_time_only(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hand.jsonl",
        [
            {"topic": "logins", "ts": 1, "payload": "a"},
            {"topic": "logins", "ts": 2, "payload": "b"},
            b"\n",
            {"topic": "telephony", "ts": 3},
            {"topic": "logins", "ts": 4, "offset": 10, "payload_b64": "/w==", "key_b64": "/w=="},
            b"  \r\n",
            {"topic": "logins", "ts": 5, "headers": None},
            {"topic": "logins", "partition": 1, "ts": 6},
        ],
    )
    read = list(read_log(str(path)))
    assert shape(read) == [
        ("logins", 0, 0, 1),
        ("logins", 0, 1, 2),
        ("telephony", 0, 0, 3),
        ("logins", 0, 10, 4),
        ("logins", 0, 11, 5),
        ("logins", 1, 0, 6),
    ]
    assert (read[3].key, read[3].value) == (b"\xff", b"\xff")
    assert read[4].source == f"{path}:7"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not a record of the envelope"),
        (b"[]\n", "not a record of the envelope"),
        (b'{"topic":"logins"}\n', "missing required field `ts`"),
        (b'{"ts":1}\n', "missing required field `topic`"),
        (b'{"topic":"logins","ts":1.5}\n', "$.ts"),
        (b'{"topic":"logins","ts":1,"payload":{"phone":"+447700900123"}}\n', "$.payload"),
        (b'{"topic":"logins","ts":1,"payload_b64":"+447700900123!"}\n', "not base64"),
        (b'{"topic":"logins","ts":1,"payload":"\xff+447700900123"}\n', "not UTF-8"),
        (b'{"topic":"logins","ts":1,"headers":["a"]}\n', "flat list"),
        (b'{"topic":"logins","ts":1,"headers":[null,"+447700900123"]}\n', "flat list"),
        (b'{"x":' + b"[" * 100_000 + b"\n", "nested too deep"),
    ],
)
def test_a_broken_line_is_named_and_not_repeated(tmp_path: Path, line: bytes, complaint: str) -> None:
    path = write(tmp_path / "bad.jsonl", [{"topic": "logins", "ts": 1}, line])
    with pytest.raises(InvalidLog) as caught:
        list(read_log(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert complaint in str(caught.value)
    assert "7700900123" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_that_ends_too_soon_is_refused(tmp_path: Path, suffix: str) -> None:
    lines = [encode_line(LogRecord("logins", 0, n, n, None, os.urandom(30))) for n in range(20_000)]
    path = write(tmp_path / f"log.jsonl{suffix}", lines)
    whole = path.read_bytes()
    for cut in (1, 5, len(whole) // 2):
        path.write_bytes(whole[:-cut])
        with pytest.raises(InvalidLog, match=r"log\.jsonl\.\w+:[0-9]+: "):
            list(read_log(path))
    path.write_bytes(b"not compressed at all")
    with pytest.raises(InvalidLog, match=":1: the compressed file is damaged"):
        list(read_log(path))
    path.write_bytes(b"")
    assert list(read_log(path)) == []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_may_be_appended_to(tmp_path: Path, suffix: str) -> None:
    """Frames, or members, one behind the other, as a rotating writer leaves them; a line may reach across."""
    line = encode_line(record(1, offset=1))
    parts = [write(tmp_path / f"part{suffix}", [text]).read_bytes() for text in (line + line[:20], line[20:], line)]
    path = tmp_path / f"log.jsonl{suffix}"
    path.write_bytes(b"".join(parts))
    assert len(list(read_log(path))) == 3


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    for name in ("log.jsonl", "log.jsonl.gz", "log.jsonl.zst"):
        with pytest.raises(FileNotFoundError):
            list(read_log(tmp_path / name))


def test_files_are_merged_by_arrival(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", [encode_line(record(ts, "logins", offset=n)) for n, ts in enumerate([1, 4, 4, 9])])
    two = write(tmp_path / "2.jsonl.gz", [encode_line(record(ts, "telephony", offset=n)) for n, ts in enumerate([2, 4, 5])])
    three = write(tmp_path / "3.jsonl.zst", [])
    assert shape(merge_logs([one, two, three])) == [
        ("logins", 0, 0, 1),
        ("telephony", 0, 0, 2),
        ("logins", 0, 1, 4),
        ("logins", 0, 2, 4),
        ("telephony", 0, 1, 4),
        ("telephony", 0, 2, 5),
        ("logins", 0, 3, 9),
    ]
    assert list(merge_logs([])) == []


def test_where_time_goes_back_the_running_maximum_counts(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", [encode_line(record(ts, "logins", offset=n)) for n, ts in enumerate([10, 3, 30])])
    two = write(tmp_path / "2.jsonl", [encode_line(record(ts, "telephony", offset=n)) for n, ts in enumerate([5, 10, 20])])
    merged = shape(merge_logs([one, two]))
    assert [(topic, ts) for topic, _, _, ts in merged] == [
        ("telephony", 5),
        ("logins", 10),
        ("logins", 3),
        ("telephony", 10),
        ("telephony", 20),
        ("logins", 30),
    ]


steps = st.lists(st.integers(-3, 9), max_size=12)


@given(st.lists(steps, min_size=1, max_size=4))
def test_merging_keeps_each_files_order_and_the_order_of_arrival(folder: Path, files: list[list[int]]) -> None:
    paths = []
    expected = []
    for n, jumps in enumerate(files):
        arrivals = [100 + at for at in itertools.accumulate(jumps)]
        paths.append(write(folder / f"merge{n}.jsonl", [encode_line(record(ts, f"t{n}", offset=i)) for i, ts in enumerate(arrivals)]))
        latest = list(itertools.accumulate(arrivals, max))
        expected += [(latest[i], n, i) for i in range(len(arrivals))]
    merged = list(merge_logs(paths))
    assert [(int(r.topic[1:]), r.offset) for r in merged] == [(n, i) for _, n, i in sorted(expected)]


def test_a_dump_of_one_partition_after_the_other_is_refused(tmp_path: Path) -> None:
    """Read as it stands, what partition 1 holds would come hours after everything else; nobody would know why nothing was found."""
    hour = 3_600_000
    lines = [encode_line(record(p + n * hour, "logins", p, n)) for p in (0, 1) for n in range(3)]
    path = write(tmp_path / "dump.jsonl", lines)
    with pytest.raises(InvalidLog, match=r"dump\.jsonl:4: logins/1 lags 7199 s behind the lines above; write one file per partition"):
        list(merge_logs([path]))
    assert len(list(merge_logs([path], disorder_ms=None))) == 6


def test_disorder_within_the_slack_and_a_clock_that_was_set_back_pass(tmp_path: Path) -> None:
    slack = Policy().bounds.slack_s * 1000
    assert slack == DISORDER_MS
    within = [record(slack, "logins", 0), record(0, "logins", 1), record(slack * 9, "logins", 1), record(0, "logins", 1, 1)]
    path = write(tmp_path / "log.jsonl", [encode_line(r) for r in within])
    assert len(list(merge_logs([path]))) == 4


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        paths = []
        for n, suffix in enumerate(("", ".gz", ".zst")):
            lines = (encode_line(LogRecord("logins", n, i, i, None, b"x" * 200)) for i in range(count))
            paths.append(write(tmp_path / f"{count}-{n}.jsonl{suffix}", lines))
        tracemalloc.start()
        assert sum(1 for _ in merge_logs(paths)) == 3 * count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    small, large = peak(2_000), peak(20_000)  # 6 MB of lines in each file
    assert large < small + 500_000
