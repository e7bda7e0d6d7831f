"""What is set aside, by whom, and who lets it in again? The fold's companion, apart from any broker."""

import re
from pathlib import Path

import msgspec
import pytest

from pipeline.core.errors import UnsupportedState
from pipeline.live.bug import Bug, guarded
from pipeline.live.disk_store import DiskFailed
from pipeline.live.quarantine import MARK, QUARANTINE_VERSION, Quarantine, SetAside, decode, encode


class Numbers:
    """A fold that keeps what it is given."""

    size = 0

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def changes(self) -> dict[str, bytes]:
        return dict(self.values)

    def clock(self) -> bytes:
        return b"clock"

    def restore(self, entity: str, state: bytes, /) -> None:
        self.values[entity] = state

    def restore_clock(self, state: bytes, /) -> None:
        assert state == b"clock"

    def encoded(self, entity: str, /) -> bytes | None:
        return self.values.get(entity)

    def forget(self, entity: str, /) -> None:
        self.values.pop(entity, None)

    def drop(self) -> None:
        self.values.clear()


def test_what_is_set_aside_is_written_once_and_restored_by_the_same_code() -> None:
    quarantine = Quarantine(Numbers())
    quarantine.restore("a", b"1")
    quarantine.add("a", 7, "ZeroDivisionError at rules.py:1")
    changes = quarantine.changes()
    assert changes.keys() == {"a", MARK + "a"}
    assert quarantine.changes().keys() == {"a"}
    again = Quarantine(Numbers())
    for entity, state in changes.items():
        again.restore(entity, state)
    assert again.entities == {"a"}
    assert [again.blocks("a", offset) for offset in (6, 7, 8)] == [False, True, True]
    assert not again.blocks("b", 8)
    assert again.encoded(MARK + "a") == changes[MARK + "a"]
    assert again.encoded("a") == b"1"


def test_other_code_lets_it_in_and_may_set_it_aside_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Quarantine(Numbers())
    first.add("a", 7, "somewhere")
    kept = first.changes()[MARK + "a"]
    monkeypatch.setattr(Quarantine, "code", "another version")
    second = Quarantine(Numbers())
    second.restore(MARK + "a", kept)
    assert not second.entities
    assert second.changes() == {}
    second.add("a", 9, "somewhere else")
    assert decode(second.changes()[MARK + "a"]) == SetAside(QUARANTINE_VERSION, "another version", 9, "somewhere else")


def test_an_operator_lets_it_in_with_a_tombstone_and_nothing_else_is_forgotten() -> None:
    quarantine = Quarantine(Numbers())
    quarantine.restore("a", b"1")
    quarantine.add("a", 7, "somewhere")
    quarantine.forget(MARK + "a")
    assert not quarantine.entities
    assert quarantine.encoded("a") == b"1"
    assert quarantine.encoded(MARK + "a") is None
    quarantine.forget("a")
    assert quarantine.encoded("a") is None


def test_one_of_a_newer_version_and_one_that_is_damaged_are_refused() -> None:
    for raw in (encode(SetAside(QUARANTINE_VERSION + 1, "x", 1, "y")), b"\xc1", msgspec.msgpack.encode([1])):
        with pytest.raises(UnsupportedState):
            Quarantine(Numbers()).restore(MARK + "a", raw)


def test_a_disk_that_fails_or_state_that_cannot_be_read_is_no_bug_of_an_account() -> None:
    for error in (DiskFailed(Path("somewhere"), OSError("full")), UnsupportedState("newer"), MemoryError()):
        assert guarded("a", error) is error
    try:
        raise ZeroDivisionError("what the event says")
    except ZeroDivisionError as e:
        bug = guarded("a", e)
    assert isinstance(bug, Bug)
    assert bug.entity == "a"
    assert re.fullmatch(r"ZeroDivisionError at test_set_aside\.py:\d+", str(bug))
