"""How many random examples does a property get? All of them, or the share that ``EXAMPLES_SHARE`` names: `make check` is to be quick."""

import os

LEAST = 10


def examples(count: int) -> int:
    """``count``, or the share of it that is wanted."""
    return max(LEAST, round(count * float(os.environ.get("EXAMPLES_SHARE", "1"))))
