"""A store on disk is the same dictionary as one in memory, bounded, and gone when its worker is."""

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.store import InMemory
from pipeline.live.disk_store import DiskFailed, OnDisk, on_disk
from pipeline.wire.codec import OutcomeEncoder
from tests.core.test_state_versions import recorded
from tests.examples import examples

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "remove", "clear"]), st.sampled_from("abcd"), st.binary(max_size=40)), max_size=30
)
_number = count()


@given(STEPS)
@settings(deadline=None, max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_the_same_as_memory(tmp_path: Path, steps: list[tuple[str, str, bytes]]) -> None:
    memory, disk = InMemory(), OnDisk(tmp_path / str(next(_number)))
    for what, key, raw in steps:
        match what:
            case "put":
                memory.put(key, raw)
                disk.put(key, raw)
            case "get":
                assert disk.get(key) == memory.get(key)
            case "remove":
                memory.remove(key)
                disk.remove(key)
            case "clear":
                memory.clear()
                disk.clear()
        assert sorted(disk.keys()) == sorted(memory.keys())
    disk.clear()
    assert disk.size == 0


@pytest.mark.parametrize("restart_every", [0, 100])
def test_decisions_and_state_are_the_same_bytes_with_either_store(tmp_path: Path, restart_every: int) -> None:
    """Law 3, with two decoded accounts at most, so that all others go to the disk and come back; with restarts, too."""
    _, _, events = recorded()
    encode = OutcomeEncoder("live").encode
    with on_disk(str(tmp_path)) as place:
        memory, disk = Partition(Policy()), Partition(Policy(), 2, lambda: place("detect", 0))
        said = 0
        for offset, event in events:
            one, other = memory.fold(offset, event), disk.fold(offset, event)
            assert [encode(o) for o in one] == [encode(o) for o in other]
            said += len(one)
            if offset % 10 == 0:
                assert memory.changes() == disk.changes()
            if restart_every and offset and offset % restart_every == 0:
                again = Partition(Policy(), 2, lambda: place("detect", 0))
                for account in sorted(disk.accounts()):
                    again.restore(account, disk.encoded(account) or b"")
                again.restore_clock(disk.clock())
                disk.drop()
                disk = again
                memory.changes()
        assert said > 10
        assert sorted(disk.accounts()) == sorted(memory.accounts())
        assert {a: disk.encoded(a) for a in disk.accounts()} == {a: memory.encoded(a) for a in memory.accounts()}
        disk.drop()
        assert len(disk) == 0


def test_a_worker_leaves_nothing_and_clears_up_after_one_that_was_killed(tmp_path: Path) -> None:
    killed = (
        "import os, signal, sys; from pipeline.live.disk_store import on_disk\n"
        "with on_disk(sys.argv[1]) as place:\n"
        "    place('detect', 0).put('a', b'1')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], timeout=60, check=False)
    assert len(list(tmp_path.glob("offhook-store-*/detect-0-*"))) == 1
    with on_disk(str(tmp_path)) as place:
        assert list(tmp_path.glob("offhook-store-*/detect-0-*")) == []
        place("detect", 0).put("a", b"1")
        with on_disk(str(tmp_path)) as other:
            other("detect", 0).put("a", b"2")
            assert len(list(tmp_path.glob("offhook-store-*/detect-0-*"))) == 2, "the one of a worker that lives is left alone"
    assert list(tmp_path.glob("offhook-store-*/")) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(DiskFailed, match=r"OFFHOOK_DATA_DIR.*nothing is lost"), on_disk(str(file)):
        pass
    store = OnDisk(file / "below")
    assert store.get("a") is None
    with pytest.raises(DiskFailed, match="free space"):
        store.put("a", b"1")
