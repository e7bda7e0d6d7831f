"""Is "it cannot matter" sure? Whatever is passed over leaves every feature of the challenge as it was."""

from hypothesis import example, given, settings
from strategies import ACCOUNT, T0, lives

from pipeline.core import relevance
from pipeline.core.decision import Assessment, assess
from pipeline.core.detector import Detector, new_timeline
from pipeline.core.episode import build
from pipeline.core.events import AccountEvent, CallChanged, MessageSeen, OtpDispatched, OtpEntered
from pipeline.core.policy import Policy
from pipeline.core.timeline import RecentEvent, Timeline
from tests.examples import examples

POLICY = Policy()
DETECTOR = Detector(POLICY)
BEFORE_MS = 1000 * POLICY.windows.before_s


def assessed(t: Timeline, otp_id: str, recent: tuple[RecentEvent, ...]) -> Assessment:
    episode = build(recent, otp_id, t.now, POLICY)
    assert episode is not None
    return assess(episode, t.profile, POLICY, DETECTOR.model, ACCOUNT)


def passed_over(events: list[AccountEvent]) -> int:
    """Fold a life, and compare each assessment with and without an event that is said not to matter; returns how many there were."""
    t, count = new_timeline(ACCOUNT), 0
    for event in events:
        t, _ = DETECTOR.step(t, event)
        if event not in t.recent or isinstance(event, OtpDispatched | OtpEntered):
            continue
        for track in t.tracks:
            since = track.start - BEFORE_MS
            if not since <= event.occurred_at <= track.until or relevance.matters(event, track, t.recent, t.profile, since):
                continue
            without = tuple(e for e in t.recent if e is not event)
            with_it, before = assessed(t, track.otp_id, t.recent), assessed(t, track.otp_id, without)
            assert with_it.features == before.features
            assert (with_it.level, with_it.stage) == (before.level, before.stage)
            assert (with_it.score.log_odds, with_it.score.reasons) == (before.score.log_odds, before.score.reasons)
            count += 1
    return count


def entered() -> list[AccountEvent]:
    sent = OtpDispatched(
        event_id="a", account_id=ACCOUNT, occurred_at=T0, arrived_at=T0, otp_id="o1", sender=("k1:bank",), line="r:one", channel="sms",
        purpose="login", initiated_by="customer", status="sent",
    )  # fmt: skip
    entry = OtpEntered(event_id="b", otp_id="o1", outcome="accepted", account_id=ACCOUNT, occurred_at=T0 + 9, arrived_at=T0 + 9)
    return [sent, entry]


def call(name: str, call_id: str, state: str, after_ms: int, **more: object) -> CallChanged:
    at = T0 + after_ms
    base = {"event_id": name, "account_id": ACCOUNT, "occurred_at": at, "arrived_at": at, "line": "r:one", "direction": "inbound"}
    return CallChanged(**base, call_id=call_id, state=state, **more)  # type: ignore[arg-type]


def text(name: str, peer: str, after_ms: int) -> MessageSeen:
    at = T0 + after_ms
    return MessageSeen(event_id=name, account_id=ACCOUNT, occurred_at=at, arrived_at=at, line="r:one", direction="inbound", peer=(peer,))


@given(lives(most=40))
@example([*entered(), call("c", "c1", "ringing", 20), call("d", "c2", "ringing", 30)])
@example([*entered(), text("c", "k1:stranger", 20), text("d", "k1:other", 30)])
@settings(deadline=None, max_examples=examples(400))
def test_what_is_passed_over_changes_no_feature(events: list[AccountEvent]) -> None:
    passed_over(events)


def test_calls_and_texts_behind_the_entry_are_passed_over_once_it_is_known_that_they_are_told() -> None:
    first = call("c", "c1", "ringing", 20)
    assert passed_over([*entered(), first]) == 0, "the first call says that calls are told"
    assert passed_over([*entered(), first, call("d", "c2", "ringing", 30), call("e", "c2", "answered", 40)]) == 2
    assert passed_over([*entered(), first, call("d", "c2", "ringing", 30, peer_is_bank=True)]) == 0
    assert passed_over([*entered(), call("f", "c2", "ringing", 5), first, call("d", "c2", "answered", 30)]) == 1, (
        "c2 began before the entry"
    )
    assert passed_over([*entered(), text("c", "k1:bank", 5), text("d", "k1:bank", 20)]) == 2, "the delivery itself"
    assert passed_over([*entered(), text("c", "k1:stranger", 20)]) == 0
    assert passed_over([*entered(), text("c", "k1:stranger", 20), text("d", "k1:other", 30)]) == 1
