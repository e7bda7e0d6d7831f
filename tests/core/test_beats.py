"""The clock inside the log: what beats say, and that remembering the missing feeds never changes them."""

import random

from pipeline.core.beats import BEAT_MS, BeatMaker, Clock
from pipeline.core.events import FEEDS, Beat, Mark
from pipeline.core.policy import Policy

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
        partitions = {feed: rnd.choice([1, 1, 2]) for feed in FEEDS if rnd.random() < 0.8}
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
            assert clock.advance(beat) == forgetful.advance(beat)
            assert clock.missing == forgetful.missing
            steady += clock._steady_until > 0
    assert steady > 1000  # the remembered answer was in use


def test_the_slowest_feed_that_keeps_up_is_the_time() -> None:
    clock = Clock(Policy())
    maker = BeatMaker({"logins": 1, "telephony": 2})
    maker.arrived("logins", 0, T0 + 5000)
    maker.arrived("telephony", 0, T0 + 4000)
    beat = maker.due(T0 + 5000)
    assert beat is not None
    clock.advance(beat)
    assert clock.now == T0 + 5000  # half of telephony is unheard of: it holds nothing back, and is missing
    assert "telephony" in clock.missing
    maker.arrived("telephony", 1, T0 + 5500)
    maker.arrived("logins", 0, T0 + 7000)
    assert maker.due(T0 + 5900) is None  # under a second since the last
    beat = maker.due(T0 + 5000 + BEAT_MS)
    assert beat is not None
    clock.advance(beat)
    assert clock.now == T0 + 5000  # time never goes back
    assert "telephony" not in clock.missing
    maker.all_caught_up(T0 + 9000)
    beat = maker.due(T0 + 9000)
    assert beat is not None
    assert clock.advance(beat) == T0 + 9000


def test_a_feed_that_falls_behind_or_is_suspended_is_missing() -> None:
    clock = Clock(Policy())
    maker = BeatMaker({"logins": 1, "telephony": 1})
    maker.arrived("logins", 0, T0)
    maker.arrived("telephony", 0, T0)
    first = maker.due(T0)
    assert first is not None
    clock.advance(first)
    assert "telephony" not in clock.missing
    late = T0 + 1000 * Policy().feeds.behind_s + 2000
    maker.arrived("logins", 0, late)
    beat = maker.due(late)
    assert beat is not None
    assert clock.advance(beat) == late
    assert "telephony" in clock.missing
    maker.caught_up("telephony", 0, late + 2000)
    maker.suspend("telephony")
    beat = maker.due(late + 2000)
    assert beat is not None
    clock.advance(beat)
    assert "telephony" in clock.missing
    maker.resume("telephony")
    maker.arrived("telephony", 0, late + 4000)
    beat = maker.due(late + 4000)
    assert beat is not None
    clock.advance(beat)
    assert "telephony" not in clock.missing
