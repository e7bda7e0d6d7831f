"""What is in a flat Parquet file? Columns of 64-bit numbers, for the public tables that benchmarks read; nothing else of the format.

Reads what pandas and Arrow write by default: data pages of version 1, plain or dictionary-encoded, uncompressed or Zstandard. That
spares everybody a dependency of 45 MB for one file. After the Apache Parquet format specification, 2.x.
"""

from array import array
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

import zstandard

MAGIC = b"PAR1"
TYPE_CODES = {2: "q", 5: "d"}  # INT64, DOUBLE
UNCOMPRESSED, ZSTD = 0, 6
PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8
DATA_PAGE, DICTIONARY_PAGE = 0, 2


class UnreadableTable(Exception):
    """The file is not Parquet, or of a kind that is not read here."""


class Compact:
    """Thrift's compact protocol: enough to read Parquet's headers as {field number: value}."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def varint(self) -> int:
        out = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            out |= (byte & 0x7F) << shift
            if byte < 0x80:
                return out
            shift += 7

    def zigzag(self) -> int:
        n = self.varint()
        return (n >> 1) ^ -(n & 1)

    def value(self, kind: int) -> Any:
        if kind in (1, 2):  # true, false
            return kind == 1
        if kind == 3:
            self.at += 1
            return self.data[self.at - 1]
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            self.at += 8
            return array("d", self.data[self.at - 8 : self.at])[0]
        if kind == 8:
            length = self.varint()
            self.at += length
            return self.data[self.at - length : self.at]
        if kind in (9, 10):
            head = self.data[self.at]
            self.at += 1
            count = head >> 4 if head >> 4 != 15 else self.varint()
            return [self.value(head & 15) for _ in range(count)]
        if kind == 12:
            return self.struct()
        raise UnreadableTable(f"Thrift type {kind}")

    def struct(self) -> dict[int, Any]:
        out: dict[int, Any] = {}
        number = 0
        while (head := self.data[self.at]) != 0:
            self.at += 1
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            out[number] = self.value(head & 15)
        self.at += 1
        return out


def hybrid(data: bytes, at: int, width: int, count: int) -> list[int]:
    """``count`` integers of ``width`` bits, in runs of one value and packed groups of eight."""
    out: list[int] = []
    reader = Compact(data, at)
    mask = (1 << width) - 1
    while len(out) < count:
        head = reader.varint()
        if head & 1:
            for _ in range(head >> 1):
                eight = int.from_bytes(data[reader.at : reader.at + width], "little")
                reader.at += width
                out += [(eight >> (i * width)) & mask for i in range(8)]
        else:
            size = (width + 7) // 8
            out += [int.from_bytes(data[reader.at : reader.at + size], "little")] * (head >> 1)
            reader.at += size
    return out[:count]


def read_columns(path: Path, names: Collection[str]) -> dict[str, list[float | int | None]]:
    """Read the named columns; None where a value is null. Raises UnreadableTable, OSError, and KeyError for a column that is not there."""
    data = path.read_bytes()
    if data[:4] != MAGIC or data[-4:] != MAGIC:
        raise UnreadableTable("not a Parquet file")
    try:
        footer = Compact(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little")).struct()
        optional = {e[4].decode(): e.get(3, 0) == 1 for e in footer[2]}
        groups = [{chunk[3][3][0].decode(): chunk[3] for chunk in group[1]} for group in footer[4]]
        missing = [name for name in names if name not in optional]
        found = {name: [v for chunks in groups for v in chunk_values(data, chunks[name], optional[name])] for name in names if not missing}
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, zstandard.ZstdError) as e:
        raise UnreadableTable(f"damaged: {e}") from None
    if missing:
        raise KeyError(missing[0])
    return found


def chunk_values(data: bytes, chunk: dict[int, Any], optional: bool) -> list[float | int | None]:
    """All values of one column in one row group."""
    code, codec = TYPE_CODES.get(chunk[1]), chunk[4]
    if code is None or codec not in (UNCOMPRESSED, ZSTD):
        raise UnreadableTable(f"column {chunk[3][0].decode()}: type {chunk[1]}, codec {codec}")
    at = min(chunk.get(11) or chunk[9], chunk[9])
    dictionary = array(code)
    out: list[float | int | None] = []
    while len(out) < chunk[5]:
        reader = Compact(data, at)
        header = reader.struct()
        page = data[reader.at : reader.at + header[3]]
        at = reader.at + header[3]
        if codec == ZSTD:
            page = zstandard.ZstdDecompressor().decompress(page, max_output_size=header[2])
        if header[1] == DICTIONARY_PAGE:
            dictionary = array(code, page)
        elif header[1] == DATA_PAGE:
            values = page_values(page, header[5], code, dictionary, optional)
            if not values:
                raise UnreadableTable("an empty page")
            out += values
        else:
            raise UnreadableTable(f"page type {header[1]}")
    return out


def page_values(page: bytes, header: dict[int, Any], code: str, dictionary: "array[Any]", optional: bool) -> list[float | int | None]:
    count, encoding, at = header[1], header[2], 0
    there = [1] * count
    if optional:
        at = 4 + int.from_bytes(page[:4], "little")
        there = hybrid(page, 4, 1, count)
    if encoding == PLAIN:
        values = array(code, page[at : at + 8 * sum(there)]).tolist()
    elif encoding in (PLAIN_DICTIONARY, RLE_DICTIONARY):
        values = [dictionary[i] for i in hybrid(page, at + 1, page[at], sum(there))]
    else:
        raise UnreadableTable(f"encoding {encoding}")
    given = iter(values)
    return [next(given) if t else None for t in there] if sum(there) < count else list(islice(given, count))
