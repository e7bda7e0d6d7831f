"""How far may one input run ahead of another? Admission by arrival, apart from any broker."""

from collections.abc import Sequence

import msgspec
from faust.types.tuples import TP

from pipeline.live.align import AHEAD_MS, LEAD_MS, STALLED_S, Alignment

A, B, C, E = TP("logins", 0), TP("telephony", 0), TP("telephony", 1), TP("otp-entries", 0)


class Fetched(msgspec.Struct):
    timestamp: int
    offset: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def at(*timestamps: int) -> list[Fetched]:
    return [Fetched(timestamp) for timestamp in timestamps]


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_slowest_is_admitted_whole_steps_and_the_others_wait() -> None:
    alignment = Alignment()
    waiting = {A: at(1000, 2000, 1000 + LEAD_MS, 1001 + LEAD_MS), B: at(90_000)}
    assert alignment.admit(waiting, []) == {A: 3}


def test_nothing_is_admitted_before_every_partition_has_been_heard_of() -> None:
    alignment = Alignment()
    assert alignment.admit({A: at(1000)}, [B]) == {}
    assert alignment.admit({A: at(1000), B: at(2000)}, []) == {A: 1, B: 1}


def test_one_that_is_being_handled_holds_the_others_to_what_it_gave_last() -> None:
    alignment = Alignment()
    alignment.admit({A: at(1000), B: at(2000)}, [])
    assert alignment.admit({B: at(2500, 1000 + LEAD_MS, 90_000)}, [A]) == {B: 2}


def test_entries_follow_what_explains_them_once_it_is_written() -> None:
    alignment = Alignment(["otp-entries"])
    entries = at(1500, 1000 + AHEAD_MS, 1001 + AHEAD_MS, 40_000 + AHEAD_MS, 50_000)
    calls = at(1000, 30_000, 80_000)
    assert alignment.admit({B: calls, E: entries}, []) == {B: 2, E: 2}
    entries = entries[2:]
    assert alignment.admit({E: entries}, [B]) == {}, "the call of 1000 is on its way"
    assert alignment.admit({B: at(40_000, 90_000), E: entries}, []) == {B: 1, E: 2}, "it is written, and that of 40,000 is next"
    assert alignment.admit({E: entries[2:]}, []) == {E: 1}, "nothing is left that it could overtake"


def test_followers_hold_the_others_to_their_lead() -> None:
    alignment = Alignment(["otp-entries"])
    assert alignment.admit({A: at(1000, 2000 + LEAD_MS), E: at(1000)}, []) == {A: 1, E: 1}
    assert alignment.admit({A: at(1000 + LEAD_MS, 1001 + LEAD_MS)}, [E]) == {A: 1}


def test_an_empty_partition_holds_nobody() -> None:
    assert Alignment().admit({B: at(50_000)}, []) == {B: 1}


def test_one_that_gives_nothing_for_long_no_longer_holds_the_others() -> None:
    clock = Seconds()
    alignment = Alignment(monotonic=clock)
    assert alignment.admit({A: at(1000)}, [B]) == {}
    clock.now = STALLED_S
    assert alignment.admit({A: at(1000)}, [B]) == {}
    clock.now = STALLED_S + 0.1
    assert alignment.stalled(B)
    assert alignment.admit({A: at(1000)}, [B]) == {A: 1}
    assert alignment.admit({A: at(1000), B: at(900)}, []) == {A: 1, B: 1}
    assert not alignment.stalled(B)


def test_a_suspended_feed_is_neither_read_nor_waited_for() -> None:
    alignment = Alignment()
    alignment.close("telephony")
    assert alignment.closed(B)
    assert not alignment.closed(A)
    assert alignment.admit({A: at(1000), B: at(10)}, [C]) == {A: 1}


def test_a_partition_that_went_away_is_forgotten() -> None:
    alignment = Alignment()
    alignment.admit({A: at(1000), B: at(1000)}, [])
    alignment.keep({A})
    assert alignment.admit({A: at(2000)}, [B]) == {}, "not heard of since it came back"


def test_a_probe_of_a_closed_topic_is_admitted_beside_the_others_and_ends_by_itself() -> None:
    alignment = Alignment()
    alignment.close("telephony")
    old = {B: at(1, 2, 3), C: at(4, 5, 6)}
    assert alignment.admit({A: at(90_000), **old}, []) == {A: 1}
    alignment.probe("telephony", 4)
    assert not alignment.closed(B)
    assert alignment.suspended(B)
    assert alignment.admit({A: at(90_001), **old}, []) == {A: 1, B: 3, C: 1}, "logins do not wait for what is old in a bad feed"
    assert alignment.spent("telephony")
    assert alignment.closed(B)


def test_a_probe_is_admitted_while_nothing_else_is_there() -> None:
    alignment = Alignment()
    alignment.close("telephony")
    alignment.probe("telephony", 10)
    assert alignment.admit({B: at(1)}, [A]) == {B: 1}
    assert not alignment.spent("telephony")


def test_a_topic_that_is_opened_again_is_aligned_with_the_others() -> None:
    alignment = Alignment()
    alignment.admit({A: at(1000), B: at(1000)}, [])
    alignment.close("telephony")
    alignment.open("telephony")
    assert not alignment.suspended(B)
    assert alignment.admit({A: at(90_000), B: at(2000)}, []) == {B: 1}
