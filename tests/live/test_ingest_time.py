"""How far may ingest say that it has read? No further than the slowest of its partitions, whatever the others hold."""

from typing import Any, cast

import pytest
from faust.types.tuples import TP

from pipeline.core.events import Feed, Mark
from pipeline.core.policy import Policy
from pipeline.live.health import Health
from pipeline.live.ingest import IngestStage
from pipeline.live.stage import Reader
from pipeline.wire.dead_letter import DeadLetters
from pipeline.wire.ingest import Ingest
from pipeline.wire.pseudonym import Pseudonyms

NOW, MARCH = 1_795_919_451_880, 1_772_185_260_558
FEEDS: dict[Feed, int] = {"logins": 2, "telephony": 1, "dispositions": 1}
PLACES = [TP(feed, partition) for feed, count in FEEDS.items() for partition in range(count)]


class Read:
    """What the consumer knows of each partition, in the order of PLACES; None: a batch of it is in hand."""

    def __init__(self, *read_to: int | None) -> None:
        self._read_to = dict(zip(PLACES, read_to, strict=True))

    def read_to(self, tp: TP) -> int | None:
        return self._read_to[tp]


def told(reader: Read, *marks: int | None) -> tuple[int | None, dict[str, int]]:
    """The time that ingest tells, and how far its beats then say that each partition has been read."""
    stage = IngestStage(Policy(), Ingest(Policy(), Pseudonyms.for_demo()), FEEDS, "", DeadLetters("reference"), Health())
    stage._reader = cast(Reader, reader)
    stage._marks = dict(zip(PLACES, marks, strict=True))
    time = stage._time()
    said: dict[str, Mark] = cast(Any, stage._beats)._marks
    return time, {place: mark.read_to for place, mark in said.items()}


def test_an_empty_partition_runs_ahead_of_no_backlog_that_is_held_back() -> None:
    """After an outage: of the logins all that was fetched is held back, and of the dispositions there are none."""
    time, said = told(Read(MARCH, MARCH + 40, MARCH + 70, NOW), MARCH - 5, MARCH - 5, MARCH - 5, None)
    assert time == MARCH
    assert set(said.values()) == {MARCH}, "the empty feed comes along, and is not taken for one that is far ahead of all others"


def test_an_empty_partition_moves_with_the_one_that_is_being_read() -> None:
    time, said = told(Read(None, NOW, NOW, NOW), MARCH, None, None, None)
    assert time == MARCH
    assert said == {"logins/1": MARCH, "telephony/0": MARCH, "dispositions/0": MARCH}


@pytest.mark.parametrize("reader", [Read(NOW, NOW + 1, NOW + 20, NOW + 3)])
def test_where_all_is_read_time_is_that_of_the_one_asked_longest_ago(reader: Read) -> None:
    time, said = told(reader, None, None, None, None)
    assert time == NOW
    assert set(said.values()) == {NOW}


def test_nothing_is_told_before_every_partition_has_been_heard_of() -> None:
    assert told(Read(None, NOW, NOW, NOW), None, None, None, None) == (None, {})
