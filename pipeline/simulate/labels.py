"""What does case management find out, and when: late, seldom, and sometimes wrong."""

from random import Random

from pipeline.simulate.chance import DAY, MINUTE, Spread
from pipeline.simulate.facts import Challenge, Disposed
from pipeline.simulate.scene import Diary

NEVER = 0.3  # of frauds are never labelled (domain.md: 20 to 40 %)
WRONG = 0.035  # of labels are wrong (2 to 5 %)
ANALYST = Spread(0.12 * 86400, 1.1)  # seconds; 10 min to 2 days
VICTIM = Spread(6 * 86400, 1.0)  # 1 to 45 days


def _analyst(rng: Random, at: int) -> int:
    return at + min(2 * DAY, max(10 * MINUTE, ANALYST.ms(rng)))


def _victim(rng: Random, at: int) -> int:
    return at + min(45 * DAY, max(DAY, VICTIM.ms(rng)))


def labelled(diary: Diary, rng: Random, until: int | None) -> None:
    """Write the dispositions that come before ``until`` (None: all of them)."""
    for c in diary.challenges:
        if not c.is_history and (made := _disposition(c, rng, diary.next_id())) is not None and (until is None or made.at < until):
            diary.facts.append(made)


def _disposition(c: Challenge, rng: Random, event_id: str) -> Disposed | None:
    u, wrong, happened = rng.random(), rng.random() < WRONG, c.entered_at or c.expires_at
    common = (c.customer.account_id, c.otp_id, c.session_id)
    if c.story == "B16":
        return Disposed(event_id, happened + MINUTE, *common, "test", "automatic")
    if c.label == "takeover":
        if u < NEVER:
            return None
        if u < NEVER + 0.3:
            return Disposed(event_id, _analyst(rng, happened), *common, "false_positive" if wrong else "true_positive", "analyst")
        return Disposed(event_id, _victim(rng, happened), *common, "true_positive", "chargeback" if u > 0.85 else "customer")
    if c.label == "attempt":
        if u < 0.12:
            return Disposed(event_id, _analyst(rng, happened), *common, "true_positive", "customer")
        if u < 0.3:
            return Disposed(event_id, _analyst(rng, happened), *common, "benign" if wrong else "suspicious", "analyst")
        return None
    if u < (0.0008 if c.story == "plain" else 0.25):
        return Disposed(event_id, _analyst(rng, happened), *common, "true_positive" if wrong else "false_positive", "analyst")
    return None
