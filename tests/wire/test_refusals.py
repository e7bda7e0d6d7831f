"""Does a refusal hold on to nothing? Who reads a bad record has a batch in hand, which must go when the batch is done."""

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pipeline.core.errors import InvalidEvent
from pipeline.core.policy import Policy
from pipeline.wire.codec import decode_decision_head, decode_event, decode_example, decode_line_event, decode_sighting
from pipeline.wire.ingest import Ingest
from pipeline.wire.pseudonym import Pseudonyms

READ = partial(Ingest(Policy(), Pseudonyms.for_demo(), max_bytes=64).read, "logins", arrived_at=1)
READERS: dict[str, Callable[[bytes], Any]] = {
    "raw record": READ,
    "event": decode_event,
    "line event": decode_line_event,
    "example": decode_example,
    "sighting": decode_sighting,
    "decision": decode_decision_head,
}
BAD = {"cut off": b'{"event_id":"e', "field missing": b"{}", "not UTF-8": b'{"event_id":"\xff"}', "too large": b" " * 100}


class Batch:
    """What is in hand."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is looked for meanwhile."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_is_in_hand_when_a_record_is_refused_goes_without_a_search_for_garbage(read: Callable[[bytes], Any], value: bytes) -> None:
    def handle() -> "weakref.ref[Batch]":
        batch = Batch()
        try:
            read(value)
        except InvalidEvent:
            return weakref.ref(batch)
        raise AssertionError("it was read")

    assert handle()() is None
