"""Health: alive is progress against lag, ready is everything restored; and the listener tells both on the loopback address."""

import asyncio
import socket
import threading
import urllib.request

import aiohttp
import msgspec
import pytest

from pipeline.live import metrics
from pipeline.live.app import REQUEST_TIMEOUT_S
from pipeline.live.health import RESTORE_STALLED_S, UNSEEN_S, Health, Listener, State
from pipeline.live.models import PATIENCE_S
from pipeline.live.outbox import ANSWER_S


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_alive_is_progress_against_lag() -> None:
    clock = Clock()
    health = Health(clock, stalled_s=60)
    health.assigned("detect", "events", 0, restored=True)
    health.observed("detect", "events", 0, position=10, end=10)
    clock.now += 3600
    assert health.alive().ok, "an idle partition is alive for ever"
    health.observed("detect", "events", 0, position=10, end=25)
    clock.now += 59
    assert health.alive().ok, "the age counts from when there was something to do, not from the last commit"
    clock.now += 2
    assert health.alive() == State(False, ("detect: events-0 has 15 records to read and has not moved for 61 s",))
    health.observed("detect", "events", 0, position=11, end=90)
    assert health.alive().ok, "slow is not dead"


def test_age_is_measured_as_a_metric() -> None:
    clock = Clock()
    health = Health(clock)
    labels = {"stage": "route", "topic": "lines", "partition": "3"}
    health.assigned("route", "lines", 3, restored=True)
    health.observed("route", "lines", 3, position=5, end=9)
    clock.now += 12
    health.observed("route", "lines", 3, position=5, end=9)
    assert metrics.REGISTRY.get_sample_value("offhook_lag_records", labels) == 4
    assert metrics.REGISTRY.get_sample_value("offhook_commit_age_seconds", labels) == 12
    health.revoked("route", "lines", 3)
    assert metrics.REGISTRY.get_sample_value("offhook_lag_records", labels) is None, "what is not ours is not reported"


def test_ready_when_all_is_restored() -> None:
    health = Health(Clock())
    health.expect("detect")
    assert health.ready().problems == ("detect: no assignment yet",)
    health.assigned("detect", "events", 0)
    health.assigned("detect", "events", 1)
    health.restored("detect", "events", 0)
    assert health.ready().problems == ("detect: events-1 is being restored",)
    health.restored("detect", "events", 1)
    health.restored("detect", "events", 7)
    assert health.ready().ok
    health.revoked("detect", "events", 0)
    health.revoked("detect", "events", 0)
    health.revoked("detect", "events", 1)
    assert health.ready().ok, "a standby without partitions is ready"


def test_an_empty_assignment_is_one() -> None:
    health = Health(Clock())
    health.expect("detect")
    health.joined("detect")
    assert health.ready().ok


def test_only_essential_feeds_make_a_worker_unready() -> None:
    health = Health(Clock())
    health.suspended("telephony", "t.telephony")
    assert health.ready().ok, "without calls, alerts say so; logins and codes still matter"
    assert metrics.REGISTRY.get_sample_value("offhook_feed_suspended", {"feed": "telephony"}) == 1
    health.suspended("otp-entries", "t.otp-entries")
    assert health.ready().problems == ("the feed otp-entries is suspended",)
    health.suspended("otp-entries", "t.otp-entries", False)
    assert health.ready().ok


def test_a_topic_that_waits_because_its_feed_is_suspended_does_not_stand_still() -> None:
    clock = Clock()
    health = Health(clock, stalled_s=60)
    health.assigned("ingest", "t.telephony", 0, restored=True)
    health.suspended("telephony", "t.telephony")
    for _ in range(40):
        health.observed("ingest", "t.telephony", 0, position=7, end=1_000)
        clock.now += 5
        assert health.alive().ok, "a restart would not help the producer"
    health.suspended("telephony", "t.telephony", False)
    for _ in range(14):
        health.observed("ingest", "t.telephony", 0, position=7, end=1_000)
        clock.now += 5
    assert not health.alive().ok


def test_restoring_is_not_stalling_as_long_as_something_is_read() -> None:
    clock = Clock()
    health = Health(clock, stalled_s=60)
    for partition in range(9):  # most of them wait for their turn
        health.assigned("detect", "events", partition)
    for _ in range(3600 // 240):
        health.observed("detect", "events", 0, position=0, end=1_000_000)
        clock.now += 240
        assert health.alive().ok, "slow is not dead, and what waits for its turn is not either"
        health.progressed("detect", 2_000)
    for partition in range(1, 9):
        health.restored("detect", "events", partition)
    clock.now += RESTORE_STALLED_S
    assert health.alive().ok, "to have restored another one is progress"


def test_a_restore_that_reads_nothing_is_not_alive() -> None:
    clock = Clock()
    health = Health(clock, stalled_s=60)
    health.assigned("detect", "events", 0)
    health.assigned("detect", "events", 3)
    clock.now += 100
    health.restored("detect", "events", 0)
    health.assigned("learn", "examples", 0)
    for _ in range(150):
        clock.now += 2
        health.observed("detect", "events", 0, position=9, end=9)
        health.observed("detect", "events", 3, position=5, end=5)  # nothing new comes: that says nothing of the restore
        health.progressed("learn", 2_000)
        assert health.alive().ok
    clock.now += 1
    hung = "detect: events-3 is being restored, and no restore of this stage has read anything for 301 s"
    assert health.alive() == State(False, (hung,)), "what another stage reads is not its progress"
    health.assigned("detect", "events", 3)
    assert health.alive().ok, "an assignment begins a restore anew"
    clock.now += RESTORE_STALLED_S + 1
    assert health.alive().problems[0] == hung
    health.revoked("detect", "events", 3)
    health.restored("learn", "examples", 0)
    assert health.alive().ok


def test_a_restore_may_wait_for_a_batch_whose_sends_are_given_up_one_after_the_other() -> None:
    assert RESTORE_STALLED_S > 2 * ANSWER_S + PATIENCE_S + REQUEST_TIMEOUT_S


def test_what_restores_read_is_counted() -> None:
    def counted() -> float:
        return metrics.REGISTRY.get_sample_value("offhook_restored_records_total", {"stage": "route"}) or 0.0

    health = Health(Clock())
    health.assigned("route", "lines", 0)
    before = counted()
    health.progressed("route", 2_000)
    health.progressed("route", 17)
    health.restored("route", "lines", 0)
    assert counted() - before == 2_017


def test_a_stage_that_nobody_looks_at_is_not_alive() -> None:
    clock = Clock()
    health = Health(clock)
    health.expect("ingest")
    health.assigned("ingest", "logins", 0, restored=True)
    health.observed("ingest", "logins", 0, position=10, end=10)
    clock.now += UNSEEN_S - 1
    assert health.alive().ok, "a rebalance may take that long"
    health.looked("ingest")
    clock.now += UNSEEN_S - 1
    assert health.alive().ok
    clock.now += 2
    assert health.alive() == State(False, (f"ingest: nobody has looked at its progress for {UNSEEN_S + 1:.0f} s: it hangs",)), (
        "what was last known of its lag says nothing any more"
    )
    health.looked("ingest")
    assert health.alive().ok


async def _get(port: int, path: str) -> tuple[int, bytes, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.read(), answer.headers["Content-Type"]


def test_the_listener_tells() -> None:
    async def story() -> None:
        clock = Clock()
        health = Health(clock)
        health.expect("detect")
        listener = Listener(health, "127.0.0.1", 0)
        await listener.start()
        try:
            assert (await _get(listener.port, "/healthz"))[0] == 200
            status, body, kind = await _get(listener.port, "/readyz")
            assert status == 503
            assert kind.startswith("application/json")
            assert msgspec.json.decode(body) == {"ok": False, "problems": ["detect: no assignment yet"]}
            health.assigned("detect", "events", 0, restored=True)
            assert (await _get(listener.port, "/readyz"))[0] == 200
            health.observed("detect", "events", 0, 0, 5)
            clock.now += 61
            assert (await _get(listener.port, "/healthz"))[0] == 503
            health.assigned("detect", "events", 0)
            assert (await _get(listener.port, "/healthz"))[0] == 200
            clock.now += RESTORE_STALLED_S + 1
            health.looked("detect")
            status, body, kind = await _get(listener.port, "/healthz")
            assert status == 503, "a restore that hangs"
            hung = "detect: events-0 is being restored, and no restore of this stage has read anything for 301 s"
            assert msgspec.json.decode(body) == {"ok": False, "problems": [hung]}
            health.progressed("detect", 1)
            assert (await _get(listener.port, "/healthz"))[0] == 200
            status, body, kind = await _get(listener.port, "/metrics")
            assert status == 200
            assert kind.startswith("text/plain")
            assert b'offhook_partitions{stage="detect",state="assigned"} 1.0' in body
            assert (await _get(listener.port, "/"))[0] == 404
        finally:
            health.revoked("detect", "events", 0)
            await listener.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await _get(listener.port, "/healthz")

    asyncio.run(story())


def test_a_loop_that_is_blocked_answers_no_probe() -> None:
    """The listener runs in the loop that does the work, so a worker that hangs fails its probe whatever it hangs in."""
    answers: list[object] = []
    blocked, freed = threading.Event(), threading.Event()

    def probe(port: int) -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
                answers.append(answer.status)
        except OSError as e:
            answers.append(type(e))

    async def story() -> None:
        listener = Listener(Health(), "127.0.0.1", 0)
        await listener.start()
        try:
            await asyncio.to_thread(probe, listener.port)
            threading.Thread(target=lambda: (blocked.wait(30), probe(listener.port), freed.set())).start()
            blocked.set()
            freed.wait(30)  # the loop stands still until the probe has given up
            await asyncio.to_thread(probe, listener.port)
        finally:
            await listener.stop()

    asyncio.run(story())
    assert answers == [200, TimeoutError, 200]


def test_a_taken_port_is_an_error() -> None:
    async def story(port: int) -> None:
        with pytest.raises(OSError, match=str(port)):
            await Listener(Health(), "127.0.0.1", port).start()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asyncio.run(story(taken.getsockname()[1]))
