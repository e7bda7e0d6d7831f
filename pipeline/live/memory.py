"""How does memory go back that a rebalance has left? By a collection, and by asking the C library, which keeps what is freed for itself."""

import ctypes
import gc


def give_back() -> None:
    """Collect, since a closed consumer is a cycle that holds megabytes it has fetched and ``app.COLLECT_EVERY`` is long; then hand back
    to the system what is free: glibc gives back only from the end of its heap, so a worker that had all partitions for a minute would
    stay as large for ever. Other C libraries are left to themselves.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
