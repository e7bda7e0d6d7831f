"""How long may the end of a worker take? No longer than the platform waits, though its clients wait longer for a broker that is silent.

aiokafka waits 40 s for the answer to a commit and as long again for that to leaving the group. What a worker cannot settle in time it
does not commit: it is read again. So ending hard loses nothing, and the sentence says that it happened.
"""

import logging
import os
import threading
from typing import Final

from pipeline.exits import BROKERS

log = logging.getLogger(__name__)
END_S: Final = 30.0  # below the 45 s after which a parent kills its children, and the 60 s that the deployment grants


def end_within(seconds: float = END_S) -> None:
    """Have this process end within ``seconds``, gracefully or with exit code BROKERS."""
    timer = threading.Timer(seconds, _end, (seconds,))  # a thread: the event loop may be what hangs
    timer.daemon = True
    timer.start()


def _end(seconds: float) -> None:
    log.error(
        "ends without a goodbye: the brokers have not answered for %.0f s; what was in hand is not committed and is read again",
        seconds,
        extra={"action": BROKERS.action},
    )
    os._exit(BROKERS.code)
