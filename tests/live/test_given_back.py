"""Does the memory of partitions that went come back to the system? In a process of its own, on a C library that can."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pipeline.live.memory import give_back

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

before = resident()
partitions = [{number: bytes(1000) for number in range(40_000)} for _ in range(2)]
pin = bytes(1000)  # at the end of the heap: glibc gives nothing back from below it by itself
full = resident()
partitions[0].clear()
kept = resident()
give_back()
print((full - before) // 1024, (kept - before) // 1024, (resident() - before) // 1024)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library has no malloc_trim: it is not glibc")
def test_what_a_partition_took_goes_back_when_it_is_given_up() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    full, kept, after = map(int, run.stdout.split())
    assert kept > 0.9 * full, f"without it {full} MB stay at {kept}: then it is not needed any more"
    assert after < 0.65 * full, f"of {full} MB {after} are left"
