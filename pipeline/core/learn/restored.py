"""How does a learner go on from a snapshot? Apart from the snapshots themselves: who only scores needs neither River nor SciPy (110 MB)."""

from pipeline.core.learn.blend import Blend
from pipeline.core.learn.forest import Forest
from pipeline.core.learn.linear import Linear
from pipeline.core.learn.snapshot import Snapshot, SnapshotRefused, WritableLearner, fitting
from pipeline.core.learn.states import BlendState, ForestState, LinearState


def learner_of(snapshot: Snapshot) -> WritableLearner:
    """Build the learner. Raises SnapshotRefused ``scoring_only``, or ``malformed`` when the parts do not fit each other."""
    if not snapshot.content.to_learn:
        raise SnapshotRefused("scoring_only", snapshot.id)
    with fitting():
        match snapshot.content.model:
            case LinearState() as state:
                return Linear(state)
            case ForestState() as state:
                return Forest(state)
            case BlendState() as state:
                return Blend(state)
