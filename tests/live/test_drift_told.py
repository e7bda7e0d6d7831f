"""Does somebody hear of a drift, once, when its day is over? A line that names what changed from what to what, and a count that does.

The stage on records of the test's own, without a broker: what it reads again at a start, after a rebalance and behind a gap, too.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from random import Random
from types import TracebackType
from typing import Any

import pytest
from faust.types.tuples import TP

from pipeline.core.learn.drift import Drift
from pipeline.core.learn.drift_days import DAY_MS
from pipeline.core.learn.drift_watch import Entry
from pipeline.core.outcome import Decision, FeatureValue, Level, Stage
from pipeline.live import drift, metrics
from pipeline.live.batch import Batch
from pipeline.live.drift import AHEAD_MS, DAYS_AGAIN, DriftStage, entry_of
from pipeline.live.folding import Turns
from pipeline.live.health import RESTORE_STALLED_S, Health
from pipeline.live.logs import JsonLines
from pipeline.live.outbox import Outgoing
from pipeline.live.past import Span
from pipeline.live.stage import ReadAgain
from pipeline.wire.codec import DecisionHead, OutcomeEncoder
from pipeline.wire.dead_letter import DeadLetters, parse
from tests.live.test_align import Fetched

FIRST = 20_000  # the number of a day in 2024
A_DAY = 900
SLOWLY = "feature:entry_latency_s"
_encoder = OutcomeEncoder("live")


def decided(
    name: str,
    time: int,
    features: dict[str, FeatureValue],
    stage: Stage = "at_entry",
    level: Level = "clear",
    probability: float = 0.01,
) -> bytes:
    """A record of ``decisions``: of the challenge ``name``, whose account has the same name."""
    made = Decision(
        decision_id=f"d_{name}", account_id=name, otp_id=f"o-{name}", incident_id=f"i_{name}", finding_uid=None, time=time, stage=stage,
        level=level, probability=probability, threshold=0.5, features=features, reasons=(), event_ids=(), policy_id="p_1", model_id="m_1",
        version="0.1.0",
    )  # fmt: skip
    record = _encoder.encode(made)
    assert record is not None
    assert record.value is not None
    return record.value


def judged(day: int, number: int, slow: bool = False) -> tuple[int, bytes]:
    """A decision at an entry, nobody's label beside it, with its time; ``slow``: the code was entered four times as slowly."""
    r = Random(f"{day}/{number}")
    time = (FIRST + day) * DAY_MS + number * (DAY_MS // A_DAY)
    latency = r.lognormvariate(3.0, 0.5) * (4.0 if slow else 1.0)
    return time, decided(f"{day}/{number}", time, {"entry_latency_s": latency, "channel": "sms"})


class Broker:
    """Two partitions of ``decisions`` with what has been committed, and what was sent to ``dead-letters``."""

    ample = 1 << 20

    def __init__(self, partitions: int = 2) -> None:
        self.held: list[list[Fetched]] = [[] for _ in range(partitions)]
        self.committed = [0] * partitions
        self.at_end: dict[int, int] = {}
        self.sent: list[Outgoing] = []
        self.opened = 0

    def write(self, partition: int, value: bytes | None, timestamp: int) -> None:
        held = self.held[partition]
        held.append(Fetched(timestamp, len(held), b"a", value))

    def write_days(self, days: Iterable[int], slow: Collection[int] = (), each: int = A_DAY) -> None:
        """Every decision of these days, spread over the partitions."""
        for day in days:
            for number in range(each):
                time, value = judged(day, number, day in slow)
                self.write(number % len(self.held), value, time)

    # as the outbox
    def partitions(self, topic: str) -> int:
        return 1

    def excess(self, topic: str, record: Outgoing) -> None:
        return None

    async def send(self, records: dict[tuple[str, int], list[Outgoing]]) -> None:
        self.sent += [record for found in records.values() for record in found]

    # as the reader
    def read_to(self, tp: TP) -> int | None:
        return self.at_end.get(tp.partition)

    # as the past
    async def __aenter__(self) -> "Broker":
        self.opened += 1
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    async def spans(self, topic: str, partitions: Collection[int], since: int) -> dict[int, Span]:
        first = {p: sum(record.timestamp < since for record in self.held[p]) for p in partitions}
        return {p: Span(first[p], self.committed[p], len(self.held[p])) for p in partitions}

    async def read(self, topic: str, spans: dict[int, Span]) -> AsyncIterator[tuple[int, Sequence[Fetched]]]:
        for partition, span in spans.items():
            for start in range(span.first, span.behind, 500):
                yield partition, self.held[partition][start : min(start + 500, span.behind)]
                await asyncio.sleep(0)


class Worker:
    """A stage that is carried through the broker's records as the runner would."""

    def __init__(self, broker: Broker, health: Health | None = None, today: int = 0) -> None:
        self.broker: Any = broker
        self.health = health or Health()
        self.stage = DriftStage(
            "", lambda: self.broker, DeadLetters("plain"), self.health, now=lambda: (FIRST + today) * DAY_MS / 1000 + 43_200
        )
        self.generation = 0
        self.again: list[int] = []

    async def assigned(self, partitions: Collection[int] = (0, 1)) -> None:
        self.generation += 1
        if self.generation == 1:
            await self.stage.start(self.broker, self.broker)
        self.stage.assigned({TP("decisions", p) for p in partitions}, self.generation)

    async def read(self, partition: int, until: int | None = None, most: int = 200) -> None:
        """Handle what the partition holds from where the group has committed, in batches; ``until``: an offset."""
        held: list[Any] = self.broker.held[partition]
        position, end = self.broker.committed[partition], len(held) if until is None else until
        while position < end:
            batch = Batch(TP("decisions", partition), self.generation, held[position : min(position + most, end)])
            await self.stage.prepare(batch)
            try:
                await self.stage.handle(batch)
            except ReadAgain as e:
                self.again.append(e.offset)
                position = e.offset
            else:
                position = batch.last + 1
                self.broker.committed[partition] = max(position, self.broker.committed[partition])

    async def read_all(self) -> None:
        """Read the partitions side by side."""
        for end in range(100, max(map(len, self.broker.held)) + 100, 100):
            for partition, held in enumerate(self.broker.held):
                await self.read(partition, min(end, len(held)))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said since the last call."""
    found = [str(record.__dict__["drift"]) for record in caplog.records if "drift" in record.__dict__]
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> Iterable[None]:
    with caplog.at_level(logging.INFO, "pipeline.live.drift"):
        yield


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("score", {"what": "score", "feature": ""}),
        ("missing:call_live", {"what": "missing", "feature": "call_live"}),
        (SLOWLY, {"what": "feature", "feature": "entry_latency_s"}),
    ],
)
def test_a_drift_is_an_event_and_a_count(name: str, labels: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    before = metrics.REGISTRY.get_sample_value("offhook_drifts_total", labels) or 0
    Worker(Broker()).stage._drifted(Drift(name, "adwin", "down", -0.3, 0.9, 0.6, FIRST))
    assert metrics.REGISTRY.get_sample_value("offhook_drifts_total", labels) == before + 1
    assert metrics.REGISTRY.get_sample_value("offhook_drift_told_timestamp_seconds", labels) == FIRST * DAY_MS / 1000 + 43_200, (
        "noon of today"
    )
    (record,) = caplog.records
    line = JsonLines().format(record)
    for said in (f'"drift":"{name}"', '"before":0.9', '"after":0.6', "on 2024-10-04", '"action":"see whether a feed'):
        assert said in line


def test_a_change_is_told_when_its_day_is_over_and_no_label_ever_came(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    broker.write_days(range(5), slow=[4])

    async def story() -> None:
        worker = Worker(broker, today=5)
        await worker.assigned()
        await worker.read_all()
        assert told(caplog) == []
        for day, number in ((5, 10), (5, 11), (5, A_DAY // 20), (5, A_DAY // 20 + 1)):
            assert told(caplog) == []
            broker.write(number % 2, judged(day, number)[1], judged(day, number)[0])
            await worker.read(number % 2)
        assert told(caplog) == [SLOWLY]

    asyncio.run(story())


def test_a_restart_tells_nothing_twice_and_knows_what_was_before(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    broker.write_days(range(7), slow=[4, 5, 6])

    async def story() -> None:
        first = Worker(broker, today=6)
        await first.assigned()
        await first.read_all()
        assert told(caplog) == [SLOWLY]
        second = Worker(broker, today=6)
        await second.assigned()
        assert second.stage._claim is not None
        await second.stage._claim
        assert any("2024-10-08 is over" in line and "told before" in line for line in caplog.messages)
        assert told(caplog) == []
        broker.write_days([7], slow=[7])
        broker.write_days([8])
        await second.read_all()
        assert told(caplog) == [], "what was slow before the start is no change after it"
        broker.write_days([9])
        await second.read_all()
        assert told(caplog) == [SLOWLY], "and its end is one"

    asyncio.run(story())


def test_a_day_that_ended_while_nobody_read_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    broker.write_days(range(5), slow=[4])

    async def story() -> None:
        await (first := Worker(broker, today=4)).assigned()
        await first.read_all()
        assert told(caplog) == []
        broker.write_days([5])
        await (second := Worker(broker, today=5)).assigned()
        await second.read_all()
        assert told(caplog) == [SLOWLY]

    asyncio.run(story())


def test_a_day_that_a_partition_was_still_in_is_told_by_the_next_worker(caplog: pytest.LogCaptureFixture) -> None:
    """One partition was read to its end and the other hardly at all when the worker was ended: nothing of the change was told."""
    broker = Broker()
    broker.write_days(range(9), slow=range(4, 9))

    async def story() -> None:
        await (first := Worker(broker, today=8)).assigned()
        await first.read(1, 100)
        await first.read(0)
        assert told(caplog) == []
        await (second := Worker(broker, today=8)).assigned()
        await second.read(1)
        assert told(caplog) == [SLOWLY]

    asyncio.run(story())


def test_a_killed_worker_tells_nothing_twice_wherever_it_was(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    broker.write_days(range(7), slow=[4, 5, 6])

    async def story() -> None:
        said: list[str] = []
        for end in (200, 1_000, 1_900, 2_000, 2_500, len(broker.held[0])):
            worker = Worker(broker, today=6)
            await worker.assigned()
            for partition in (0, 1):
                await worker.read(partition, end)
            said += told(caplog)
        assert said == [SLOWLY]

    asyncio.run(story())


def test_a_rebalance_that_moves_nothing_goes_on_and_one_that_does_begins_anew_with_the_past(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    broker.write_days(range(7), slow=[4, 5, 6])

    async def story() -> None:
        worker = Worker(broker, today=6)
        await worker.assigned()
        for end in range(100, len(broker.held[0]) + 100, 100):
            watch = worker.stage._watch
            await worker.assigned()
            assert worker.stage._watch is watch
            for partition in (0, 1):
                await worker.read(partition, min(end, len(broker.held[0])))
        assert told(caplog) == [SLOWLY]
        assert broker.opened == 1
        await worker.assigned([0])
        assert worker.health.ready().problems == ("drift: decisions-0 is being restored",)
        await worker.read(0)
        broker.write_days([7, 8], slow=[7, 8])
        await worker.read(0)
        assert told(caplog) == []
        assert broker.opened == 2
        assert worker.stage._watch is not watch
        await worker.assigned([])
        await worker.assigned([0, 1])
        await worker.stage.stop()
        assert worker.stage._claim is not None
        assert worker.stage._claim.cancelled()

    asyncio.run(story())


def test_a_first_start_reads_a_week_and_a_day_and_not_a_year() -> None:
    broker = Broker(1)
    broker.write_days(range(30), each=100)
    broker.committed = [0]

    async def story() -> None:
        worker = Worker(broker, today=29)
        await worker.assigned([0])
        await worker.read(0)
        assert worker.again == [(29 - DAYS_AGAIN) * 100]
        assert worker.stage._watch.late == 0
        assert broker.committed == [3000]

    asyncio.run(story())


def test_what_somebody_else_has_read_meanwhile_is_read_all_the_same_and_asked_for_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(1)
    broker.write_days(range(3))

    async def story() -> None:
        worker = Worker(broker, today=2)
        await worker.assigned([0])
        await worker.read(0, 1_000)
        broker.committed = [2_000]  # by another worker, while this one had lost its session
        await worker.assigned([0])
        await worker.read(0)
        assert worker.again == [1_000]
        assert "2024-10-05 is over: 900 codes" in " ".join(caplog.messages)
        broker.held[0][2_650:2_700] = []  # as retention may
        worker.again.clear()
        hole = Batch(TP("decisions", 0), worker.generation, [Fetched(0, 2_750, b"a", judged(2, 800)[1])])
        with pytest.raises(ReadAgain):
            await worker.stage.handle(hole)
        await worker.stage.handle(hole)

    asyncio.run(story())


def test_what_cannot_be_read_is_a_dead_letter_and_the_others_are_watched() -> None:
    broker = Broker(1)
    time, value = judged(0, 0)
    wrong = json.loads(value)
    broken: list[tuple[bytes | None, str]] = [
        (b"nonsense", "not_json"),
        (b"\xff", "not_utf8"),
        (None, "no_value"),
        (json.dumps(wrong | {"stage": "elsewhere"}).encode(), "invalid_field"),
        (json.dumps({k: v for k, v in wrong.items() if k != "time"}).encode(), "invalid_field"),
        (json.dumps(wrong | {"features": {"entry_latency_s": [1]}}).encode(), "invalid_field"),
        (json.dumps(wrong | {"time": time + 2 * AHEAD_MS}).encode(), "future"),
        (json.dumps(wrong | {"features": {"entry_latency_s": 10**400}}).encode(), "invalid_field"),
    ]
    for written, _ in broken:
        broker.write(0, written, time)
    broker.write_days([0, 1])

    async def story() -> None:
        worker = Worker(broker, today=1)
        await worker.assigned([0])
        await worker.read(0)
        letters = [parse(tuple(r.headers), r.key, r.value) for r in broker.sent]
        assert [(letter.offset, letter.reason) for letter in letters] == [(n, reason) for n, (_, reason) in enumerate(broken)]
        assert not any("000" in letter.detail for letter in letters), "the value is not repeated"
        assert broker.committed == [len(broker.held[0])]
        broker.sent.clear()
        await (again := Worker(broker, today=1)).assigned([0])
        assert again.stage._claim is not None
        await again.stage._claim
        assert broker.sent == [], "it was a dead letter before"
        assert again.stage._watch._days._days.keys() == worker.stage._watch._days._days.keys() == {FIRST + 1}

    asyncio.run(story())


def test_what_our_own_code_fails_on_is_a_dead_letter_and_the_others_are_watched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(head: DecisionHead) -> Entry | None:
        return Entry(1 / 0, dict) if head.account_id == "0/7" else entry_of(head)

    monkeypatch.setattr(drift, "entry_of", failing)
    broker = Broker(1)
    broker.write_days([0, 1], each=20)

    async def story() -> None:
        worker = Worker(broker, today=1)
        await worker.assigned([0])
        await worker.read(0)
        (letter,) = [parse(tuple(r.headers), r.key, r.value) for r in broker.sent]
        assert (letter.offset, letter.reason, letter.detail) == (7, "bug", "ZeroDivisionError")
        assert "a bug of ours at partition 0 offset 7: ZeroDivisionError" in caplog.text
        assert broker.committed == [40]

    asyncio.run(story())


def test_a_partition_without_records_holds_no_day_open(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(3)
    for number, (time, value) in enumerate(judged(day, n, day == 4) for day in range(6) for n in range(A_DAY)):
        broker.write(number % 2, value, time)

    async def story() -> None:
        worker = Worker(broker, today=5)
        await worker.assigned([0, 1, 2])
        await worker.read_all()
        await worker.stage.tick()
        assert told(caplog) == [], "it may be that the third was not read yet"
        now = (FIRST + 5) * DAY_MS + 43_200_000
        broker.at_end[2] = now - 3_600_000
        await worker.stage.tick()
        assert told(caplog) == [], "up to an hour ago"
        broker.at_end[2] = now - 2_000
        await worker.stage.tick()
        assert told(caplog) == [SLOWLY]
        await worker.stage.tick()
        assert told(caplog) == []

    asyncio.run(story())


def test_a_look_at_a_day_lets_others_run() -> None:
    broker, turns_of_others = Broker(), 0
    broker.write_days(range(5))
    broker.committed = [len(held) for held in broker.held]

    async def others() -> None:
        nonlocal turns_of_others
        while True:
            turns_of_others += 1
            await asyncio.sleep(0)

    async def story() -> None:
        nonlocal turns_of_others
        worker = Worker(broker, today=4)
        await worker.assigned()
        assert worker.stage._claim is not None
        await worker.stage._claim
        watch = worker.stage._watch
        watch.add(0, "behind", (FIRST + 6) * DAY_MS, False)
        watch.add(1, "behind", (FIRST + 6) * DAY_MS, False)
        task = asyncio.create_task(others())
        turns_of_others = 0
        await asyncio.gather(worker.stage._look(watch, Turns()), worker.stage._look(watch, Turns()))
        task.cancel()
        assert not watch._over

    asyncio.run(story())
    assert turns_of_others > 2


def test_reading_the_past_counts_as_progress_and_is_told_when_it_hangs() -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    broker, clock = Broker(), Clock()
    broker.write_days(range(3))
    broker.committed = [len(held) for held in broker.held]

    async def story() -> None:
        worker = Worker(broker, Health(clock), today=2)
        before = metrics.REGISTRY.get_sample_value("offhook_restored_records_total", {"stage": "drift"}) or 0
        await worker.assigned()
        assert not worker.health.ready().ok
        clock.now = RESTORE_STALLED_S + 1
        assert worker.health.alive().problems[0] == (
            "drift: decisions-0 is being restored, and no restore of this stage has read anything for 301 s"
        )
        assert worker.stage._claim is not None
        await worker.stage._claim
        assert worker.health.alive().ok
        assert worker.health.ready().ok
        assert metrics.REGISTRY.get_sample_value("offhook_restored_records_total", {"stage": "drift"}) == before + 3 * A_DAY

    asyncio.run(story())


def test_a_past_that_cannot_be_read_ends_the_worker() -> None:
    class Gone(Broker):
        async def spans(self, topic: str, partitions: Collection[int], since: int) -> dict[int, Span]:
            raise ConnectionError("no broker")

    async def story() -> None:
        broker = Gone()
        broker.write_days([0])
        worker = Worker(broker)
        await worker.assigned()
        with pytest.raises(ConnectionError):
            await worker.read(0)
        with pytest.raises(ConnectionError):
            await worker.stage.tick()

    asyncio.run(story())


def test_every_count_of_drifts_begins_at_nothing_so_that_its_first_rise_is_seen() -> None:
    asyncio.run(Worker(Broker()).assigned([]))
    sampled = {
        (s.labels["what"], s.labels["feature"]) for m in metrics.DRIFTS.collect() for s in m.samples if s.name == "offhook_drifts_total"
    }
    assert {("score", ""), ("alert_rate", ""), ("missing", "channel"), ("feature", "hour_share")} <= sampled
    assert ("feature", "channel") not in sampled  # a word has no mean
