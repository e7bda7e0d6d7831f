"""What could not be read, and what was it? Dead letters of a replay on disk, with the records they refer to found again in the log."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pipeline.wire.dead_letter import DeadLetter, parse, unseal
from pipeline.wire.log import merge_logs, read_log


def read_letters(path: Path) -> Iterator[DeadLetter]:
    """Read ``dead-letters.jsonl``. Raises ValueError with file and line for a record that is no dead letter."""
    for record in read_log(path):
        try:
            yield parse(record.headers, record.key, record.value)
        except ValueError as e:
            raise ValueError(f"{record.source}: {e}") from None


def with_originals(letters: Sequence[DeadLetter], logs: Sequence[Path], private_key: bytes | None = None) -> list[DeadLetter]:
    """Fill in key, value and headers: unsealed where a private key is given, else from the records in the logs they refer to.

    A letter whose record is not in the logs stays as it is. Raises ValueError for a private key that does not fit.
    """
    opened = [unseal(letter, private_key) if letter.form == "sealed" and private_key is not None else letter for letter in letters]
    wanted = {(a.topic, a.partition, a.offset, a.timestamp) for a in opened if a.form == "reference"}
    found = {
        place: record
        for record in (merge_logs(logs, None) if logs and wanted else ())
        if (place := (record.topic, record.partition, record.offset, record.ts)) in wanted
    }
    return [
        msgspec.structs.replace(a, key=record.key, value=record.value, headers=record.headers)
        if (record := found.get((a.topic, a.partition, a.offset, a.timestamp))) and a.form == "reference"
        else a
        for a in opened
    ]
