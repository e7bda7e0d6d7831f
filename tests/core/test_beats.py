"""The clock inside the log: what beats say, what it waits for, and that remembering the missing feeds never changes them."""

import random

import msgspec

from pipeline.core.beats import BEAT_MS, BeatMaker, Clock, ClockState, RouteBeats, for_lines
from pipeline.core.events import FEEDS, LINES, Beat, CallChanged, LinkChanged, Mark
from pipeline.core.policy import Feeds, Policy
from pipeline.core.route import Router

T0 = 1_790_000_000_000


class Forgetful(Clock):
    """A clock that works everything out anew at each beat."""

    def advance(self, beat: Beat) -> int:
        self._steady_until = 0
        return super().advance(beat)


def test_remembering_changes_nothing() -> None:
    rnd = random.Random(3)
    steady = 0
    for _ in range(60):
        clock, forgetful = Clock(Policy()), Forgetful(Policy())
        now = T0
        partitions = {feed: rnd.choice([1, 1, 2]) for feed in (*FEEDS, LINES) if rnd.random() < 0.8}
        read: dict[str, int] = {}
        last: dict[str, int] = {}
        for _ in range(150):
            now += rnd.choice([1000, 1000, 5000, 700_000])
            marks = {}
            for feed, count in partitions.items():
                for partition in range(count):
                    key = f"{feed}/{partition}"
                    if rnd.random() < 0.05:
                        continue
                    if rnd.random() < 0.97:
                        read[key] = now - rnd.choice([0, 10, 50_000])
                    if rnd.random() < 0.6:
                        last[key] = now
                    marks[key] = Mark(read.get(key, now), last.get(key))
            beat = Beat(arrived_at=now, marks=marks, partitions=partitions, suspended=("telephony",) if rnd.random() < 0.02 else ())
            if rnd.random() < 0.1:  # of route: it says nothing of what is expected
                routed = {key: mark for key, mark in marks.items() if key.startswith(LINES)}
                beat = Beat(arrived_at=now, marks=routed, partitions={})
            assert clock.advance(beat) == forgetful.advance(beat)
            assert clock.missing == forgetful.missing
            assert clock.state == forgetful.state
            steady += clock._steady_until > 0
    assert steady > 1000  # the remembered answer was in use


def said(maker: BeatMaker, at: int) -> Beat:
    beat = maker.due(at)
    assert beat is not None
    return beat


def of_route(at: int, *partitions: int) -> Beat:
    return Beat(arrived_at=at, marks={f"{LINES}/{p}": Mark(at, None) for p in partitions}, partitions={})


def test_the_slowest_that_is_expected_is_the_time() -> None:
    clock = Clock(Policy())
    maker = BeatMaker({"logins": 1, "telephony": 2})
    maker.arrived("logins", 0, T0 + 5000)
    maker.arrived("telephony", 0, T0 + 4000)
    clock.advance(said(maker, T0 + 5000))
    assert clock.now == 0, "half of telephony has not been heard of"
    assert "telephony" in clock.missing
    maker.arrived("telephony", 1, T0 + 5500)
    maker.arrived("logins", 0, T0 + 7000)
    assert maker.due(T0 + 5900) is None  # under a second since the last
    clock.advance(said(maker, T0 + 5000 + BEAT_MS))
    assert clock.now == T0 + 4000
    assert "telephony" not in clock.missing
    maker.all_caught_up(T0 + 9000)
    assert clock.advance(said(maker, T0 + 9000)) == T0 + 9000
    assert clock.advance(Beat(arrived_at=T0, marks={"logins/0": Mark(T0, T0)}, partitions=maker.expected)) == T0 + 9000, "time went back"


def test_a_feed_that_falls_behind_is_missing_and_waited_for() -> None:
    clock = Clock(Policy())
    maker = BeatMaker({"logins": 1, "telephony": 1})
    maker.arrived("logins", 0, T0)
    maker.arrived("telephony", 0, T0)
    clock.advance(said(maker, T0))
    assert "telephony" not in clock.missing
    late = T0 + 1000 * Policy().feeds.behind_s + 2000
    maker.arrived("logins", 0, late)
    assert clock.advance(said(maker, late)) == T0
    assert "telephony" in clock.missing
    maker.arrived("telephony", 0, late + 1000)
    assert clock.advance(said(maker, late + 1000)) == late
    assert "telephony" not in clock.missing


def test_patience_ends_and_begins_anew() -> None:
    clock = Clock(Policy(feeds=Feeds(patience_s=100)))
    maker = BeatMaker({"logins": 1, "telephony": 1})
    maker.arrived("logins", 0, T0)
    maker.arrived("telephony", 0, T0)
    clock.advance(said(maker, T0))
    leap = T0 + 30 * 86_400_000
    maker.arrived("logins", 0, leap)
    assert clock.advance(said(maker, leap)) == T0, "a leap is no waiting"
    for at in range(leap + BEAT_MS, leap + 90_000, BEAT_MS):
        maker.arrived("logins", 0, at)
        assert clock.advance(said(maker, at)) == T0
    for at in range(leap + 90_000, leap + 95_000, BEAT_MS):
        maker.arrived("logins", 0, at)
        clock.advance(said(maker, at))
    assert clock.now == leap + 94_000
    assert "telephony" in clock.missing
    maker.arrived("telephony", 0, leap + 95_000)
    clock.advance(said(maker, leap + 95_000))
    assert "telephony" not in clock.missing
    maker.arrived("logins", 0, leap + 200_000)
    assert clock.advance(said(maker, leap + 200_000)) == leap + 95_000, "patience is whole again"


def test_a_suspended_feed_is_missing_and_not_waited_for() -> None:
    clock = Clock(Policy())
    maker = BeatMaker({"logins": 1, "telephony": 1})
    maker.arrived("logins", 0, T0)
    maker.arrived("telephony", 0, T0)
    clock.advance(said(maker, T0))
    maker.suspend("telephony")
    maker.arrived("logins", 0, T0 + 90_000)
    assert clock.advance(said(maker, T0 + 90_000)) == T0 + 90_000
    assert "telephony" in clock.missing
    maker.resume("telephony")
    maker.arrived("telephony", 0, T0 + 90_500)
    maker.arrived("logins", 0, T0 + 92_000)
    assert clock.advance(said(maker, T0 + 92_000)) == T0 + 90_500
    assert "telephony" not in clock.missing


def test_a_feed_that_falls_silent_is_missing_until_it_comes_back() -> None:
    """Silence holds nothing back: what is read to its end advances, and only says that alerts are made without it."""
    clock, silent_ms = Clock(Policy()), 1000 * Policy().feeds.silent_s
    maker = BeatMaker({"logins": 1, "telephony": 1, "dispositions": 1}, lines=1)
    for feed in ("logins", "telephony", "dispositions"):
        maker.arrived(feed, 0, T0)  # type: ignore[arg-type]
    for at in range(T0, T0 + 2 * silent_ms, 60_000):
        maker.arrived("logins", 0, at)
        maker.all_caught_up(at)
        clock.advance(said(maker, at))
        assert clock.advance(of_route(at, 0)) == at
        assert ("telephony" in clock.missing) == (at - T0 > silent_ms)
        assert not {"logins", "dispositions"} & set(clock.missing), "dispositions may be silent for days"
    at = T0 + 2 * silent_ms
    maker.arrived("telephony", 0, at)
    maker.all_caught_up(at)
    clock.advance(said(maker, at))
    clock.advance(of_route(at, 0))
    assert "telephony" not in clock.missing


def test_a_feed_that_is_no_longer_there_is_forgotten() -> None:
    clock = Clock(Policy())
    maker = BeatMaker({"logins": 1, "telephony": 1}, lines=1)
    maker.arrived("logins", 0, T0)
    maker.arrived("telephony", 0, T0)
    clock.advance(said(maker, T0))
    clock.advance(of_route(T0, 0))
    assert clock.now == T0
    maker = BeatMaker({"logins": 1}, lines=1)
    maker.arrived("logins", 0, T0 + 100_000)
    assert clock.advance(said(maker, T0 + 100_000)) == T0 + 100_000, "without telephony nothing comes by a line"
    assert set(clock.state.marks) == {"logins/0"}
    assert "telephony" in clock.missing
    clock.advance(of_route(T0 + 1000, 0))
    assert clock.now == T0 + 100_000


def test_the_time_waits_for_every_partition_of_lines() -> None:
    clock = Clock(Policy())
    maker = BeatMaker({"logins": 1, "telephony": 1}, lines=2)
    clock.advance(of_route(T0, 0, 1))
    assert (clock.now, clock.missing) == (0, ()), "nothing is expected before ingest has spoken"
    maker.all_caught_up(T0)
    maker.arrived("telephony", 0, T0)
    clock.advance(said(maker, T0))
    clock.advance(of_route(T0, 0))
    assert clock.now == 0
    assert "telephony" in clock.missing, "what has been read of it has not come through"
    clock.advance(of_route(T0, 1))
    assert clock.now == T0
    assert "telephony" not in clock.missing
    maker.all_caught_up(T0 + 70_000)
    assert clock.advance(said(maker, T0 + 70_000)) == T0
    assert "telephony" in clock.missing
    clock.advance(of_route(T0 + 70_000, 0))
    assert clock.advance(of_route(T0 + 69_000, 1)) == T0 + 69_000
    assert "telephony" not in clock.missing


def test_route_speaks_of_what_has_come_through() -> None:
    """A router's own time is that of the feeds that come by a line, and is there after a restart."""
    maker = BeatMaker({"logins": 2, "telephony": 1, "phone-links": 1, "otp-dispatches": 1}, lines=1)
    maker.all_caught_up(T0)
    first = for_lines(said(maker, T0))
    assert set(first.marks) == {"telephony/0", "phone-links/0", "otp-dispatches/0"} == {f"{feed}/0" for feed in first.partitions}
    router = Router(Policy())
    assert router.fold(0, first) == []
    assert router.routed_to == T0
    for feed, at in (("logins", 4000), ("telephony", 3000), ("otp-dispatches", 3500)):
        maker.arrived(feed, 0, T0 + at)  # type: ignore[arg-type]
    maker.caught_up("phone-links", 0, T0 + 2500)
    router.fold(1, for_lines(said(maker, T0 + 4000)))
    assert router.routed_to == T0 + 2500
    again = Router(Policy())
    again.restore_clock(router.clock())
    assert again.routed_to == T0 + 2500
    assert again.clock() == router.clock()
    again.restore_clock(msgspec.msgpack.encode([7]))  # as written before route had a clock
    assert again.routed_to == 0
    assert again.fold(7, LinkChanged(event_id="e", account_id="a", occurred_at=T0, arrived_at=T0, line="r:1", status="linked")) == []


def test_one_beat_of_route_for_all_its_partitions() -> None:
    beats = RouteBeats()
    assert beats.due() is None
    beats.own([3, 5])
    beats.routed(3, T0)
    assert beats.due() is None, "nothing is known of the other partition"
    beats.routed(4, T0)  # not ours
    beats.routed(5, T0 + 400)
    beat = beats.due()
    assert beat == Beat(arrived_at=T0, marks={"lines/3": Mark(T0, None), "lines/5": Mark(T0 + 400, None)}, partitions={})
    beats.routed(5, T0 + 5000)
    assert beats.due() is None, "the slowest has not moved"
    beats.routed(3, T0 + BEAT_MS)
    again = beats.due()
    assert again is not None
    assert again.marks["lines/5"] == Mark(T0 + 5000, None)
    assert beats.due() is None
    beats.own([5])
    beats.routed(5, T0 + 900)
    assert beats.due() is not None, "a new owner speaks at once"


def test_the_clock_of_an_earlier_version_is_read() -> None:
    old = msgspec.msgpack.encode([41, T0, {"logins/0": [T0, T0]}, {"logins": 1}, []])
    clock = Clock(Policy(), msgspec.msgpack.decode(old, type=ClockState))
    assert (clock.now, clock.heard, clock.state.offset) == (T0, True, 41)


def test_a_call_is_in_front_of_the_beat_that_speaks_of_it() -> None:
    """What the router says it has routed, it has given out before."""
    router = Router(Policy())
    link = LinkChanged(event_id="l", account_id="a", occurred_at=T0, arrived_at=T0, line="r:1", status="linked")
    call = CallChanged(
        event_id="c", account_id="", occurred_at=T0, arrived_at=T0 + 10, line="r:1", call_id="1", state="ringing", direction="inbound"
    )
    assert len(router.fold(0, link)) == 1
    assert router.routed_to == 0
    assert [e.event_id for e in router.fold(1, call)] == ["c"]
    maker = BeatMaker({"telephony": 1})
    maker.arrived("telephony", 0, T0 + 10)
    router.fold(2, for_lines(said(maker, T0 + 10)))
    assert router.routed_to == T0 + 10
