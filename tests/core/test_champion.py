"""Does a model take force at its place in the log, and nowhere else? Switches, shadows, thresholds, refusals, restarts, redelivery."""

from math import log

import msgspec
import pytest
from strategies import T0

from pipeline.core.champion import NoModels, Shelf, thresholds_of
from pipeline.core.events import Activation, AnyEvent, Beat, Mark, OtpDispatched, OtpEntered
from pipeline.core.features import Features
from pipeline.core.model import WEIGHED, Score, Scoring
from pipeline.core.outcome import Challenger, Decision, Outcome, Reason, RuleHit
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy, Thresholds
from pipeline.wire.codec import decode_event, encode_event


class Always:
    """A model that says the same of everything."""

    def __init__(self, model_id: str, probability: float) -> None:
        self.id, self.p = model_id, probability

    def score(self, features: Features, rules: tuple[RuleHit, ...]) -> Score:
        log_odds = log(self.p / (1 - self.p))
        return Score(self.p, log_odds, lambda: (Reason("base_rate", log_odds),))


class Shelved:
    """Models by id; None for one that is refused."""

    def __init__(self, **models: Scoring | None) -> None:
        self._models = models

    def get(self, model_id: str, /) -> Scoring | None:
        return self._models[model_id]


SHELF = Shelved(m_high=Always("m_high", 0.9), m_low=Always("m_low", 0.2), m_bad=None)


def code(number: int, account: str = "acct-1") -> list[AnyEvent]:
    at, same = T0 + number * 60_000, {"account_id": account, "otp_id": f"o{number}"}
    return [
        OtpDispatched(
            event_id=f"d{number}", occurred_at=at, arrived_at=at, channel="sms", purpose="login", initiated_by="customer", **same
        ),
        OtpEntered(event_id=f"e{number}", occurred_at=at + 8_000, arrived_at=at + 8_100, outcome="accepted", **same),
    ]


def activation(champion: str, *challengers: str, alert: float | None = None, watch: float | None = None) -> Activation:
    return Activation(activation_id=f"a_{champion}", arrived_at=T0, champion=champion, challengers=challengers, alert=alert, watch=watch)


def beat(at: int) -> Beat:
    return Beat(arrived_at=at, marks={"logins/0": Mark(at, at)}, partitions={"logins": 1})


def entries(said: list[Outcome]) -> list[Decision]:
    """The first decision of each challenge; when it is settled, hours later, what is in force then has the last word."""
    found = {o.otp_id: o for o in reversed(said) if isinstance(o, Decision) and o.stage == "at_entry"}
    return [found[otp_id] for otp_id in sorted(found)]


def folded(events: list[AnyEvent], shelf: Shelf | None = None, restart: bool = False) -> tuple[list[Outcome], Partition]:
    partition, said, kept = Partition(Policy(), models=shelf or SHELF), [], {}
    for offset, event in enumerate(events):
        said += partition.fold(offset, decode_event(encode_event(event)))
        if restart:
            kept |= partition.changes()
            clock, partition = partition.clock(), Partition(Policy(), models=shelf or SHELF)
            for account, state in kept.items():
                partition.restore(account, state)
            partition.restore_clock(clock)
            if not partition.equipped:
                partition.equip()
    return said, partition


ALERT = Policy().thresholds.alert
STORY = [
    beat(T0 - 1000), *code(1), activation("m_low", WEIGHED), *code(2),
    activation("m_high", "m_low", WEIGHED, alert=0.95, watch=0.5), *code(3), activation(WEIGHED), *code(4), beat(T0 + 3 * 3_600_000),
]  # fmt: skip


def test_each_decision_is_made_by_what_is_in_force_at_its_place() -> None:
    said, partition = folded(STORY)
    first, low, high, back = entries(said)
    assert (first.model_id, first.challengers, first.threshold) == (WEIGHED, (), ALERT)
    assert (low.model_id, low.probability, low.level) == ("m_low", 0.2, "watch")
    assert low.challengers == (Challenger(WEIGHED, low.challengers[0].probability),)
    assert 0 < low.challengers[0].probability < 0.05
    assert (high.model_id, high.probability, high.level, high.threshold) == ("m_high", 0.9, "watch", 0.95)
    assert [c.model_id for c in high.challengers] == ["m_low", WEIGHED]
    assert (back.model_id, back.challengers, back.threshold) == (WEIGHED, (), ALERT)
    assert partition.activation == activation(WEIGHED)


def test_a_restart_between_any_two_events_changes_nothing() -> None:
    said, partition = folded(STORY)
    again, restarted = folded(STORY, restart=True)
    assert again == said
    assert restarted.clock() == partition.clock()


def test_a_redelivery_behind_a_switch_is_scored_by_the_model_of_its_place() -> None:
    """The clock of before the switch is durable, one account is ahead of it: all is folded again, and says what it said."""
    for cut in range(1, len(STORY)):
        whole, _ = folded(STORY)
        before, partition = folded(STORY[:cut])
        clock, kept = partition.clock(), partition.changes()
        again = Partition(Policy(), models=SHELF)
        for account, state in kept.items():
            again.restore(account, state)
        again.restore_clock(clock)
        if not again.equipped:
            again.equip()
        rest = [o for offset, event in enumerate(STORY) if offset >= max(0, cut - 3) for o in again.fold(offset, event)]
        assert before + rest == whole


def test_a_champion_that_is_refused_changes_nothing_and_a_challenger_does_not_run() -> None:
    said, partition = folded([*code(1), activation("m_low"), activation("m_bad"), *code(2), activation("m_high", "m_bad"), *code(3)])
    assert [d.model_id for d in entries(said)] == [WEIGHED, "m_low", "m_high"]
    assert entries(said)[-1].challengers == ()
    assert partition.activation == activation("m_high", "m_bad")


def test_a_champion_that_is_refused_after_a_restart_gives_way_to_the_policy() -> None:
    _, partition = folded([activation("m_low"), *code(1)])
    again = Partition(Policy(), models=Shelved(m_low=None))
    again.restore_clock(partition.clock())
    again.equip()
    assert again.detector.model.id == WEIGHED


def test_nobody_folds_with_a_model_of_which_nothing_is_known() -> None:
    with pytest.raises(LookupError, match="m_low"):
        folded([activation("m_low")], NoModels())
    _, partition = folded([activation("m_low"), *code(1)])
    again = Partition(Policy(), models=SHELF)
    again.restore_clock(partition.clock())
    assert not again.equipped
    with pytest.raises(AssertionError, match="before its models were there"):
        again.fold(11, code(2)[1])


def test_thresholds_that_are_not_given_follow_the_policy() -> None:
    policy = Thresholds(watch=0.05, alert=0.5)
    assert thresholds_of(activation("m_low"), policy) == policy
    found = thresholds_of(activation("m_low", alert=0.2), policy)
    assert (found.alert, round(found.watch, 12)) == (0.2, 0.02)
    assert thresholds_of(activation("m_low", alert=0.2, watch=0.1), policy) == Thresholds(watch=0.1, alert=0.2)


def test_the_clock_of_code_that_knew_no_activations_is_read() -> None:
    _, partition = folded([beat(T0), *code(1)])
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(partition.clock())[:-1])
    again = Partition(Policy())
    again.restore_clock(old)
    assert (again.equipped, again.now, again.activation) == (True, partition.now, None)
