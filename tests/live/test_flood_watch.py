"""When is too much of a feed unreadable? A share of the last records, or a run of them."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.policy import Feeds
from pipeline.live.flood import FIRST_PAUSE_S, LONGEST_PAUSE_S, PROBED_PER_S, FloodWatch, Suspensions

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


def test_a_feed_is_steady_after_many_windows_without_a_flood() -> None:
    watch = FloodWatch(Feeds())
    watch.floods("logins", 5 * WINDOW, [])
    assert not watch.steady("logins")
    watch.floods("logins", 5 * WINDOW, [])
    assert watch.steady("logins")
    watch.forget("logins")
    assert not watch.steady("logins")


def test_a_feed_that_stays_bad_is_probed_ever_more_rarely_and_read_at_a_bounded_rate() -> None:
    now = 0.0
    suspended = Suspensions(lambda: now)
    suspended.pause("logins", again=False)
    read, pauses = 0, []
    while now < 3600:
        now += 0.25
        for feed, records in suspended.due().items():
            assert suspended.probed(feed)
            assert suspended.due() == {}, "a probe begins once"
            read += records
            pauses.append(suspended.pause(feed, again=True))
    assert pauses[0] == 2 * FIRST_PAUSE_S
    assert pauses[-1] == LONGEST_PAUSE_S
    assert pauses == sorted(pauses)
    assert read <= PROBED_PER_S * 3600
    assert read > PROBED_PER_S * 3600 * 0.9, "a backlog comes to its end"


def test_a_feed_that_was_steady_begins_with_the_first_pause() -> None:
    suspended = Suspensions(lambda: 0.0)
    assert [suspended.pause("logins", again=True) for _ in range(5)] == [5.0, 10.0, 20.0, 40.0, 60.0]
    suspended.end("logins")
    assert "logins" not in suspended
    assert suspended.pause("logins", again=False) == FIRST_PAUSE_S
