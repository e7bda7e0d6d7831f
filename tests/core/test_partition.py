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


def dispatched(number: int, account: str) -> OtpDispatched:
    return OtpDispatched(
        event_id=f"e{number}",
        account_id=account,
        occurred_at=T0 + number,
        arrived_at=T0 + 100 + number,
        otp_id=f"o{number}",
        channel="sms",
        purpose="login",
        initiated_by="customer",
    )


def test_what_a_record_changed_can_be_taken_back_and_no_more() -> None:
    partition = Partition(Policy())
    partition.fold(0, dispatched(0, "acct-0"))
    partition.fold(1, dispatched(1, "acct-1"))
    partition.undo("acct-0")  # not of the last record
    before = partition.changes()
    assert before.keys() == {"acct-0", "acct-1"}
    partition.fold(2, dispatched(2, "acct-0"))
    partition.undo("acct-0")
    assert partition.changes() == {"acct-0": before["acct-0"]}
    partition.fold(3, dispatched(3, "acct-3"))
    partition.undo("acct-3")
    assert partition.timeline("acct-3") is None
    assert partition.changes() == {}
    partition.fold(4, dispatched(4, "acct-3"))
    assert partition.timeline("acct-3") is not None


def test_what_a_deadline_changed_can_be_taken_back_for_one_account() -> None:
    partition = Partition(Policy())
    for number in range(2):
        partition.fold(number, dispatched(number, f"acct-{number}"))
    before = partition.changes()
    partition.fold(2, Beat(arrived_at=T0 + FOUR_HOURS_MS, marks={"logins/0": Mark(T0 + FOUR_HOURS_MS, T0)}, partitions={"logins": 1}))
    partition.undo("acct-1")
    after = partition.changes()
    assert after["acct-1"] == before["acct-1"]
    assert after["acct-0"] != before["acct-0"]


def test_the_deadlines_of_an_account_that_is_set_aside_wait_until_it_is_restored() -> None:
    beat = Beat(arrived_at=T0 + FOUR_HOURS_MS, marks={"logins/0": Mark(T0 + FOUR_HOURS_MS, T0)}, partitions={"logins": 1})
    partition = Partition(Policy())
    for number in range(2):
        partition.fold(number, dispatched(number, f"acct-{number}"))
    before = partition.changes()
    partition.aside = {"acct-1"}
    partition.fold(2, beat)
    assert partition.changes().keys() == {"acct-0"}
    again = Partition(Policy())
    again.restore("acct-1", before["acct-1"])
    again.fold(3, beat)
    assert again.changes().keys() == {"acct-1"}, "whoever takes it over without the bug fires it"
