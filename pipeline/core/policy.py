"""What we believe: windows, bounds, thresholds and weights, frozen; the defaults are the policy in force.

A TOML file may override any of it; unknown fields are refused and the invariants between fields are checked. ``Policy.id`` is a
hash of the content and stands on every decision.
"""

import hashlib
from functools import cached_property
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.core.baselines import Baselines
from pipeline.core.outcome import MOST_WEIGHT

SURGE_STRETCH_S = 300  # codes of the whole bank are counted in stretches of this length; `offhook baselines` says what is usual in one
Seconds = Annotated[int, Meta(ge=1, le=400 * 86400)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1, le=100_000)]


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How late, how early and how many."""

    lateness_s: Seconds = 1800  # arrived_at - occurred_at above this is late (contract.md); line changes and dispositions never are
    future_s: Seconds = 300  # occurred_at this far beyond arrived_at is a broken clock: refused at ingest
    slack_s: Seconds = 300  # how far the stages may disorder arrivals (ingest aligns to 5 s; the rest is for a slow route)
    recent_events: Count = 400  # recent events kept per account; more are dropped, the oldest calls and messages first, and said
    devices: Count = 16  # devices remembered per account
    networks: Count = 24  # networks (ASN) remembered per account
    countries: Count = 12
    peers: Count = 96  # numbers remembered per account: 90 days of a usual circle
    entry_times: Count = 24  # last entry latencies remembered, for the account's own normal
    settled: Count = 8  # assessments kept per account for a later disposition (architecture.md)
    settled_days: Count = 45  # and for how long
    line_accounts: Count = 32  # a phone with more accounts is not fanned out (contract.md)
    line_links: Count = 256  # links remembered per phone, those of the accounts last heard of: a switchboard's phone has no end of them


class Windows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an episode reaches."""

    before_s: Seconds = 3600  # calls, messages and logins this long before the dispatch belong to the episode
    after_s: Seconds = 600  # changes of the account this long after the entry (domain.md P1)
    call_live_s: Seconds = 3600  # without an end, a call counts as live this long (contract.md)
    code_valid_s: Seconds = 600  # validity of a code that does not say (domain.md: 2 to 10 minutes)
    code_valid_most_s: Seconds = 1800  # a stated validity beyond this is cut, so that an episode ends
    delivery_s: Seconds = 60  # a call or message of the code's channel this soon after the dispatch is the delivery (contract.md)
    incident_s: Seconds = 600  # challenges of one purpose this close are one incident (contract.md)
    known_after_s: Seconds = 10800  # a device is known once it was first seen this long ago (domain.md L1: 3 h)
    peer_known_days: Count = 90  # a number is a stranger when not seen for this long (domain.md C3)
    peer_known_after_days: Count = 3  # and when it was first seen less than this long ago (a call the day before warms nobody up)
    line_change_s: Seconds = 864000  # a SIM swap or port counts this long: 240 h (CAMARA SIM Swap default maxAge)
    forwarding_s: Seconds = 604800  # forwarding switched on this recently is suspicious: 7 d (R06)
    link_learned_days: Count = 180  # a link learned from a dispatch ends (contract.md: recycled numbers)
    route_recent_s: Seconds = 1800  # calls and messages route keeps for a link that appears later (architecture.md)
    route_line_days: Count = 400  # line changes route keeps (architecture.md)


class Campaigns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When one caller, sender, device or address on several accounts is a campaign (domain.md C5, X1, X2; R04)."""

    accounts: Annotated[int, Meta(ge=2, le=100)] = 3  # so many accounts within the window (R04)
    window_s: Seconds = 3600  # R04: 1 h
    step_s: Seconds = 300  # the window ends with the stretch of this length that the code's moment lies in; below slack_s and after_s
    most: Annotated[int, Meta(ge=2, le=100)] = 10  # counted up to here: more says nothing more, and bounds what is kept
    before_s: Seconds = 300  # a call or text this long before a code was sent concerns it (a bot calls first by minutes, V2)
    after_s: Seconds = 600  # and this long after it: a code's usual validity

    @property
    def reach_s(self) -> int:
        """How long a meeting counts at most."""
        return self.window_s + self.step_s


class Feeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a feed counts as behind or absent."""

    behind_s: Seconds = 60  # a feed this far behind the fastest is missing
    patience_s: Seconds = 21600  # and holds back the clock this long: deadlines wait for a dead route worker, within the memory for it
    silent_s: Seconds = 1800  # a feed with no record for this long is missing
    dead_letter_share: Share = 0.5  # above this share of the last records, a feed is suspended
    dead_letter_window: Count = 200  # over how many records the share is taken


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Probabilities at which the level rises."""

    watch: Share = 0.0483509  # odds of a nineteenth of those of the alert, as by hand (0.05 and 0.5)
    alert: Share = 0.491183  # fitted with the weights of pipeline.core.weights: 1.5 false alarms per 10,000 benign codes (by hand 0.5)


class Learning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes an example for the models that learn, and which alerts are set apart to judge them by."""

    wait_days: Count = 7  # an unlabelled challenge is taken for benign after this: labels come 1 to 10 days late, most within a week
    negatives: Share = 0.02  # the share of them that is, each weighing 1/share; the others teach what these do
    trust: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.5  # in such a label: nobody has looked, and frauds are found after weeks too
    control: Share = 0.02  # the share of alerts marked ``control`` on the decision
    snapshot_examples: Count = 500  # a snapshot of what was learned after so many examples: some hundred frauds change a weight visibly
    snapshot_hours: Count = 24  # or after so long, in log time: a new one each morning

    def __post_init__(self) -> None:
        if self.negatives and self.trust / self.negatives > MOST_WEIGHT:
            raise ValueError(f"learning.trust / learning.negatives must not exceed {MOST_WEIGHT:g}")


class Snoozes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long and how many findings somebody may ask not to hear of: a snooze blinds, so each one ends."""

    days: Count = 90  # a snooze of a rule or a reason ends after this at the latest: a confirmed cause does not last for ever
    model_days: Count = 14  # and one of a whole model, which blinds the account
    kept: Count = 32  # records kept per account; the oldest by occurrence go


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the people who read alerts can take."""

    alerts_per_day: Count | None = (
        None  # alerts that page; `offhook budget` proposes the threshold that meets it, nothing changes by itself
    )


class Flood(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the detector's own alerts are a flood, in one partition of events."""

    findings: Count = 300  # new findings that page within the window before it is one: 100 times a large bank's budget
    window_s: Seconds = 3600  # sliding, in the time of the log
    per_account: Annotated[int, Meta(ge=1, le=8)] = 3  # so many of one account count: no single account makes a flood


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How addresses and devices are kept (contract.md): as they are, as a keyed pseudonym, or not at all."""

    ip: Literal["plain", "pseudonym", "drop"] = "plain"
    device_id: Literal["plain", "pseudonym", "drop"] = "plain"


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Everything that can change a decision, apart from code."""

    bounds: Bounds = Bounds()
    windows: Windows = Windows()
    campaigns: Campaigns = Campaigns()
    feeds: Feeds = Feeds()
    thresholds: Thresholds = Thresholds()
    learning: Learning = Learning()
    privacy: Privacy = Privacy()
    snoozes: Snoozes = Snoozes()
    budget: Budget = Budget()
    flood: Flood = Flood()
    baselines: Baselines = Baselines()  # `offhook baselines` proposes them
    weights: dict[str, Annotated[float, Meta(ge=-20.0, le=20.0)]] = {}  # overrides of core.model.WEIGHTS, by name
    rules_off: frozenset[str] = frozenset()  # ids of rules that do not count
    test_accounts: frozenset[str] = frozenset()  # the institution's own test accounts: assessed, never alerted (domain.md B16)

    def __post_init__(self) -> None:
        if self.thresholds.watch >= self.thresholds.alert:
            raise ValueError("thresholds.watch must be below thresholds.alert")
        if self.learning.wait_days >= self.bounds.settled_days:
            raise ValueError("learning.wait_days must be below bounds.settled_days")
        if self.windows.code_valid_s > self.windows.code_valid_most_s:
            raise ValueError("windows.code_valid_s must not exceed windows.code_valid_most_s")
        if self.campaigns.most < self.campaigns.accounts:
            raise ValueError("campaigns.most must not be below campaigns.accounts")
        if self.campaigns.step_s > min(self.bounds.slack_s, self.windows.after_s):
            raise ValueError("campaigns.step_s must not exceed bounds.slack_s or windows.after_s: a code is settled that much later")
        if self.baselines.codes is not None and min(self.bounds.slack_s, self.windows.after_s) < SURGE_STRETCH_S:
            raise ValueError(f"baselines.codes needs bounds.slack_s and windows.after_s of {SURGE_STRETCH_S} s or more")

    @cached_property
    def id(self) -> str:
        """``p_`` and ten characters of the content's SHA-256.

        Baselines that are empty are left out: they change no decision, so the policy is the one it was before there were any; and so are
        those of codes.
        """
        content = msgspec.to_builtins(self, order="deterministic")
        if self.baselines == Baselines():
            del content["baselines"]
        elif self.baselines.codes is None:
            del content["baselines"]["codes"]
        return "p_" + hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:10]

    @cached_property
    def retain_ms(self) -> int:
        """How long an event stays in the recent set after it occurred, before it is sealed into the profile (ms)."""
        w, b = self.windows, self.bounds
        return 1000 * (w.before_s + w.code_valid_most_s + w.after_s + b.lateness_s + 2 * b.slack_s)


def policy_from(toml_values: dict[str, object]) -> Policy:
    """Build a policy from parsed TOML. Raises ValueError with the path of the field that is wrong."""
    try:
        return msgspec.convert(toml_values, Policy)
    except msgspec.ValidationError as e:
        raise ValueError(str(e)) from None
