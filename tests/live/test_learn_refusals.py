"""Does the learner go on behind an example that it cannot take, and is each of those a dead letter that repeats nothing of it?"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from faust.types.tuples import TP
from nacl.signing import SigningKey

from pipeline.core.policy import Policy
from pipeline.live import metrics
from pipeline.live.batch import Batch
from pipeline.live.health import Health
from pipeline.live.learn import LearnStage
from pipeline.live.outbox import Outgoing
from pipeline.wire.codec import encode_example
from pipeline.wire.dead_letter import DeadLetters, parse
from tests.core.learn.test_student import world
from tests.live.test_align import Fetched
from tests.live.test_drift_told import Broker

OF_EXAMPLES = TP("examples", 0)


class NoSnapshots:
    """A reader of a topic ``models`` that holds nothing, beside examples enough."""

    tell: Callable[[int], None]

    async def __aenter__(self) -> "NoSnapshots":
        return self

    async def __aexit__(self, *error: object) -> None: ...

    async def read(self, position: int, take: Callable[[bytes, bytes | None], None]) -> int:
        return position

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, 1_000


def counted(reason: str) -> float:
    labels = {"topic": "examples", "reason": reason}
    return metrics.REGISTRY.get_sample_value("offhook_dead_letters_total", labels) or 0


def test_what_cannot_be_learned_is_a_dead_letter_and_its_neighbours_are_learned() -> None:
    examples = world(8)

    def told(offset: int, **changed: Any) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(examples[offset], **changed))

    values: list[bytes | None] = [encode_example(example) for example in examples]
    values[1] = told(1, features={"calls_in_episode": 10**400})
    values[2] = told(2, features={"entry_latency_s": -(10**400)})
    values[4] = told(4, features={"call_live": "yes"})
    values[5] = None
    broker: Any = Broker(1)

    async def story() -> None:
        open_changelog: Any = lambda topic, partition: NoSnapshots()  # noqa: E731
        stage = LearnStage(Policy(), SigningKey(b"\x11" * 32), "", open_changelog, DeadLetters("reference"), Health())
        await stage.start(broker, broker)
        stage.assigned({OF_EXAMPLES}, 1)
        batch = Batch(OF_EXAMPLES, 1, [Fetched(1_000 + n, n, b"d", value) for n, value in enumerate(values)])  # type: ignore[arg-type]
        await stage.prepare(batch)
        before = counted("invalid_field"), counted("no_value")
        await stage.handle(batch)
        assert (counted("invalid_field") - before[0], counted("no_value") - before[1]) == (3, 1)
        assert stage._student is not None
        assert (stage._student.examples, stage._student.through) == (4, 8)
        sent: list[Outgoing] = broker.sent
        letters = [parse(tuple(r.headers), r.key, r.value) for r in sent]
        assert [(a.offset, a.reason, a.detail) for a in letters] == [
            (1, "invalid_field", "features is outside the range that the contract allows"),
            (2, "invalid_field", "features is outside the range that the contract allows"),
            (4, "invalid_field", "features: ValidationError"),
            (5, "no_value", "a record of examples has a value"),
        ]
        await stage.stop()

    asyncio.run(story())
