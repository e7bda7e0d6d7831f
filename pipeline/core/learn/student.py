"""What has been learned up to here, and is it time to write it down? The learner of the blend, taught example by example in one order.

When a snapshot is due follows from the log alone: after so many examples, or so many hours of log time. So a learner that starts again
from its newest snapshot makes the same snapshots, under the same ids, as one that never stopped.
"""

from typing import Final

import msgspec
from nacl.signing import SigningKey

from pipeline.core.events import Ms
from pipeline.core.learn.blend import Blend
from pipeline.core.learn.examples import learn_example
from pipeline.core.learn.scoring import with_known
from pipeline.core.learn.snapshot import Content, write_snapshot
from pipeline.core.learn.states import BlendSettings, LogisticSettings
from pipeline.core.learn.vocabulary import episode_schema
from pipeline.core.model import Model
from pipeline.core.outcome import Example
from pipeline.core.policy import Policy

HOUR_MS: Final = 3_600_000
# Before it has learned anything the blend says what the policy's weights say; the linear member corrects that as fast as labels come, the
# others have to earn their part. It learns fast, since a bank has some dozen frauds to learn from: chosen on the simulated seeds 721 to
# 726 (as `make learning-curve` makes them), which no figure uses.
SETTINGS: Final = BlendSettings(
    linear=LogisticSettings(rate=0.2, intercept_rate=0.01, memory=20_000), linear_weight=1.0, forest_weight=0.0, known_weight=1.0
)


class Student:
    """A blend that learns. ``examples`` were learned, ``through`` is the offset in ``examples`` behind the last one read."""

    def __init__(self, policy: Policy, settings: BlendSettings = SETTINGS, seed: int = 0) -> None:
        """One that knows nothing but the weights of the policy."""
        self._policy = policy
        self.learner = Blend.fresh(episode_schema(), settings, seed)
        self._people = Model(policy)
        self.examples = self.through = 0
        self.at: Ms = 0
        self._written_at: Ms = 0
        self._since = 0  # examples since the last snapshot
        self.said: float | None = None  # log-odds of the last example, before it was learned

    @classmethod
    def after(cls, policy: Policy, content: Content, learner: Blend) -> "Student":
        """One that goes on from a snapshot: with its weights, whatever the policy says today. Raises ValueError for unknown weights."""
        student = cls(policy)
        student.learner = learner
        student._people = Model(policy, content.weights)
        student.examples, student.through, student.at = content.examples, content.through, content.at
        student._written_at = content.at
        return student

    def take(self, offset: int, example: Example) -> bool:
        """Learn the example at an offset; False when it adds nothing. Raises ValueError for features of a wrong kind."""
        if offset < self.through:
            return False
        self.through = offset + 1
        self.at = max(self.at, example.time)
        self._written_at = self._written_at or self.at
        known = with_known(example.features, self._people, self._policy)
        learned = learn_example(self.learner, msgspec.structs.replace(example, features=known))
        if learned:
            self.said = self.learner.said
            self.examples += 1
            self._since += 1
        return learned

    @property
    def due(self) -> bool:
        """Whether it is time to write down what was learned."""
        learning = self._policy.learning
        enough, long = self._since >= learning.snapshot_examples, self.at - self._written_at >= learning.snapshot_hours * HOUR_MS
        return self._since > 0 and (enough or long)

    def write(self, key: SigningKey, made: str = "", to_learn: bool = True) -> bytes:
        """Write down and sign what was learned. Raises SnapshotRefused when it is too large, or not finite."""
        self._since, self._written_at = 0, self.at
        return write_snapshot(
            self.learner, key, examples=self.examples, through=self.through, at=self.at, made=made, weights=self._people.weights,
            to_learn=to_learn,
        )  # fmt: skip
