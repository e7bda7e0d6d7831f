"""Which topics are there, and how must each be kept? Names are without the prefix of a deployment."""

from typing import Literal

import msgspec

DAY_MS = 86_400_000
PARTITIONS = 4  # a start for a trial; the number of partitions of ``events`` is the most workers that can share the fold


class TopicSpec(msgspec.Struct, frozen=True):
    """How a topic is keyed and kept.

    ``log_append_time``: the broker stamps the arrival, since a producer's clock may lie. ``retention_ms``: None keeps for ever.
    """

    name: str
    key: str
    what: str
    direction: Literal["in", "out", "internal"]
    partitions: int
    cleanup: Literal["delete", "compact", "compact,delete"]
    retention_ms: int | None
    log_append_time: bool
    max_bytes: int | None = None  # of one record; None: as the brokers say


def _raw(name: str, key: str, what: str) -> TopicSpec:
    # Seven days: long enough to repair a stage over a long weekend, short because these records hold phone numbers.
    return TopicSpec(name, key, what, "in", PARTITIONS, "delete", 7 * DAY_MS, True)


def _changelog(name: str, key: str, what: str) -> TopicSpec:
    return TopicSpec(name, key, what, "internal", PARTITIONS, "compact", None, False)


_ALL = (
    _raw("logins", "account_id", "credential checks (first factor)"),
    _raw("otp-dispatches", "account_id", "one-time codes sent, sent again, delivered or failed"),
    _raw("telephony", "phone", "calls, messages and changes of the customers' lines"),
    _raw("otp-entries", "account_id", "codes entered"),
    TopicSpec("phone-links", "phone|account_id", "whose phone is it", "in", PARTITIONS, "compact", None, True),
    _raw("account-changes", "account_id", "what a session did next"),
    _raw("dispositions", "account_id", "what case management found out"),
    # Compacted: a snooze is in force for weeks, and `offhook snooze list` reads it here.
    TopicSpec("snoozes", "account_id|scope", "known causes that need not be heard of", "in", PARTITIONS, "compact", None, True),
    # 60 days: a backtest over the profile's memory of devices and the 45 days in which fraud is confirmed.
    TopicSpec("events", "account_id", "the canonical log, one order per account", "internal", PARTITIONS, "delete", 60 * DAY_MS, True),
    TopicSpec("lines", "line", "telephony and links by phone line", "internal", PARTITIONS, "delete", 7 * DAY_MS, True),
    # One day: the campaign stage counts over an hour, and may be down for a night.
    TopicSpec(
        "sightings",
        "entity",
        "whom accounts met while a code was open, and some that were sent a code",
        "internal",
        PARTITIONS,
        "delete",
        DAY_MS,
        True,
    ),
    # 400 days: a year of audit and the weeks it takes to ask for it.
    TopicSpec("alerts", "account_id", "OCSF detection findings for case management", "out", PARTITIONS, "delete", 400 * DAY_MS, True),
    TopicSpec("decisions", "account_id", "every assessment worth keeping", "out", PARTITIONS, "delete", 400 * DAY_MS, True),
    TopicSpec("holds", "account_id|otp_id", "codes that the login server may refuse for now", "out", PARTITIONS, "compact", None, False),
    TopicSpec("dead-letters", "", "what could not be read, and why", "out", PARTITIONS, "delete", 30 * DAY_MS, False),
    # One partition: one learner reads one order. 400 days: a learner is rebuilt from it when the features change.
    TopicSpec("examples", "decision_id", "labelled decisions, to learn from", "internal", 1, "delete", 400 * DAY_MS, True),
    # A learned model is up to 8 MiB (core.learn.snapshot).
    TopicSpec("models", "model_id", "signed snapshots of models, and when they took force", "internal", 1, "compact", None, False, 9 << 20),
    _changelog("detect-state", "account_id and owner epoch", "timelines of accounts"),
    _changelog(
        "campaign-state",
        "slot and owner epoch",
        "callers, senders, devices and addresses of the last hours, and accounts that were sent a code",
    ),
    _changelog("route-state", "line and owner epoch", "accounts and recent events of lines"),
)
TOPICS: dict[str, TopicSpec] = {spec.name: spec for spec in _ALL}
