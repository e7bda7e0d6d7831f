"""One partition of events: a bug that a deadline trips harms one account, and no other."""

import pytest

from pipeline.core.detector import Detector
from pipeline.core.events import Beat, Mark, OtpDispatched
from pipeline.core.outcome import Outcome
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.timeline import Timeline

T0 = 1_790_000_000_000
FOUR_HOURS_MS = 4 * 3_600_000


def test_a_bug_at_a_deadline_harms_one_account(monkeypatch: pytest.MonkeyPatch) -> None:
    fire = Detector.fire

    def faulty(self: Detector, timeline: Timeline, now: int) -> tuple[Timeline, list[Outcome]]:
        if timeline.account_id == "acct-1":
            raise ZeroDivisionError
        return fire(self, timeline, now)

    monkeypatch.setattr(Detector, "fire", faulty)
    partition = Partition(Policy())
    for n in range(3):
        partition.fold(
            n,
            OtpDispatched(
                event_id=f"e{n}",
                account_id=f"acct-{n}",
                occurred_at=T0,
                arrived_at=T0 + 100,
                otp_id="o1",
                channel="sms",
                purpose="login",
                initiated_by="customer",
            ),
        )
    partition.fold(3, Beat(arrived_at=T0 + FOUR_HOURS_MS, marks={"logins/0": Mark(T0 + FOUR_HOURS_MS, T0)}, partitions={"logins": 1}))
    assert [(account, type(error)) for account, error in partition.tripped] == [("acct-1", ZeroDivisionError)]
    for account, settled in (("acct-0", 1), ("acct-1", 0), ("acct-2", 1)):
        timeline = partition.timeline(account)
        assert timeline is not None
        assert len(timeline.settled) == settled
