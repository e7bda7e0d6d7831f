"""Which accounts and lines are set aside on these brokers, and how are they let back in? What ``offhook quarantine`` does.

It reads the changelogs of the stages, and to release one writes the tombstone of what says that it is set aside. Workers learn it
when they take the partition over next, that is when they are started again.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

from aiokafka.errors import KafkaError

from pipeline.live.changelog import ChangelogReader, Image, encode_key
from pipeline.live.outbox import Outbox, Outgoing
from pipeline.live.quarantine import MARK, SetAside, decode
from pipeline.reach import reach, refused
from pipeline.settings import Settings

CHANGELOGS: Final = {  # stage -> its changelog, its input
    "detect": ("detect-state", "events"),
    "route": ("route-state", "lines"),
    "campaign": ("campaign-state", "sightings"),
}
WHAT: Final = {"detect": "account", "route": "line", "campaign": "slot"}


class Found(NamedTuple):
    """An entity that is set aside: by which stage, where its records are, and why."""

    stage: str
    entity: str
    source: str
    partition: int
    epoch: int
    why: SetAside

    def __str__(self) -> str:
        since = f"{self.source}/{self.partition}@{self.why.offset}"
        return f"{WHAT[self.stage]} {self.entity}: set aside by {self.stage}, version {self.why.code}, since {since}: {self.why.place}"


def show(settings: Settings) -> list[Found]:
    """All that are set aside, by stage and name. Raises Unreachable, UnsupportedState."""
    return _asked(settings, _show(settings))


def release(settings: Settings, names: tuple[str, ...]) -> list[Found]:
    """Let these back in, whichever stage has set them aside; returns those found. Raises Unreachable, UnsupportedState."""
    return _asked(settings, _release(settings, frozenset(names)))


def _asked(settings: Settings, work: Coroutine[Any, Any, list[Found]]) -> list[Found]:
    connection = settings.connection()
    try:
        reach(connection)
        return asyncio.run(work)
    except KafkaError as e:
        raise refused(connection, e) from e
    finally:
        work.close()


async def _show(settings: Settings) -> list[Found]:
    async with Outbox(settings.connection()) as outbox:
        return await _read(settings, outbox)


async def _read(settings: Settings, outbox: Outbox) -> list[Found]:
    await outbox.know(settings.topic(changelog) for changelog, _ in CHANGELOGS.values())
    found: list[Found] = []
    for stage, (changelog, source) in CHANGELOGS.items():
        topic = settings.topic(changelog)
        images = await asyncio.gather(*[_image(settings, topic, p) for p in range(outbox.partitions(topic))])
        for partition, image in enumerate(images):
            found += [
                Found(stage, entity.removeprefix(MARK), source, partition, kept.epoch, decode(kept.state))
                for entity, kept in sorted(image.kept.items())
            ]
    return found


async def _image(settings: Settings, topic: str, partition: int) -> Image:
    image = Image()

    def take(key: bytes, value: bytes | None) -> None:
        if key.startswith(MARK.encode()):
            image.take(key, value)

    async with ChangelogReader(settings.connection(), topic, partition) as reader:
        await reader.read(0, take)
    return image


async def _release(settings: Settings, names: frozenset[str]) -> list[Found]:
    async with Outbox(settings.connection()) as outbox:
        found = [one for one in await _read(settings, outbox) if one.entity in names]
        for one in found:
            topic = settings.topic(CHANGELOGS[one.stage][0])
            await outbox.append(topic, one.partition, [Outgoing(encode_key(MARK + one.entity, one.epoch), None)])
    return found
