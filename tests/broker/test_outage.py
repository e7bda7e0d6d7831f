"""Do two hours of traffic without a stage end like two hours with it? Catching up live, each stage alone and all of them."""

import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import pytest

from pipeline.core.events import CallChanged, LinkChanged, OtpEntered
from pipeline.core.policy import Campaigns, Policy
from pipeline.live.align import AHEAD_MS
from pipeline.simulate.run import simulate
from pipeline.wire.codec import decode_event, decode_line_event
from pipeline.wire.log import LogRecord, merge_logs
from tests.broker.assessed import Final, said_by, said_by_replay
from tests.broker.harness import Deployment
from tests.broker.verifier import STAGES, verify

pytestmark = pytest.mark.broker
HOUR_MS = 3_600_000
# Each stage dies early in the log: ingest after so many batches, the others after so many writes to their changelog, all of them small.
EARLY = {"ingest": ("before-settling", 300), "route": ("after-changelog", 150), "detect": ("after-changelog", 30)}
SMALL = 20


class Sparse(msgspec.Struct):
    """Two hours and more of little traffic, and what a replay says of it."""

    log: list[LogRecord]
    final: Final


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Sparse:
    """Some 7,000 raw records of 2.2 hours, the links of the phones in front of them."""
    out = tmp_path_factory.mktemp("sparse")
    simulate(7, 2000, 2.2, out, history_days=0, prior=0.05)
    log = list(merge_logs([Path(out / "log.jsonl")]))
    begin = next(record.ts for record in log if record.topic == "logins") - 60_000
    log = [msgspec.structs.replace(record, ts=max(record.ts, begin)) for record in log]
    # No worker counts campaigns here: their news would come behind the backlog, to codes that are settled (README, known gaps).
    without = Policy(campaigns=Campaigns(accounts=100, most=100))
    return Sparse(log, said_by_replay(log, out / "said", without))


@pytest.mark.parametrize(
    "down",
    [
        STAGES,
        pytest.param(("route",), marks=pytest.mark.soak),
        pytest.param(("ingest",), marks=pytest.mark.soak),
        pytest.param(("detect",), marks=pytest.mark.soak),
    ],
    ids="+".join,
)
def test_two_hours_without_a_stage_end_like_two_hours_with_it(
    deploy: Callable[..., Deployment], sparse: Sparse, down: Collection[str]
) -> None:
    live = deploy()
    live.load(sparse.log)
    first = "ingest" if "ingest" in down else next(iter(down))
    workers = {stage: live.start(stage) for stage in STAGES if stage != first}
    workers[first] = live.start(first, crash=("kill", *EARLY[first]), batch_records=SMALL)
    live.died(workers[first], first)
    for stage in set(down) - {first}:
        workers[stage].send_signal(signal.SIGKILL)
        workers[stage].wait(10)
    up = [stage for stage in STAGES if stage not in down]
    if up:
        live.settled(up, within_s=240)
    reached = last_arrival(live, first)
    assert reached < sparse.log[-1].ts - 9 * HOUR_MS // 5, "it was down for less than the traffic of two hours"
    begun = time.monotonic()
    for stage in down:
        workers[stage] = live.start(stage)
    live.settled(STAGES, within_s=240)
    print(f"two hours caught up in {time.monotonic() - begun:.1f} s, starts included")
    live.finish(workers, within_s=240)
    verify(live)
    assert said_by(live) == sparse.final
    assert len(sparse.final) > 150
    assert_calls_come_first(live)


def last_arrival(live: Deployment, stage: str) -> int:
    """The newest arrival among what a stage has committed (ms)."""
    read = {"lines": decode_line_event, "events": decode_event}
    committed = live.committed(stage)
    arrivals = [0]
    for topic in {topic for topic, _ in committed}:
        done = [kept for kept in live.read(topic) if kept.offset < committed.get((topic, kept.partition), 0)]
        decode = read.get(topic)
        arrivals += [kept.timestamp if decode is None else decode(kept.value or b"").arrived_at for kept in done]
    return max(arrivals)


def assert_calls_come_first(live: Deployment) -> None:
    """Assert that ingest has appended each call before the entries that arrived well after it, on the accounts of the line."""
    accounts: dict[str, set[str]] = {}
    calls: dict[str, tuple[int, int, str]] = {}
    entries: dict[str, list[tuple[int, int]]] = {}
    for kept in live.read("lines"):
        event = decode_line_event(kept.value or b"")
        if isinstance(event, LinkChanged):
            accounts.setdefault(event.line, set()).add(event.account_id)
        elif isinstance(event, CallChanged) and event.event_id not in calls:
            calls[event.event_id] = (event.arrived_at, kept.timestamp, event.line)
    seen: set[str] = set()
    for kept in live.read("events"):
        entry = decode_event(kept.value or b"")
        if isinstance(entry, OtpEntered) and entry.event_id not in seen:
            seen.add(entry.event_id)
            entries.setdefault(entry.account_id, []).append((entry.arrived_at, kept.timestamp))
    compared = 0
    for arrived_at, appended_at, line in calls.values():
        for account in accounts.get(line, ()):
            for entry_arrived_at, entry_appended_at in entries.get(account, ()):
                if arrived_at + 2 * AHEAD_MS < entry_arrived_at:
                    compared += 1
                    assert appended_at <= entry_appended_at, f"an entry of {account} overtook a call"
    assert compared > 100
