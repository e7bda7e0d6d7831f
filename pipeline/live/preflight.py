"""May this worker start? Looks at the topics on the brokers: which are there, and do the raw ones carry the time of arrival?"""

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.settings import Settings

_STAMP = "message.timestamp.type"


class NotFit(Exception):
    """The brokers are not as a worker needs them; the message says what to do."""


async def partitions_of(settings: Settings, topics: tuple[str, ...]) -> dict[str, int]:
    """How many partitions each of the topics has, those that do not exist left out. Names without prefix."""
    admin = AIOKafkaAdminClient(**settings.connection())
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        wanted = [settings.topic(topic) for topic in topics if settings.topic(topic) in existing]
        described = await admin.describe_topics(wanted) if wanted else []
    finally:
        await admin.close()
    found = {one["topic"].removeprefix(settings.prefix): len(one["partitions"]) for one in described}
    return {topic: found[topic] for topic in topics if topic in found}


async def require_arrival_times(settings: Settings, topics: tuple[str, ...]) -> None:
    """Refuse topics whose timestamps the producers set, since their clocks may lie; unless the settings trust them. Raises NotFit."""
    if settings.trust_create_time or not topics:
        return
    admin = AIOKafkaAdminClient(**settings.connection())
    await admin.start()
    try:
        asked = [ConfigResource(ConfigResourceType.TOPIC, settings.topic(topic), {_STAMP: None}) for topic in topics]
        answers = await admin.describe_configs(asked)
    finally:
        await admin.close()
    wrong = sorted(name for answer in answers for name, stamp in _stamps(answer) if stamp != "LogAppendTime")
    if wrong:
        raise NotFit(
            f"{', '.join(wrong)}: the producers set the time of arrival; set {_STAMP}=LogAppendTime on these topics"
            " (`offhook topics create` makes them so), or trust the producers' clocks with OFFHOOK_TRUST_CREATE_TIME=true"
        )


def _stamps(answer: Any) -> list[tuple[str, str]]:
    found = []
    for code, message, _, name, entries in answer.resources:
        if code:
            raise NotFit(f"{name}: its configuration cannot be read: {message or code}")
        found += [(name, entry[1]) for entry in entries if entry[0] == _STAMP]
    return found
