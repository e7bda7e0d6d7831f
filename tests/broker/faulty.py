"""A worker with a bug in it: the product's own, whose fold fails on what accounts with a certain last digit do beside logging in.

    python -m tests.broker.faulty 7 0.9 worker --stages detect

fails on accounts that end in 7 and says that its version is 0.9; with a digit of ``-`` it has no bug.
"""

import sys

from pipeline.__main__ import main
from pipeline.core.detector import Detector
from pipeline.core.events import AccountEvent, LoggedIn
from pipeline.core.outcome import Outcome
from pipeline.core.timeline import Timeline
from pipeline.live.quarantine import Quarantine

if __name__ == "__main__":
    digit, Quarantine.code = sys.argv[1:3]
    step = Detector.step

    def faulty(self: Detector, timeline: Timeline, event: AccountEvent) -> tuple[Timeline, list[Outcome]]:
        if not isinstance(event, LoggedIn) and event.account_id.endswith(digit):
            raise ZeroDivisionError(f"a message that names {event.account_id}")
        return step(self, timeline, event)

    Detector.step = faulty  # type: ignore[method-assign]
    main(sys.argv[3:])
