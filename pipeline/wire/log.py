"""How does a Kafka log look on disk? One line per record in the envelope of ``kcat -C -J``, read, written and merged by arrival."""

import gzip
import heapq
import io
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import orjson
import zstandard

from pipeline.core.events import Ms

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DISORDER_MS = 300_000  # the slack that the fold allows between stages (Policy.bounds.slack_s); arrivals disordered by less change nothing


class InvalidLog(ValueError):
    """A log file cannot be read; the message begins with ``file:line``."""


class LogRecord(msgspec.Struct, frozen=True):
    """One Kafka record. ``ts`` is its arrival; ``source`` is ``file:line``, empty for a record that was not read from a file."""

    topic: str
    partition: int
    offset: int
    ts: Ms
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    source: str = ""


class _Envelope(msgspec.Struct):
    topic: str
    ts: int
    partition: int = 0
    offset: int | None = None
    headers: list[str | None] | None = None
    key: str | None = None
    payload: str | None = None
    payload_b64: str | None = None
    key_b64: str | None = None
    headers_b64: list[str] | None = None  # names as they are, values in base64: when one of them is not UTF-8


_PACKED = 1 << 11  # bytes of a zstd file unpacked at a time: logs shrink tenfold, a log of one line repeated a thousandfold
_decode = msgspec.json.Decoder(_Envelope).decode


def read_log(path: str | Path) -> Iterator[LogRecord]:
    """Read a ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst`` file, line by line.

    A line without an offset gets the next one of its topic and partition. Empty lines are skipped. Raises InvalidLog for a line that is
    no envelope and for a compressed file that ends too soon, OSError for a file that cannot be opened.
    """
    name = str(path)
    number = 0
    following: dict[tuple[str, int], int] = {}
    try:
        with _open(Path(path)) as lines:
            for number, line in enumerate(lines, 1):
                if line.isspace():
                    continue
                yield _record(line, f"{name}:{number}", following)
    except (EOFError, gzip.BadGzipFile, zstandard.ZstdError) as e:
        raise InvalidLog(f"{name}:{number + 1}: the compressed file is damaged or ends too soon") from e


def encode_line(record: LogRecord) -> bytes:
    """Write one record as a line; what is not UTF-8 goes into ``key_b64``, ``payload_b64`` or ``headers_b64``."""
    line: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "tstype": "logappend",
        "ts": record.ts,
    }
    if record.headers:
        try:
            line["headers"] = [part for name, value in record.headers for part in (name, value.decode())]
        except UnicodeDecodeError:
            line["headers_b64"] = [part for name, value in record.headers for part in (name, b64encode(value).decode())]
    _put(line, "key", record.key)
    _put(line, "payload", record.value)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def merge_logs(paths: Iterable[str | Path], disorder_ms: Ms | None = DISORDER_MS) -> Iterator[LogRecord]:
    """Merge log files by arrival, holding one record of each: memory does not grow with the log.

    The order of lines within a file stands, and so does the offset order within its partitions: where ``ts`` goes back, the running
    maximum of the file counts. Of files with the same arrival the one named first goes first. A file of several partitions must
    therefore be written roughly by arrival. Raises InvalidLog where a partition lags more than ``disorder_ms`` behind its file: that is
    a dump of one partition after the other, whose records would be read far too late (None: let it pass).
    """
    streams = [_by_arrival(read_log(path), n, disorder_ms) for n, path in enumerate(paths)]
    for _, _, record in heapq.merge(*streams, key=_arrival):
        yield record


def _arrival(item: tuple[Ms, int, LogRecord]) -> tuple[Ms, int]:
    return item[:2]


def _by_arrival(records: Iterator[LogRecord], file: int, disorder_ms: Ms | None) -> Iterator[tuple[Ms, int, LogRecord]]:
    newest: dict[tuple[str, int], Ms] = {}
    latest: Ms | None = None
    for record in records:
        ts = record.ts
        if latest is None or ts >= latest:
            latest = ts
        if disorder_ms is not None:
            place = (record.topic, record.partition)
            if ts < latest:
                reached = max(ts, newest.get(place, ts))
                if latest - reached > disorder_ms:
                    behind = (latest - reached) // 1000
                    raise InvalidLog(
                        f"{record.source}: {record.topic}/{record.partition} lags {behind} s behind the lines above; "
                        "write one file per partition, or one file in the order of arrival"
                    )
                newest[place] = reached
            else:
                newest[place] = ts
        yield latest, file, record


def _record(line: bytes, source: str, following: dict[tuple[str, int], int]) -> LogRecord:
    try:
        e = _decode(line)
        key = e.key.encode() if e.key is not None else b64decode(e.key_b64, validate=True) if e.key_b64 is not None else None
        value = (
            e.payload.encode() if e.payload is not None else b64decode(e.payload_b64, validate=True) if e.payload_b64 is not None else None
        )
        headers = _headers(e) if e.headers or e.headers_b64 else ()
    except (msgspec.DecodeError, RecursionError, UnicodeError, Base64Error) as error:
        raise InvalidLog(f"{source}: {_complaint(error)}") from None
    place = (e.topic, e.partition)
    offset = e.offset if e.offset is not None else following.get(place, 0)
    following[place] = offset + 1
    return LogRecord(e.topic, e.partition, offset, e.ts, key, value, headers, source)


def _headers(e: _Envelope) -> tuple[tuple[str, bytes], ...]:
    flat: list[str | None]
    if e.headers_b64:
        flat, as_base64 = list(e.headers_b64), True
    else:
        flat, as_base64 = e.headers or [], False
    if len(flat) % 2 or None in flat[::2]:
        raise msgspec.ValidationError("headers are not a flat list of names and values")
    return tuple(
        (name or "", b64decode(value or "", validate=True) if as_base64 else (value or "").encode())
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    )


def _complaint(error: Exception) -> str:
    """Say what is wrong with a line; the decoder's own words name fields and types, and no content: the envelope has no closed lists."""
    match error:
        case Base64Error():
            return "not base64"
        case UnicodeError():
            return "not UTF-8"
        case RecursionError():
            return "nested too deep"
        case _:
            return f"not a record of the envelope: {error}"


def _put(line: dict[str, object], field: str, value: bytes | None) -> None:
    if value is None:
        line[field] = None
        return
    try:
        line[field] = value.decode()
    except UnicodeDecodeError:
        line[f"{field}_b64"] = b64encode(value).decode()


def _open(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".zst":
        return io.BufferedReader(_ZstdFile(path), buffer_size=1 << 18)
    return path.open("rb")


class _ZstdFile(io.RawIOBase):
    """The content of a zstd file of one or more frames; EOFError where the last one is cut off (the library's own reader is silent)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False
        self._packed = b""
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        while not self._left:
            if not self._packed:
                self._packed = self._file.read(_PACKED)
            if not self._packed:
                if self._begun:
                    raise EOFError
                return 0
            self._left = memoryview(self._frame.decompress(self._packed))
            self._begun = not self._frame.eof
            self._packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        into = memoryview(buffer).cast("B")
        n = min(len(into), len(self._left))
        into[:n] = self._left[:n]
        self._left = self._left[n:]
        return n

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
