"""What does it cost to keep cold accounts on disk, and what does it save? The fold in a process of its own with either store."""

import gc
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.store import Encoded
from pipeline.live.disk_store import on_disk
from pipeline.live.folding import in_memory
from pipeline.replay.run import few_collections
from pipeline.settings import Settings
from tests.bench import traffic
from tests.bench.accounts import Bank, bank, many, next_of
from tests.bench.deployed import memory_of
from tests.bench.figure import Figure

ACCOUNTS = 200_000
BANK = 500
HISTORY_DAYS = 14
BATCH = 4_000  # events between two writes of what changed
STORES = ("memory", "disk")


class Cost(NamedTuple):
    """Seconds to restore an account and to fold an event (processor time of the process), and bytes of memory an account."""

    restore_s: float
    event_s: float
    encoded: float
    resident: float


def measure() -> list[Figure]:
    """What this module says as a program: a process that has measured other things has memory to give that would count as none."""
    said = subprocess.run([sys.executable, "-m", __spec__.name], check=True, stdout=subprocess.PIPE)
    return [Figure(note=f"{ACCOUNTS:,} accounts", **json.loads(line)) for line in said.stdout.splitlines()]


def compared(accounts: int) -> list[Figure]:
    """With either store: microseconds to restore an account and to fold an event, bytes of memory an account; disk beside memory."""
    with tempfile.TemporaryDirectory() as folder:
        known = bank(traffic.SEED, BANK, HISTORY_DAYS, Path(folder))
    found = {store: _apart(store, known, accounts) for store in STORES}
    base = found["memory"]
    figures = [Figure("state, encoded", base.encoded, "B/account")]
    for store, cost in found.items():
        figures += [
            Figure(f"store {store}: restore", cost.restore_s * 1e6, "µs/account", cost.restore_s / base.restore_s),
            Figure(f"store {store}: fold", cost.event_s * 1e6, "µs/event", cost.event_s / base.event_s),
            Figure(f"store {store}: memory", cost.resident, "B/account", cost.resident / base.resident),
        ]
    return figures


def _apart(store: str, known: Bank, accounts: int) -> Cost:
    """Measure in a process of its own, which shares what is known and nothing else."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(store, known, accounts, sender))
    child.start()
    sender.close()
    cost: Cost = receiver.recv()
    child.join()
    return cost


def _measure(store: str, known: Bank, accounts: int, sender: Connection) -> None:
    gc.collect()
    gc.freeze()
    before = memory_of(multiprocessing.current_process().pid or 0)
    with on_disk("") if store == "disk" else nullcontext(in_memory) as place:
        sender.send(_cost(place, known, accounts, before))


def _cost(place: Callable[[str, int], Encoded], known: Bank, accounts: int, before: int) -> Cost:
    partition = Partition(Policy(), Settings().cached_accounts, lambda: place("detect", 0))
    encoded, spent = 0, 0.0
    for name, state in many(known, accounts):
        encoded += len(state)
        began = time.process_time()
        partition.restore(name, state)
        spent += time.process_time() - began
    partition.fold(0, known.beat)
    partition.changes()
    events = next_of(known, accounts, 1)
    with few_collections():
        began = time.process_time()
        for start in range(0, len(events), BATCH):
            for number, event in enumerate(events[start : start + BATCH], start + 1):
                partition.fold(number, event)
            partition.changes()
        folded = time.process_time() - began
    gc.collect()
    resident = memory_of(multiprocessing.current_process().pid or 0) - before
    partition.drop()
    return Cost(spent / accounts, folded / len(events), encoded / accounts, resident / accounts)


if __name__ == "__main__":
    for figure in compared(int(sys.argv[1]) if len(sys.argv) > 1 else ACCOUNTS):
        print(json.dumps({"name": figure.name, "value": round(figure.value, 2), "unit": figure.unit, "ratio": figure.ratio}))
