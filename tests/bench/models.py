"""What does a learned model cost where the policy's weights stood? Microseconds per scored episode, as champion and in the shadow."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from pathlib import Path
from statistics import median
from time import process_time, time

import msgspec
from nacl.signing import SigningKey

from pipeline.core import rules
from pipeline.core.events import Activation
from pipeline.core.features import Features
from pipeline.core.kept import features_of
from pipeline.core.learn.scoring import LearnedModel
from pipeline.core.learn.snapshot import read_snapshot
from pipeline.core.learn.states import BlendState
from pipeline.core.model import Model, Scoring
from pipeline.core.outcome import Example, RuleHit
from pipeline.core.policy import Policy
from pipeline.live.outbox import Outgoing
from pipeline.replay.evaluate import Labelled
from pipeline.replay.make import Lesson, lessons_of, taught
from pipeline.simulate.run import simulate
from pipeline.wire.codec import encode_event, encode_example
from pipeline.wire.pseudonym import Pseudonyms
from tests.bench import traffic
from tests.bench.figure import Figure
from tests.broker.harness import Deployment

TIMES = 5
KEY = SigningKey(bytes(32))
Episode = tuple[Features, tuple[RuleHit, ...]]


@cache
def grown() -> tuple[bytes, list[Lesson]]:
    """A snapshot of a blend that has learned two simulated days full of attacks, and what it learned: its trees have grown."""

    def quiet(done: int, at: int) -> None:
        """Nobody watches."""

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(traffic.SEED, 2_000, 48.0, folder, history_days=1, prior=0.1)
        labelled = Labelled((folder / "log.jsonl",), folder / "truth.jsonl", Policy())
        lessons, _ = lessons_of(labelled, 1, Pseudonyms.for_demo(), (), quiet)
    return taught(labelled, lessons, 1e-4, quiet).write(KEY), lessons


def promote(live: Deployment, alert: float | None = None) -> None:
    """Put the grown blend in force in a deployment that trusts our key; ``alert``: from which probability on, if not the policy's."""
    data, _ = grown()
    champion = read_snapshot(data, KEY.verify_key).id
    activation = Activation(
        activation_id="a_bench", arrived_at=int(time() * 1000), champion=champion, alert=alert, why="to measure it", by="bench"
    )
    live.append("models", [Outgoing(champion.encode(), data)], to=0)
    live.append("events", [Outgoing(None, encode_event(activation))])


@contextmanager
def keys() -> Iterator[dict[str, str]]:
    """Our keys in files, as settings."""
    with tempfile.TemporaryDirectory(prefix="offhook-bench-") as name:
        found = {"model_key_file": bytes(KEY), "model_public_key_file": bytes(KEY.verify_key)}
        for setting, key in found.items():
            (Path(name) / setting).write_text(key.hex())
        yield {setting: str(Path(name) / setting) for setting in found}


def taught_live(count: int) -> list[bytes]:
    """As many examples as they come from detect, one after the other; more than there are lessons begin anew under other names."""
    _, lessons = grown()
    return [
        encode_example(
            Example(
                example_id=f"d_{n:020x}", time=1_790_000_000_000 + n * 1000, features=features_of(lesson.row), label=lesson.label,
                weight=lesson.weight,
            )
        )
        for n, lesson in zip(range(count), cycle(lessons), strict=False)
    ]  # fmt: skip


def measure() -> list[Figure]:
    """The policy's model, and the grown blend."""
    policy = Policy()
    data, lessons = grown()
    began = process_time()
    snapshot = read_snapshot(data, KEY.verify_key)
    learned = LearnedModel(snapshot, policy)
    loaded = process_time() - began
    episodes: list[Episode] = []
    for lesson in lessons:
        features = msgspec.convert(features_of(lesson.row), Features)
        episodes.append((features, rules.hits(features, policy)))
    by_hand = _cost(Model(policy), episodes)
    blend = _cost(learned, episodes)
    return [
        Figure("score an episode, policy's weights", by_hand, "µs", 1.0, note=f"{len(episodes):,} episodes"),
        Figure("score an episode, learned blend", blend, "µs", blend / by_hand, note=_size(snapshot.content.model)),
        Figure(
            "check and load a snapshot", 1e3 * loaded, "ms", note=f"{len(data):,} bytes; off the hot path, once for each switch or restart"
        ),
    ]


def _size(state: object) -> str:
    """What a blend is made of. Raises AssertionError for one that has not grown: it would be cheaper than any in use."""
    assert isinstance(state, BlendState)
    assert state.anomaly.ready
    nodes, spaces = [len(member.tree.nodes) for member in state.forest.members], state.anomaly
    assert min(nodes) > 2, f"not grown: {nodes}"
    return f"forest of {len(nodes)} trees, {sum(nodes)} nodes; {len(spaces.trees)} half-space trees of height {spaces.settings.height}"


def _cost(model: Scoring, episodes: list[Episode]) -> float:
    """Processor time to score an episode (µs), the median of some runs."""
    score: Callable[..., object] = model.score
    costs = []
    for _ in range(TIMES):
        began = process_time()
        for features, hits in episodes:
            score(features, hits)
        costs.append((process_time() - began) / len(episodes) * 1e6)
    return median(costs)
