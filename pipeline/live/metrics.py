"""What does a worker count and measure? Every metric, declared once with its meaning and unit; ``/metrics`` serves them.

Labels are topics, feeds, stages, rule ids and other closed lists: never an account, a line, a peer or anything else of a person.
``METRICS`` is the table that the documentation and the dashboards are checked against.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar, get_args, get_type_hints

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector, ProcessCollector

from pipeline.core.events import AnyEvent
from pipeline.core.outcome import Decision, Example, Finding, Hold, HoldEnded, Late, Outcome, Sighting, Suppression

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)


class Metric(NamedTuple):
    """One metric: its name as scraped, its kind, meaning, unit and labels."""

    name: str
    kind: str
    meaning: str
    unit: str
    labels: tuple[str, ...]


METRICS: Final[dict[str, Metric]] = {}
_M = TypeVar("_M", Counter, Gauge, Histogram)


def _declare(kind: type[_M], name: str, meaning: str, unit: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()) -> _M:
    scraped = name + "_total" if kind is Counter else name
    METRICS[scraped] = Metric(scraped, kind.__name__.lower(), meaning, unit, tuple(labels))
    text = f"{meaning} ({unit})."
    if kind is Histogram:
        return kind(name, text, labels, registry=REGISTRY, buckets=buckets)
    return kind(name, text, labels, registry=REGISTRY)


# A batch folds in 1 to 50 ms and a broker answers in as long; the upper end is where somebody must look.
_SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# From the arrival of the last event to the alert: a victim on the phone has seconds.
_LATENCY: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LONG: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SIZES: Final = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)

BUILD_INFO = _declare(Gauge, "offhook_build_info", "What runs: always 1", "none", ["version", "policy_id", "model_id"])

RECORDS_READ = _declare(Counter, "offhook_records_read", "Records read from a topic", "records", ["stage", "topic"])
DEAD_LETTERS = _declare(Counter, "offhook_dead_letters", "Records set aside, by reason", "records", ["topic", "reason"])
DUPLICATES = _declare(Counter, "offhook_duplicates", "Records that were read again and had been folded before", "records", ["stage"])
UNSENDABLE = _declare(
    Counter,
    "offhook_unsendable",
    "Outputs left out because they are larger than their topic takes; raise its max.message.bytes, the dead letters name the inputs",
    "records",
)
LATE = _declare(Counter, "offhook_late_events", "Events that arrived too late to be folded", "events")
FEED_SUSPENDED = _declare(
    Gauge, "offhook_feed_suspended", "1 while a feed is left out because too much of it cannot be read", "none", ["feed"]
)

EVENTS_FOLDED = _declare(Counter, "offhook_events_folded", "Events folded, by type", "events", ["type"])
QUARANTINED = _declare(Counter, "offhook_quarantined", "Accounts set aside because our own code failed on one of their events", "accounts")
SET_ASIDE = _declare(
    Gauge, "offhook_set_aside", "Accounts, lines or slots that are not folded now because a bug of ours was tripped", "entities", ["stage"]
)
DECISIONS = _declare(Counter, "offhook_decisions", "Decisions, by level and stage", "decisions", ["level", "stage"])
ALERTS = _declare(
    Counter, "offhook_alerts", "Alerts, by what became of the finding and the stage of the challenge", "alerts", ["activity", "stage"]
)
ALERT_RULES = _declare(
    Counter, "offhook_alert_rules", "New findings on which a rule holds, by the stage of the challenge", "findings", ["rule", "stage"]
)
SUPPRESSED = _declare(
    Counter,
    "offhook_alerts_suppressed",
    "Alerts that are written and not heard: snoozed, or beyond the bound of a flood",
    "alerts",
    ["cause"],
)
SUPPRESSION_CAUSES: Final = get_args(get_type_hints(Suppression)["cause"])
FLOODED = _declare(
    Gauge, "offhook_alert_flood", "1 while new findings come in a flood and only the most probable of the window are heard", "none"
)
HOLDS = _declare(Counter, "offhook_holds", "Holds placed and ended", "holds", ["change"])
EXAMPLES = _declare(Counter, "offhook_examples", "Labelled decisions, by label and who gave it", "examples", ["label", "source"])
ALERT_LATENCY = _declare(
    Histogram,
    "offhook_alert_latency_seconds",
    "From the arrival of the last event of a finding to its alert on the broker",
    "seconds",
    ["stage"],
    _LATENCY,
)

SIGHTINGS = _declare(
    Counter,
    "offhook_sightings",
    "Callers, senders, devices and addresses that an account met while a code was open, and accounts sent a code, for campaign to count",
    "sightings",
    ["kind"],
)
CAMPAIGN_NEWS = _declare(
    Counter,
    "offhook_campaign_news",
    "What the campaign stage told all partitions of one that is on several accounts, or of a surge of codes",
    "records",
    ["kind"],
)
CAMPAIGNS = _declare(
    Gauge, "offhook_campaigns", "Callers, senders, devices and addresses on several accounts that detect knows of now", "entities"
)

BATCH_RECORDS = _declare(Histogram, "offhook_batch_records", "Records handled as one batch", "records", ["stage"], _SIZES)
FOLD_SECONDS = _declare(Histogram, "offhook_fold_seconds", "Time to fold one batch", "seconds", ["stage"], _SHORT)
PRODUCE_SECONDS = _declare(
    Histogram, "offhook_produce_seconds", "From handing records to the producer to the broker's answer", "seconds", ["stage"], _SHORT
)
LAG = _declare(
    Gauge, "offhook_lag_records", "Records of a partition that are not yet committed", "records", ["stage", "topic", "partition"]
)
COMMIT_AGE = _declare(
    Gauge,
    "offhook_commit_age_seconds",
    "How long the committed offset stands still while there is lag; 0 without lag",
    "seconds",
    ["stage", "topic", "partition"],
)
WATERMARK_AGE = _declare(Gauge, "offhook_watermark_age_seconds", "How far a feed's newest arrival lies back", "seconds", ["feed"])
CLOCK_AGE = _declare(
    Gauge,
    "offhook_clock_age_seconds",
    "How far back detect's clock lies, the slowest partition's: deadlines wait where a feed, or route, is behind; alerts do not",
    "seconds",
)
FEED_MISSING = _declare(
    Gauge, "offhook_feed_missing", "1 while alerts are made without a feed: it is behind, silent, suspended or absent", "none", ["feed"]
)
OVERFULL = _declare(Counter, "offhook_overfull_lines", "Events on a phone with too many accounts, which no account was told of", "events")
LEARNED = _declare(Counter, "offhook_learned_examples", "Examples learned, by label and who gave it", "examples", ["label", "source"])
LEARN_LOSS = _declare(
    Gauge,
    "offhook_learn_log_loss",
    "Mean weighted log loss over about the last 500 examples: of what detect had said of them, and of the learner before it learned them",
    "nats",
    ["role"],
)
MODELS_PUBLISHED = _declare(Counter, "offhook_models_published", "Snapshots of the learner written to the topic models", "snapshots")
MODELS_REFUSED = _declare(
    Counter,
    "offhook_models_refused",
    "Snapshots that are not used: tampered with, unknown, newer, too large...",
    "snapshots",
    ["stage", "reason"],
)
MODEL_IN_FORCE = _declare(
    Gauge, "offhook_model_in_force", "Partitions in which a model scores, as champion or in its shadow", "partitions", ["model_id", "role"]
)
DRIFTS = _declare(
    Counter,
    "offhook_drifts",
    "Changes found in the decisions of a day: of the score, the alert rate, a feature, or of how often one is missing",
    "changes",
    ["what", "feature"],
)
DRIFT_TOLD_AT = _declare(
    Gauge,
    "offhook_drift_told_timestamp_seconds",
    "When a change was last told, since 1970: to be heard of, too, where it was told before the first scrape",
    "seconds",
    ["what", "feature"],
)
LOOP_LAG = _declare(Histogram, "offhook_loop_lag_seconds", "How late the event loop wakes a sleeper", "seconds", (), _SHORT)

PARTITIONS = _declare(
    Gauge, "offhook_partitions", "Partitions of this worker: assigned to it, and restored", "partitions", ["stage", "state"]
)
RESTORED_RECORDS = _declare(
    Counter,
    "offhook_restored_records",
    "Records of a changelog, or by drift of decisions, read to restore or catch up",
    "records",
    ["stage"],
)
RESTORE_SECONDS = _declare(Histogram, "offhook_restore_seconds", "Time to restore the state of one partition", "seconds", ["stage"], _LONG)
STATE_ENTITIES = _declare(Gauge, "offhook_state_entities", "Accounts, lines or slots of campaigns held in state", "entities", ["stage"])
STATE_BYTES = _declare(Gauge, "offhook_state_bytes", "Encoded size of the state held", "bytes", ["stage"])
FOREIGN_WRITES = _declare(
    Counter, "offhook_foreign_writes", "Changelog records of a superseded owner, read and ignored", "records", ["stage"]
)

PARITY_WHAT: Final = ("state", "decisions", "alerts")
PARITY_CHECKED = _declare(Counter, "offhook_parity_checked", "Comparisons of what live wrote with a second fold", "comparisons", ["what"])
PARITY_MISMATCHES = _declare(
    Counter, "offhook_parity_mismatches", "Accounts of which live wrote something else than a second fold says", "accounts", ["what"]
)
AUDIT_ACCOUNTS = _declare(
    Gauge, "offhook_audit_accounts", "Accounts in the sample of the audit: compared, and left out", "accounts", ["state"]
)
AUDIT_BLIND = _declare(Gauge, "offhook_audit_blind", "1 while the audit compares nothing, since live runs another build", "none")
for _cause in SUPPRESSION_CAUSES:
    SUPPRESSED.labels(_cause)
for _what in PARITY_WHAT:  # a series that begins with its first fault would show no increase
    PARITY_CHECKED.labels(_what)
    PARITY_MISMATCHES.labels(_what)


KINDS: Final = ("caller", "sender", "device", "network", "codes")  # of entities, as core.sighting and core.surge name them

_FOLDED: Final = {kind: EVENTS_FOLDED.labels(str(kind.__struct_config__.tag)) for kind in get_args(AnyEvent)}


def count_events(folded: Mapping[type[AnyEvent], int]) -> None:
    """Count what was folded of each kind. Once a batch: of all metrics it alone is about every record."""
    for kind, count in folded.items():
        _FOLDED[kind].inc(count)


def count_outcomes(outcomes: Iterable[Outcome]) -> None:
    """Count what a fold said."""
    for outcome in outcomes:
        match outcome:
            case Decision():
                DECISIONS.labels(outcome.level, outcome.stage).inc()
            case Finding():
                ALERTS.labels(outcome.activity, outcome.stage).inc()
                if outcome.suppressed is not None and outcome.activity != "close":
                    SUPPRESSED.labels(outcome.suppressed.cause).inc()
                if outcome.activity == "create":
                    for rule in outcome.rules:
                        ALERT_RULES.labels(rule.uid, outcome.stage).inc()
            case Hold():
                HOLDS.labels("placed").inc()
            case HoldEnded():
                HOLDS.labels("ended").inc()
            case Late():
                LATE.inc()
            case Example():
                EXAMPLES.labels(str(outcome.label).lower(), outcome.source).inc()
            case Sighting():
                SIGHTINGS.labels(kind_of(outcome.entity)).inc()


def kind_of(entity: str) -> str:
    """What an entity is: ``caller``, ``sender``, ``device``, ``network`` or ``codes``."""
    kind = entity.partition(":")[0]
    return kind if kind in KINDS else "other"


def table() -> str:
    """Write the metrics as a Markdown table."""
    rows = [f"| `{m.name}` | {m.kind} | {m.unit} | {' '.join(f'`{x}`' for x in m.labels)} | {m.meaning} |" for m in METRICS.values()]
    return "\n".join(["| metric | kind | unit | labels | meaning |", "|---|---|---|---|---|", *rows])


def reference() -> str:
    """Write the reference that stands in deploy/metrics.md."""
    return (
        "# Metrics\n\nWhat a worker serves on `/metrics`, made by `offhook metrics --markdown` from `pipeline/live/metrics.py`. Those of"
        " the process and\nof Python (`process_*`, `python_*`) come beside them. No label names a person.\n\n" + table()
    )
