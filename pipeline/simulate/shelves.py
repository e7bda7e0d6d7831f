"""How are millions of records put in order of arrival without holding them all: shelves by hour, on disk once they are many."""

import gzip
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast
from zlib import crc32

import msgspec
import orjson
import zstandard

from pipeline.simulate.chance import HOUR

Compression = Literal["", "gz", "zst"]
Shelved = tuple[int, int, str, str, bytes | None]  # arrives, running number, topic, key, value
IN_MEMORY = 150_000  # records, some 80 MB


class Shelves:
    """Takes records in any order, gives them back by arrival (ties in the order in which they came)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shelves: dict[int, list[Shelved]] = defaultdict(list)
        self.on_disk: set[int] = set()
        self.held = 0
        self.count = 0

    def put(self, arrives: int, topic: str, key: str, value: bytes | None) -> None:
        self.count += 1
        self.held += 1
        self.shelves[arrives // HOUR].append((arrives, self.count, topic, key, value))
        if self.held >= IN_MEMORY:
            self._to_disk()

    def _to_disk(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for hour, rows in self.shelves.items():
            block = msgspec.msgpack.encode(rows)
            with self._file(hour).open("ab") as f:
                f.write(len(block).to_bytes(8, "big"))
                f.write(block)
            self.on_disk.add(hour)
        self.shelves.clear()
        self.held = 0

    def _file(self, hour: int) -> Path:
        return self.folder / f"{hour}.shelf"

    def in_order(self) -> Iterator[list[Shelved]]:
        """Give the shelves one after the other, sorted, and remove what was on disk."""
        read = msgspec.msgpack.Decoder(list[Shelved])
        for hour in sorted(self.on_disk | self.shelves.keys()):
            rows = self.shelves.pop(hour, [])
            if hour in self.on_disk:
                data = memoryview(self._file(hour).read_bytes())
                at = 0
                while at < len(data):
                    size = int.from_bytes(data[at : at + 8], "big")
                    rows += read.decode(data[at + 8 : at + 8 + size])
                    at += 8 + size
                self._file(hour).unlink()
            rows.sort(key=lambda r: r[:2])
            yield rows
        if self.on_disk:
            self.folder.rmdir()


@contextmanager
def opened(path: Path, compression: Compression) -> Iterator[IO[bytes]]:
    """Open for writing; the same bytes every time, so no file name or clock in a header."""
    with path.open("wb") as raw:
        if compression == "gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=4, mtime=0) as z:
                yield cast("IO[bytes]", z)
        elif compression == "zst":
            with zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False) as w:
                yield cast("IO[bytes]", w)
        else:
            yield raw


class LogWriter:
    """Writes records in the envelope of ``kcat -C -J``, with the partition and offset that a broker would give them."""

    def __init__(self, out: IO[bytes], partitions: int) -> None:
        self.out = out
        self.partitions = partitions
        self.next_offset: dict[tuple[str, int], int] = defaultdict(int)
        self.first: int | None = None
        self.last: int | None = None

    def write(self, rows: list[Shelved]) -> None:
        lines: list[bytes] = []
        offsets, n = self.next_offset, self.partitions
        for arrives, _, topic, key, value in rows:
            partition = crc32(key.encode()) % n  # as librdkafka's default does
            offset = offsets[topic, partition]
            offsets[topic, partition] = offset + 1
            lines.append(
                b'{"topic":"%b","partition":%d,"offset":%d,"tstype":"logappend","ts":%d,"headers":null,"key":"%b",%b}\n'
                % (topic.encode(), partition, offset, arrives, key.encode(), _payload(value))
            )
        if rows:
            self.first = rows[0][0] if self.first is None else self.first
            self.last = rows[-1][0]
        self.out.write(b"".join(lines))


def _payload(value: bytes | None) -> bytes:
    if value is None:
        return b'"payload":null'
    try:
        return b'"payload":' + orjson.dumps(value.decode())
    except UnicodeDecodeError:  # kcat cannot carry it; contract.md's extension can
        return b'"payload_b64":' + msgspec.json.encode(value)
