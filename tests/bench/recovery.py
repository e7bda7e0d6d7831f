"""How soon is a worker back, and how much memory does it take? A changelog of a million accounts, and the detect worker that reads it."""

import asyncio
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pipeline.core import timeline as timelines
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.events import CallChanged, OtpDispatched
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.live.changelog import CLOCK, encode_key, encode_value
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.live.partitioner import Partitioner
from tests.bench import traffic
from tests.bench.accounts import Bank, bank, many
from tests.bench.deployed import PARTITIONS, Broker, memory_of, running
from tests.bench.figure import Figure, held
from tests.broker.harness import Deployment

ACCOUNTS = 1_000_000
BANK = 1_000
HISTORY_DAYS = 14
CHUNK = 20_000
EPOCH = 1
NOTHING = -1  # the input offset the state speaks for: none, so that an empty input fits it


def measure() -> list[Figure]:
    """Time from the start of a worker until it has claimed its partitions, its memory then, and bytes an account."""
    with tempfile.TemporaryDirectory() as folder:
        known = bank(traffic.SEED, BANK, HISTORY_DAYS, Path(folder))
    figures: list[Figure] = []
    with running() as broker:
        empty, _ = _restored(broker, known, 0)
        memory, seconds = _restored(broker, known, ACCOUNTS)
    each = (memory - empty) / ACCOUNTS
    note = f"{PARTITIONS} partitions, one process, its start included; accounts after {HISTORY_DAYS} days of a simulated bank"
    figures.append(held(Figure(f"{ACCOUNTS:,} accounts from the changelog", seconds, "s", note=note), "below", 30))
    note = f"{each:,.0f} bytes an account above the {empty / 1e6:.0f} MB of an empty worker"
    figures.append(held(Figure(f"resident memory with {ACCOUNTS:,} accounts", memory / 1e9, "GB", note=note), "below", 2))
    sizes = sorted(len(timelines.encode(t)) for t in known.timelines)
    for name, share in (("quiet", 0.1), ("typical", 0.5), ("busy", 0.99)):
        figures.append(Figure(f"  encoded, {name} account", sizes[int(share * len(sizes))], "bytes", note=f"at {share:.0%} of all"))
    figures.append(
        Figure("  not packed, the busiest the policy allows for", _fullest(), "bytes", note="recent events and peers at their bounds")
    )
    return figures


def _restored(broker: Broker, known: Bank, number: int) -> tuple[float, float]:
    """Resident memory (bytes) of a worker that has restored so many accounts, and how long that took (s)."""
    live = broker.deployment(f"bench-{uuid.uuid4().hex[:6]}.")
    try:
        changelog = live.prefix + "detect-state"
        asyncio.run(_fill(live, changelog, known, number))
        before = broker.count(changelog)
        began = time.time()
        worker = live.start("detect")
        broker.wait(changelog, before + PARTITIONS)  # the claims
        seconds = max(last for _, last in broker.ends(changelog)) / 1000 - began
        time.sleep(1)
        memory = memory_of(worker.pid)
        live.stop(worker)
        return memory, seconds
    finally:
        live.close()


async def _fill(live: Deployment, changelog: str, known: Bank, number: int) -> None:
    """Write the states of accounts and the clocks as their last owner would have left them."""
    partitioner = Partitioner(PARTITIONS)
    clock = Partition(Policy())
    clock.fold(0, known.beat)
    async with Outbox({"bootstrap_servers": live.bootstrap}) as outbox:
        places: dict[tuple[str, int], list[Outgoing]] = {}
        for count, (account, state) in enumerate(many(known, number), 1):
            record = Outgoing(encode_key(account, EPOCH), encode_value(NOTHING, state))
            places.setdefault((changelog, partitioner(account.encode())), []).append(record)
            if not count % CHUNK:
                await outbox.send(places)
                places = {}
        for p in range(PARTITIONS):
            places.setdefault((changelog, p), []).append(Outgoing(encode_key(CLOCK, EPOCH), encode_value(NOTHING, clock.clock())))
        await outbox.send(places)


def _fullest() -> int:
    """Size, before packing, of an account whose recent events and peers are at the policy's bounds, its codes coming all the time."""
    policy = Policy()
    detector, timeline = Detector(policy), new_timeline("a-busy-account")
    at = 1_800_000_000_000
    number = 0

    def happen(make: Callable[[str, int], CallChanged | OtpDispatched]) -> None:
        nonlocal timeline, number, at
        number, at = number + 1, at + 10_000
        timeline, _ = detector.step(timeline, make(f"event-{number:08d}", at))

    for _ in range(3 * policy.bounds.recent_events):
        happen(
            lambda name, now: CallChanged(
                event_id=name, account_id="a-busy-account", occurred_at=now, arrived_at=now, line="k1:0123456789012345678901",
                call_id=name, state="answered", direction="inbound", source="carrier", peer=(f"k1:{name:>022}",), attestation="C",
            )
        )  # fmt: skip
        happen(
            lambda name, now: OtpDispatched(
                event_id=name, account_id="a-busy-account", occurred_at=now, arrived_at=now, otp_id=name, channel="sms", purpose="login",
                initiated_by="customer", session_id=name, line="k1:0123456789012345678901", sender=("k1:0123456789012345678901",),
            )
        )  # fmt: skip
    return len(timelines.plain(timeline))
