"""May this worker start? Asks whether the topics of its stage are there and kept as they must be, before it reads a record."""

import logging
from typing import Final

from pipeline.core.events import EVIDENCE_FEEDS, FEEDS
from pipeline.settings import Settings

log = logging.getLogger(__name__)
USES: Final[dict[str, tuple[str, ...]]] = {  # what each stage reads and writes
    "ingest": (*FEEDS, "events", "lines", "dead-letters"),
    "route": ("lines", "route-state", "events", "dead-letters"),
    "detect": ("events", "detect-state", "alerts", "decisions", "holds", "examples", "sightings", "models", "dead-letters"),
    "campaign": ("sightings", "campaign-state", "events", "dead-letters"),
    "drift": ("decisions", "dead-letters"),
    "learn": ("examples", "models", "dead-letters"),
    "audit": ("events", "detect-state", "alerts", "decisions", "models", "dead-letters"),
}


class NotFit(Exception):
    """The brokers are not as a worker needs them; the message says what to do."""


def require_topics(settings: Settings, stage: str) -> dict[str, int]:
    """Look at the topics of a stage; returns how many partitions each has, without prefix, those that do not exist left out.

    What should be looked at and hurts nobody is logged. Raises NotFit, and Unreachable when no broker answers.
    """
    from pipeline.live.topics_admin import check  # noqa: PLC0415 (its client takes long to load, and only a worker that starts needs it)

    reports = {report.topic.removeprefix(settings.prefix): report for report in check(settings, USES[stage])}
    wrong = [f"{report.topic}: {one}" for report in reports.values() for one in report.wrong]
    if wrong:
        raise NotFit("; ".join(wrong))
    found = {name: report.partitions for name, report in reports.items() if report.partitions}
    if stage == "ingest" and not any(feed in found for feed in EVIDENCE_FEEDS):
        raise NotFit(f"none of the raw topics exists at {settings.brokers} with the prefix {settings.prefix!r}: `offhook topics create`")
    for report in reports.values():
        for advice in report.advice:
            log.info("%s: %s", report.topic, advice)
    return found
