"""What does an event cost as the bank and its past grow? The fold in this process, with few and many accounts, short and long histories."""

import gc
import tempfile
from pathlib import Path
from statistics import median
from time import process_time

from pipeline.core.events import AccountEvent
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.replay.run import few_collections
from tests.bench import traffic
from tests.bench.accounts import Bank, bank, many, next_of
from tests.bench.figure import Figure, held

SIZES = (10_000, 100_000, 1_000_000)
DAYS = (2, 14, 45)
ACCOUNTS = 1_000
BATCH = 4_000  # events between two writes of what changed
TIMES = 3


def measure() -> list[Figure]:
    """Microseconds an event: by accounts known, and by days of history."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        known = bank(traffic.SEED, ACCOUNTS, 14, Path(folder))
        base = 0.0
        for size in SIZES:
            cost = _cost(known, size)
            base = base or cost
            figure = Figure(f"fold, {size:,} accounts known", cost, "µs/event", cost / base, note=f"{len(known.next):,} events")
            figures.append(held(figure, "below", 2 * base) if size == SIZES[-1] else figure)
        base = 0.0
        for days in DAYS:
            cost = _cost(bank(traffic.SEED, ACCOUNTS // 4, days, Path(folder)), 10_000)
            base = base or cost
            figure = Figure(
                f"fold, {days} days of history", cost, "µs/event", cost / base, note=f"{ACCOUNTS // 4:,} accounts, laid over one another"
            )
            figures.append(held(figure, "below", 2 * base) if days == DAYS[-1] else figure)
    return figures


def _cost(known: Bank, accounts: int) -> float:
    """Processor time to fold an event and write down what changed, in a partition with so many accounts (µs); the median of some runs."""
    partition = Partition(Policy())
    for name, state in many(known, accounts):
        partition.restore(name, state)
    partition.fold(0, known.beat)
    partition.changes()
    costs, offset = [], 1
    for turn in range(TIMES):
        events = next_of(known, accounts, turn)
        gc.collect()
        with few_collections():
            began = process_time()
            offset = _fold(partition, offset, events)
            costs.append((process_time() - began) / len(events) * 1e6)
    return median(costs)


def _fold(partition: Partition, offset: int, events: list[AccountEvent]) -> int:
    for start in range(0, len(events), BATCH):
        for event in events[start : start + BATCH]:
            partition.fold(offset, event)
            offset += 1
        partition.changes()
    return offset
