"""What did a run see and say, in numbers? Counts only: nothing in it depends on the machine or on how long the run took."""

from collections import Counter
from statistics import median, quantiles
from typing import Any

import msgspec

from pipeline.core.events import CampaignSeen, CodesSurged, Ms
from pipeline.core.outcome import Decision, Finding


class LeadTime(msgspec.Struct, frozen=True):
    """How early findings came, over those whose code was entered: seconds from the entry to the first alert, below zero before it."""

    findings: int
    before_entry: int
    median_s: float | None
    p10_s: float | None
    p90_s: float | None


class Summary(msgspec.Struct, frozen=True):
    """One run. Instants in ms; ``never_entered``: findings about codes that nobody entered while the log lasted."""

    policy_id: str
    log: str  # what was read: "raw" topics or a recorded "events" topic
    first_arrival: Ms | None
    last_arrival: Ms | None
    records: int
    feeds: dict[str, int]
    other_topics: dict[str, int]
    events: int
    accounts: int
    lines: int
    late: int
    dead_letters: dict[str, int]
    dead_letters_by_feed: dict[str, int]
    decisions: dict[str, int]
    alerts: dict[str, int]
    alerts_by_stage: dict[str, int]
    findings: int
    never_entered: int
    holds: int
    holds_ended: int
    examples: int
    sightings: int  # meetings while a code was open, and accounts sent a code, that the campaign stage counts
    campaigns: int  # callers, senders, devices and addresses on several accounts within an hour
    code_surges: int  # stretches of five minutes in which unusually many accounts were sent a code
    lead_time: LeadTime


class Tally:
    """Count outcomes as they pass. Grows with the number of findings, not with the log."""

    def __init__(self) -> None:
        self.decisions: Counter[str] = Counter()
        self.alerts: Counter[str] = Counter()
        self.stages: Counter[str] = Counter()
        self.dead_letters: Counter[str] = Counter()
        self.dead_letter_feeds: Counter[str] = Counter()
        self.holds = 0
        self.holds_ended = 0
        self.examples = 0
        self.late = 0
        self.sightings = 0
        self.campaigns: set[str] = set()
        self.surges: set[Ms] = set()
        self._after_entry_ms: dict[str, Ms | None] = {}  # per finding: from the entry to the first alert

    def decision(self, decision: Decision) -> None:
        """Count a decision by its level."""
        self.decisions[decision.level] += 1

    def finding(self, finding: Finding) -> None:
        """Count an alert, and note how early its finding came."""
        self.alerts[finding.activity] += 1
        if finding.activity != "close":
            self.stages[finding.stage] += 1
        entered = [e.occurred_at for e in finding.events if e.type == "otp_entered"]
        self._after_entry_ms[finding.uid] = finding.created_time - max(entered) if entered else self._after_entry_ms.get(finding.uid)

    def told(self, news: CampaignSeen | CodesSurged) -> None:
        """Count what the campaign stage says, once however often it does."""
        if type(news) is CampaignSeen:
            self.campaigns.add(news.entity)
        else:
            self.surges.add(news.at)

    def figures(self) -> dict[str, Any]:
        """What was counted, under the names that Summary has for it."""
        return {
            "late": self.late,
            "dead_letters": dict(sorted(self.dead_letters.items())),
            "dead_letters_by_feed": dict(sorted(self.dead_letter_feeds.items())),
            "decisions": dict(sorted(self.decisions.items())),
            "alerts": dict(sorted(self.alerts.items())),
            "alerts_by_stage": dict(sorted(self.stages.items())),
            "findings": self.findings,
            "never_entered": self.never_entered,
            "holds": self.holds,
            "holds_ended": self.holds_ended,
            "examples": self.examples,
            "sightings": self.sightings,
            "campaigns": len(self.campaigns),
            "code_surges": len(self.surges),
            "lead_time": self.lead_time(),
        }

    @property
    def findings(self) -> int:
        return len(self._after_entry_ms)

    @property
    def never_entered(self) -> int:
        return sum(ms is None for ms in self._after_entry_ms.values())

    def lead_time(self) -> LeadTime:
        """Summarise how early findings came."""
        seconds = sorted(ms / 1000 for ms in self._after_entry_ms.values() if ms is not None)
        tenths = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else None
        return LeadTime(
            findings=len(seconds),
            before_entry=sum(s < 0 for s in seconds),
            median_s=round(median(seconds), 3) if seconds else None,
            p10_s=round(tenths[0], 3) if tenths else None,
            p90_s=round(tenths[-1], 3) if tenths else None,
        )
