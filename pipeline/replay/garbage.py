"""How long does a replay wait for the garbage collector? Not at all while it folds: what it folds has no reference cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def few_collections() -> Iterator[None]:
    """Leave reference cycles alone meanwhile: the values folded have none, and looking for them costs a quarter of the time.

    The reader collects every ``run.COLLECT_EVERY`` records all the same, should a library make some.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
