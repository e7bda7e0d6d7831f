"""Where do a run's records go? One file per output topic, in the envelope of a dump, and a summary that is the same every time."""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from pipeline.core.events import Ms
from pipeline.wire.codec import OutRecord
from pipeline.wire.log import LogRecord, encode_line

TOPICS = ("alerts", "decisions", "holds", "examples", "dead-letters")
_BUFFER = 1 << 20


class Outputs:
    """Write outcome records to ``<topic>.jsonl``, offsets counted from 0. What an earlier run left there is replaced."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "summary.json").unlink(missing_ok=True)  # it is written last, and must not outlive the records it is about
        self._files: dict[str, BinaryIO] = {topic: (folder / f"{topic}.jsonl").open("wb", buffering=_BUFFER) for topic in TOPICS}
        self._offsets = dict.fromkeys(TOPICS, 0)

    def write(self, record: OutRecord, ts: Ms) -> None:
        """Append one record; ``ts`` is its time (ms)."""
        topic = record.topic
        offset = self._offsets[topic]
        self._offsets[topic] = offset + 1
        self._files[topic].write(encode_line(LogRecord(topic, 0, offset, ts, record.key, record.value, record.headers)))

    def finish(self, summary: msgspec.Struct) -> None:
        """Write ``summary.json`` and close everything."""
        self.close()
        text = msgspec.json.format(msgspec.json.encode(summary, order="deterministic"), indent=2)
        (self.folder / "summary.json").write_bytes(text + b"\n")

    def close(self) -> None:
        """Close the files; what was written stays."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
