"""A message of a library that repeats itself is written once in a while and says how often it came; our own are all written."""

import logging

from pipeline.live.quiet import EVERY_S, Sparing


def record(name: str, message: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


def test_a_message_that_repeats_is_written_once_in_a_while() -> None:
    now = 5.0
    sparing = Sparing(("aiokafka",), clock=lambda: now)
    assert sparing.filter(record("aiokafka.conn", "no connection to %s", "a"))
    assert not sparing.filter(record("aiokafka.conn", "no connection to %s", "b"))
    assert not sparing.filter(record("aiokafka.conn", "no connection to %s", "c"))
    assert sparing.filter(record("aiokafka.conn", "another message")), "the text decides"
    assert sparing.filter(record("aiokafka.conn", "no connection to %s", "a", level=logging.ERROR)), "the level decides"
    now += EVERY_S
    later = record("aiokafka.conn", "no connection to %s", "d")
    assert sparing.filter(later)
    assert later.getMessage() == "no connection to d (and 2 more like it)"
    now += EVERY_S
    again = record("aiokafka.conn", "no connection to %s", "e")
    assert sparing.filter(again)
    assert again.getMessage() == "no connection to e", "the count begins anew"


def test_our_own_messages_are_all_written() -> None:
    sparing = Sparing(("aiokafka",), clock=lambda: 1.0)
    assert all(sparing.filter(record("pipeline.live.runner", "ends")) for _ in range(3))
    assert all(sparing.filter(record("aiokafkaesque", "ends")) for _ in range(3)), "not by the beginning of a name"
