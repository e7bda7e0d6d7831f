"""When is too much of a feed unreadable? A share of the last records, or a run of them."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.policy import Feeds
from pipeline.live.flood import FloodWatch

WINDOW, SHARE = Feeds().dead_letter_window, Feeds().dead_letter_share
MOST = int(WINDOW * SHARE)


def test_a_share_within_the_bound_floods_never() -> None:
    watch = FloodWatch(Feeds())
    assert not any(watch.floods("logins", 10, range(0, 10, 2)) for _ in range(500))


def test_a_run_floods_however_little_was_read() -> None:
    watch = FloodWatch(Feeds())
    assert not watch.floods("logins", MOST, range(MOST))
    assert watch.floods("logins", 1, [0])


def test_feeds_are_watched_apart() -> None:
    watch = FloodWatch(Feeds())
    assert not watch.floods("logins", MOST, range(MOST))
    assert not watch.floods("telephony", 1, [0])


@given(st.lists(st.lists(st.booleans(), max_size=300), max_size=12))
def test_it_says_what_a_look_at_every_window_says_however_records_come_in_batches(batches: list[list[bool]]) -> None:
    watch, seen, flooded = FloodWatch(Feeds()), [], False
    for batch in batches:
        expected = False
        for bad in batch:
            seen.append(bad)
            expected = expected or (bad and sum(seen[-WINDOW:]) > MOST)
        assert watch.floods("logins", len(batch), [n for n, bad in enumerate(batch) if bad]) == expected
        flooded = flooded or expected
        if flooded:
            return  # the feed is suspended
