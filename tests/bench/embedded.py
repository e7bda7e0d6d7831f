"""How fast is replay, in this process and without a broker? And what does each stage add?"""

import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.replay.run import Replay, few_collections
from pipeline.wire.ingest import Addressed, Ingest
from pipeline.wire.log import merge_logs
from pipeline.wire.pseudonym import Pseudonyms
from tests.bench.figure import Figure

TIMES = 2  # how often each pass is run; the fastest counts


def timed(work: Callable[[], int]) -> tuple[float, int]:
    """The least time of a few runs (s), and what the last one returned."""
    least, result = float("inf"), 0
    for _ in range(TIMES):
        gc.collect()
        with few_collections():  # as Replay does, so that the passes compare
            began = perf_counter()
            result = work()
            least = min(least, perf_counter() - began)
    return least, result


def measure(log: Path) -> list[Figure]:
    """Throughput of the embedded driver; every pass does the work of the one before and one stage more."""
    policy, keys = Policy(), Pseudonyms.for_demo()

    def ingested() -> Iterator[Addressed]:
        read = Ingest(policy, keys).read
        for record in merge_logs([log]):
            yield from read(record.topic, record.value, record.ts)

    def routed() -> Iterator[object]:
        router, offset = Router(policy), 0
        for topic, _, event in ingested():
            if topic == "events":
                yield event
            else:
                yield from router.fold(offset, event)  # type: ignore[arg-type]
                offset += 1

    def folded() -> int:
        partition, outcomes = Partition(policy), 0
        for offset, event in enumerate(routed()):
            outcomes += len(partition.fold(offset, event))  # type: ignore[arg-type]
        return outcomes

    def whole() -> int:
        with tempfile.TemporaryDirectory() as folder:
            return Replay(policy, keys, Path(folder)).run(merge_logs([log])).events

    stages: list[tuple[str, Callable[[], int]]] = [
        ("read and merge the log", lambda: sum(1 for _ in merge_logs([log]))),
        ("ingest", lambda: sum(1 for _ in ingested())),
        ("route", lambda: sum(1 for _ in routed())),
        ("fold", folded),
        ("beats, encode and write", whole),
    ]
    figures, before, records, result = [], 0.0, 0, 0
    for name, work in stages:
        seconds, result = timed(work)
        records = records or result
        figures.append(Figure(f"  {name}", (seconds - before) / records * 1e6, "µs/record"))
        before = seconds
    note = f"from the file to the outputs; {result:,} events folded"
    return [Figure("replay, one process", records / before, "records/s", note=note), *figures]
