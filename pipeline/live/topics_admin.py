"""Are the topics there, and kept as they must be? Creates what is missing; what exists and is wrong is said and never changed.

Run by an operator before the first worker (``offhook topics create``), and by every worker at its start (``check``).
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from pipeline.reach import reach, refused
from pipeline.settings import Settings, variable_of
from pipeline.wire.topics import TOPICS, TopicSpec

# A record of the first goes to the partition of the same number of the second: the state lives beside what it is made from.
TWINS: Final = (("events", "detect-state"), ("lines", "route-state"), ("sightings", "campaign-state"))
BOOTSTRAP_MS: Final = 15_000
# Changelogs are read whole at a restore: small segments, so that compaction reaches nearly all of them.
COMPACTED: Final = {"segment.bytes": str(64 << 20), "min.cleanable.dirty.ratio": "0.2"}


class TopicReport(msgspec.Struct, frozen=True):
    """One topic: what became of it, what is wrong (a worker must not start), and what should be looked at (it may)."""

    topic: str  # the full name
    state: Literal["created", "there", "missing"]
    partitions: int
    wrong: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a worker may start with it."""
        return not self.wrong

    def __str__(self) -> str:
        head = f"{self.topic}: {self.state}" + (f", {self.partitions} partitions" if self.partitions else "")
        return "\n".join([head, *(f"  wrong: {w}" for w in self.wrong), *(f"  advice: {a}" for a in self.advice)])


class _Found(msgspec.Struct, frozen=True):
    partitions: int
    replicas: int
    configs: Mapping[str, str]  # empty: not ours to read


def create(settings: Settings, partitions: int | None = None, replication: int | None = None) -> list[TopicReport]:
    """Create the topics that are missing, and report on all of them.

    ``partitions``: of every topic that is created (None: as ``wire.topics`` says); a twin takes the number of the one that exists.
    ``replication``: copies of each (None: the broker's default). Raises Unreachable.
    """
    with _admin(settings) as admin:
        found = _look(admin, settings)
        wanted = {
            settings.topic(name): {
                "num_partitions": _number(name, found, settings, partitions),
                "replication_factor": replication or -1,
                "configs": configs(spec, replication),
            }
            for name, spec in TOPICS.items()
            if settings.topic(name) not in found
        }
        if wanted:
            try:
                admin.create_topics(wanted, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                wanted = {}  # somebody else makes them at this moment: then they are simply there
            found = _look(admin, settings)
        return _reports(settings, found, frozenset(wanted), partitions)


def check(settings: Settings, topics: Collection[str] = tuple(TOPICS)) -> list[TopicReport]:
    """Report on every topic, or on some (without prefix), and change nothing. Raises Unreachable."""
    with _admin(settings) as admin:
        return _reports(settings, _look(admin, settings, topics), frozenset(), None, topics)


def configs(spec: TopicSpec, replication: int | None = None) -> dict[str, str]:
    """Build the configuration that a topic is created with."""
    values = {
        "cleanup.policy": spec.cleanup,
        "message.timestamp.type": "LogAppendTime" if spec.log_append_time else "CreateTime",
        "retention.ms": str(-1 if spec.retention_ms is None else spec.retention_ms),
    }
    if "compact" in spec.cleanup:
        values |= COMPACTED
    if spec.max_bytes is not None:
        values["max.message.bytes"] = str(spec.max_bytes)
    if replication is not None and replication >= 3:
        values["min.insync.replicas"] = "2"  # an acknowledged record survives the loss of one broker
    return values


class _Client(KafkaAdminClient):  # type: ignore[misc] # the library has no types
    """kafka-python's admin client, which leaves its sockets and its thread behind when it is refused; this one does not."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except KafkaError:
            self._closed = False
            self.close()
            raise


@contextmanager
def _admin(settings: Settings) -> Iterator[Any]:
    connection = settings.connection()
    reach(connection)
    admin = None
    try:
        admin = _Client(**connection, client_id="offhook-topics", bootstrap_timeout_ms=BOOTSTRAP_MS)
        yield admin
    except KafkaError as e:
        raise refused(connection, e) from e
    finally:
        if admin is not None:
            admin.close()


def _look(admin: Any, settings: Settings, topics: Collection[str] = tuple(TOPICS)) -> dict[str, _Found]:
    names = [settings.topic(name) for name in topics]
    described = {}
    for topic in admin.describe_topics(names):
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            continue
        if topic["error_code"]:
            raise error(f"{topic['name']} cannot be described")
        described[topic["name"]] = topic["partitions"]
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in described]
    values = admin.describe_configs(resources, config_filter="all").get("topic", {}) if resources else {}
    return {
        name: _Found(
            len(parts),
            min(len(p["replica_nodes"]) for p in parts),
            {key: one["value"] for key, one in values.get(name, {}).items() if one["value"] is not None},
        )
        for name, parts in described.items()
    }


def _number(name: str, found: Mapping[str, _Found], settings: Settings, partitions: int | None) -> int:
    for twins in TWINS:
        if name in twins:
            for twin in twins:
                if settings.topic(twin) in found:
                    return found[settings.topic(twin)].partitions
    return TOPICS[name].partitions if TOPICS[name].partitions == 1 else partitions or TOPICS[name].partitions


def _reports(
    settings: Settings,
    found: Mapping[str, _Found],
    created: frozenset[str],
    partitions: int | None,
    topics: Collection[str] = tuple(TOPICS),
) -> list[TopicReport]:
    reports = []
    for name in topics:
        spec = TOPICS[name]
        full = settings.topic(name)
        one = found.get(full)
        if one is None:
            reports.append(_missing(full, spec))
            continue
        wrong, advice = _differences(spec, one, settings)
        for twins in TWINS:
            if name in twins:
                twin = settings.topic(twins[1 - twins.index(name)])
                if twin in found and found[twin].partitions != one.partitions:
                    wrong.append(
                        f"has {one.partitions} partitions and {twin} has {found[twin].partitions}: the two must have the same number"
                    )
        if spec.partitions == 1 and one.partitions != 1:
            wrong.append(f"has {one.partitions} partitions: it must have one, so that all of it has one order")
        if partitions is not None and one.partitions != partitions and full not in created and spec.partitions != 1:
            advice.append(f"has {one.partitions} partitions, not the {partitions} asked for; this never changes what exists")
        reports.append(TopicReport(full, "created" if full in created else "there", one.partitions, tuple(wrong), tuple(advice)))
    return reports


def _missing(full: str, spec: TopicSpec) -> TopicReport:
    if spec.direction == "in":
        return TopicReport(
            full, "missing", 0, (), ("this feed does not exist: nothing waits for it, and alerts say what they were built without",)
        )
    return TopicReport(full, "missing", 0, ("missing: run `offhook topics create`",))


def _differences(spec: TopicSpec, one: _Found, settings: Settings) -> tuple[list[str], list[str]]:
    """Say what differs: first what a worker must not start with, then what somebody should look at."""
    wrong: list[str] = []
    advice: list[str] = []
    if not one.configs:
        advice.append("its configuration cannot be read (DescribeConfigs is not allowed), so it is not checked")
        return wrong, advice
    has = one.configs.get

    cleanup, should = {c.strip() for c in has("cleanup.policy", "").split(",")}, set(spec.cleanup.split(","))
    if cleanup != should:
        # deleting state forgets accounts; compacting a log of facts drops all but the last of each account
        (wrong if spec.direction != "out" else advice).append(_setting("cleanup.policy", has("cleanup.policy"), spec.cleanup))
    if spec.log_append_time and has("message.timestamp.type") != "LogAppendTime":
        trusted = spec.direction == "in" and settings.trust_create_time
        (advice if trusted else wrong).append(
            _setting("message.timestamp.type", has("message.timestamp.type"), "LogAppendTime")
            + ": a producer's clock may lie"
            + (f"; or set {variable_of('trust_create_time')}=true if yours cannot" if spec.direction == "in" and not trusted else "")
        )
    if spec.max_bytes is not None and int(has("max.message.bytes", str(spec.max_bytes))) < spec.max_bytes:
        advice.append(_setting("max.message.bytes", has("max.message.bytes"), f"at least {spec.max_bytes}"))
    kept = int(has("retention.ms", "-1"))
    if spec.retention_ms is None and "delete" in cleanup and kept != -1:
        wrong.append(_setting("retention.ms", str(kept), "-1"))
    elif spec.retention_ms is not None and 0 <= kept < spec.retention_ms:
        advice.append(_setting("retention.ms", str(kept), f"at least {spec.retention_ms}"))
    if int(has("retention.bytes", "-1")) >= 0 and "delete" in cleanup:
        advice.append(f"retention.bytes is {has('retention.bytes')}: records may go sooner than their time")
    if one.replicas < 2:
        advice.append("has one copy: fine for a trial, lost with its broker")
    elif one.replicas >= 3 and int(has("min.insync.replicas", "1")) < 2:
        advice.append(_setting("min.insync.replicas", has("min.insync.replicas"), "2"))
    if has("unclean.leader.election.enable") == "true":
        advice.append(_setting("unclean.leader.election.enable", "true", "false") + ": acknowledged records can be lost")
    return wrong, advice


def _setting(name: str, is_: str | None, should: str) -> str:
    return f"{name} is {is_}, should be {should}"
