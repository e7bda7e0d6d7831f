"""What really happened at each challenge: the lines of truth.jsonl."""

from bisect import bisect_left

import orjson

from pipeline.simulate.facts import Call, Challenge
from pipeline.simulate.scene import Diary
from pipeline.simulate.views import rfc3339


def truth_lines(diary: Diary) -> bytes:
    """Write one object per challenge.

    ``has_call``: an answered call, other than the code's own delivery, was live on a line of the account when the code was
    entered, or, where it never was, while it was valid; or it was part of the attack. In the world, whatever the bank sees.
    ``history``: before the log's start proper.
    """
    calls = sorted((c for c in diary.calls if c.answered_at is not None), key=lambda c: c.at)
    starts = [c.at for c in calls]
    return b"".join(orjson.dumps(_line(c, calls, starts), option=orjson.OPT_APPEND_NEWLINE) for c in diary.challenges)


def _line(c: Challenge, calls: list[Call], starts: list[int]) -> dict[str, object]:
    begin, end = (c.dispatched_at, c.expires_at) if c.entered_at is None else (c.entered_at, c.entered_at)
    call = c.call
    if call is None:
        numbers = {line.number for line in c.customer.lines}
        for other in reversed(calls[: bisect_left(starts, end)]):
            if other.answered_at is not None and other.line.number in numbers and other.answered_at <= end and other.ended_at > begin:
                if other.peer.is_bank and other.answered_at > c.dispatched_at and c.channel == "voice":
                    continue
                call = other
                break
    answered = call.answered_at if call is not None else None
    return {
        "account_id": c.customer.account_id,
        "otp_id": c.otp_id,
        "label": c.label,
        "story": c.story,
        "dispatched_at": rfc3339(c.dispatched_at),
        "entered_at": rfc3339(c.entered_at) if c.entered_at is not None else None,
        "accepted": c.accepted,
        "call_answered_at": rfc3339(answered) if answered is not None else None,
        "has_call": answered is not None,
        "segment": c.customer.segment,
        "history": c.is_history,
    }
