"""Does a store on disk change anything but memory? Not a decision; and a disk that fails ends the worker, which begins anew."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.exits import DISK
from pipeline.live.outbox import Outgoing
from tests.broker.harness import ROOT, Deployment
from tests.broker.verifier import verify

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]  # on a busy machine its workers take their time
FULL = "ulimit -f 512; exec "  # no file larger than 512 KiB: what a full disk or a quota looks like to whoever writes


def many(records: list[Outgoing], copies: int) -> list[Outgoing]:
    """The same lives for many accounts more, so that there is something to put on a disk. Beats stay as they are."""
    return [copy for record in records for copy in ([record] if record.key is None else [as_of(record, n) for n in range(copies)])]


def as_of(record: Outgoing, copy: int) -> Outgoing:
    old = record.key or b""
    new = b"%s-%d" % (old, copy)
    return Outgoing(new, (record.value or b"").replace(b'"%s"' % old, b'"%s"' % new))


def environment(live: Deployment, data: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment
    return kept | {"OFFHOOK_STORE": "disk", "OFFHOOK_DATA_DIR": str(data), "OFFHOOK_CACHED_ACCOUNTS": "50"}


@pytest.mark.soak
def test_workers_that_keep_accounts_on_disk_lose_nothing_over_a_kill_and_leave_nothing_behind(
    deploy: Callable[..., Deployment], recorded: list[Outgoing], tmp_path: Path
) -> None:
    live = deploy(partitions=2, store="disk", data_dir=tmp_path, cached_accounts=50)
    half = len(recorded) // 2
    live.append("events", recorded[:half])
    worker = live.start("detect")
    live.settled(("detect",), within_s=240)
    assert list(tmp_path.glob("offhook-store-*/detect-*/CURRENT")), "there is a database for each partition"
    worker.kill()
    worker.wait()
    left = list(tmp_path.glob("offhook-store-*/lock"))
    assert len(left) == 1
    live.append("events", recorded[half:])
    live.finish({"detect": live.start("detect")}, within_s=240)
    verify(live, stages=("detect",))
    assert len(live.read("alerts")) > 5
    assert list(tmp_path.glob("offhook-store-*/lock")) == [], "what the killed worker left is gone, and so is this one's"


def test_a_disk_that_is_full_or_damaged_ends_the_worker_with_a_sentence_and_a_restart_rebuilds(
    deploy: Callable[..., Deployment], recorded: list[Outgoing], tmp_path: Path
) -> None:
    live = deploy(partitions=1)
    third = len(recorded) // 3
    live.append("events", many(recorded, 6))  # more than is gathered in memory before a file is written
    command = f"{sys.executable} -m pipeline worker --stages detect"
    full = subprocess.run(  # it writes more than such a file may hold long before the end
        ["/bin/sh", "-c", FULL + command], env=environment(live, tmp_path / "full"), cwd=ROOT, capture_output=True, timeout=300, check=False
    )
    said = full.stderr.decode()
    assert full.returncode == DISK.code, said
    assert re.search(r"the store on disk failed in \S+: .*File too large: free space on that file system", said)

    # With room it makes the store anew from the changelog, and goes on. Then somebody damages its files under it.
    data = tmp_path / "damaged"
    with (tmp_path / "said").open("w+") as heard:
        worker = subprocess.Popen(
            [sys.executable, *command.split()[1:]], env=environment(live, data), cwd=ROOT, stderr=heard, start_new_session=True
        )
        live.workers.append(worker)
        live.settled(("detect",), within_s=240)
        damage(data)
        live.append("events", many(recorded[:third], 1))
        code = worker.wait(300)
        live.workers.remove(worker)  # else the harness takes it for one that has failed
        heard.seek(0)
        said = heard.read()
    assert code == DISK.code, said
    assert re.search(r"the store on disk failed in \S+: (Corruption|IO error)", said)
    assert "OFFHOOK_STORE=memory" in said

    live.append("events", many(recorded[third : 2 * third], 1))
    live.finish({"detect": live.start("detect", store="disk", data_dir=data, cached_accounts=50)}, within_s=240)
    verify(live, stages=("detect",))


def damage(data: Path) -> None:
    """Write over the middle of every file of accounts."""
    deadline = time.monotonic() + 60
    while not (files := list(data.glob("offhook-store-*/detect-*/*.sst"))):
        assert time.monotonic() < deadline, "nothing has been written to a file"
        time.sleep(0.2)
    for file in files:
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.seek(size // 8)
            opened.write(os.urandom(size // 2))
