"""Which snapshots may go? Never one that an activation names, nor the one that learn goes on from."""

from nacl.signing import SigningKey

from pipeline.core.events import Activation
from pipeline.core.learn.snapshot import read_snapshot
from pipeline.core.learn.student import Student
from pipeline.core.policy import Policy
from pipeline.live.model_log import Shelved, prunable

KEY = SigningKey(b"\x11" * 32)


def snapshot(through: int, key: SigningKey = KEY) -> tuple[str, bytes]:
    student = Student(Policy())
    student.through = through
    data = student.write(key)
    return read_snapshot(data, key.verify_key).id, data


def test_what_was_in_force_in_a_shadow_or_is_learned_on_from_stays() -> None:
    champion, shadow, old, newest, by_hand = (snapshot(through) for through in (1, 2, 3, 9, 0))
    strange = snapshot(99, key=SigningKey(b"\x22" * 32))
    activation = Activation(activation_id="a_1", arrived_at=1, champion=champion[0], challengers=(shadow[0],))
    shelved = Shelved(dict((champion, shadow, old, newest, strange, by_hand)), (activation,))
    assert prunable(shelved, 1, KEY.verify_key) == [old[0], strange[0]], "the newest of the learner is not the last that was written"
    assert prunable(shelved, 3, KEY.verify_key) == [old[0]]
    assert prunable(shelved, 50, KEY.verify_key) == []
    assert prunable(Shelved({}, ()), 1, KEY.verify_key) == []
