"""Which of the snapshots that lie about may score? Those that are what their id says, signed with the trusted key; the others are refused.

An id is a hash of the content, so two snapshots under one id are the same, or one of them is false: the true one is taken, in whatever
order they come.
"""

from collections.abc import Callable

from nacl.signing import VerifyKey

from pipeline.core.learn.scoring import LearnedModel
from pipeline.core.learn.snapshot import VERSION, Snapshot, SnapshotRefused, read_snapshot
from pipeline.core.learn.vocabulary import episode_schema
from pipeline.core.policy import Policy


def checked(model_id: str, data: bytes, key: VerifyKey) -> Snapshot:
    """Read a snapshot that was found under an id. Raises SnapshotRefused, ``tampered`` too where it is another one."""
    snapshot = read_snapshot(data, key)
    if snapshot.id != model_id:
        raise SnapshotRefused("tampered", f"it is {snapshot.id}, and stands under another id")
    return snapshot


def goes_on(snapshot: Snapshot) -> bool:
    """May a learner of this version go on from it?"""
    content = snapshot.content
    return snapshot.version == VERSION and content.to_learn and content.features == episode_schema().id


class SnapshotShelf:
    """Models by id, as core.champion.Shelf has them."""

    def __init__(self, policy: Policy, key: VerifyKey, refused: Callable[[str, SnapshotRefused], None] = lambda i, e: None) -> None:
        """``refused``: told of each snapshot that was refused, with the id it stood under."""
        self._policy, self._key, self._told = policy, key, refused
        self._models: dict[str, LearnedModel] = {}
        self._refused: set[str] = set()

    def offer(self, model_id: str, data: bytes) -> None:
        """Take a snapshot if it may score."""
        if model_id in self._models:
            return
        try:
            self._models[model_id] = LearnedModel(checked(model_id, data, self._key), self._policy)
        except SnapshotRefused as e:
            self._refused.add(model_id)
            self._told(model_id, e)

    def knows(self, model_id: str) -> bool:
        """Whether a snapshot was offered under this id, be it refused."""
        return model_id in self._models or model_id in self._refused

    def get(self, model_id: str, /) -> LearnedModel | None:
        """The model; None for one of which nothing but what was refused has been offered. Raises LookupError without either."""
        model = self._models.get(model_id)
        if model is None and model_id not in self._refused:
            raise LookupError(f"the log activates the model {model_id}, and no snapshot of it is there")
        return model
