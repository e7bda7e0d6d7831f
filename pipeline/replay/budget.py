"""Which threshold would have met a budget of alerts? Reads past decisions, chooses on some days and looks at the next ones.

The unit is what pages: one incident, on the UTC day of its first decision, with its highest probability. A decision is kept at each entry
and at each change of level, so what rose between two decisions of one level is not seen: below the watch threshold the counts are lower
bounds. Snoozes are left out of the account. Nothing is changed by what is found here.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from math import ceil
from typing import Literal

import msgspec

from pipeline.core.decision import finding_uid
from pipeline.core.events import Ms
from pipeline.core.policy import Policy
from pipeline.replay.score import Truth
from pipeline.replay.verdicts import BENIGN, FRAUD, Verdicts

STEP = 1e-6  # decisions are written with six decimals: a threshold just above one lies this much above it
Label = Literal["fraud", "benign"]


class NoThreshold(ValueError):
    """No threshold can be chosen; the message says why."""


class Decided(msgspec.Struct, frozen=True):
    """One record of ``decisions``, as far as it is needed (a tolerant reader)."""

    account_id: str
    otp_id: str
    incident_id: str
    time: Ms
    probability: float
    policy_id: str
    model_id: str


class Incident(msgspec.Struct):
    """What would have paged as one: its day, its highest probability, its challenges, and what is known of it."""

    day: date
    probability: float
    challenges: set[tuple[str, str]]
    label: Label | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What a threshold would have done on some days: alerts of each day, and of the incidents that are known, how many it had."""

    per_day: tuple[int, ...]
    caught: int
    frauds: int
    false_alarms: int

    @property
    def worst(self) -> int:
        """The day with the most alerts."""
        return max(self.per_day, default=0)

    @property
    def mean(self) -> float:
        """Alerts on an average day."""
        return sum(self.per_day) / len(self.per_day) if self.per_day else 0.0


class Proposal(msgspec.Struct, frozen=True):
    """A threshold with its evidence, beside the one in force."""

    budget: int
    met: float
    threshold: float
    current: float
    chosen_on: tuple[date, ...]
    shown_on: tuple[date, ...]
    chosen: Outcome
    shown: Outcome
    chosen_now: Outcome
    shown_now: Outcome
    incidents: int
    policies: tuple[str, ...]
    models: tuple[str, ...]


class Past:
    """What was decided: take the decisions, then what is known of them."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}
        self.policies: set[str] = set()
        self.models: set[str] = set()
        self._decode = msgspec.json.Decoder(Decided).decode
        self._first: dict[str, Ms] = {}
        self._verdicts = Verdicts()

    def decision(self, value: bytes) -> None:
        """Take a record of ``decisions``. Raises ValueError for what is none."""
        try:
            d = self._decode(value)
        except msgspec.DecodeError as e:
            raise ValueError(f"not a decision: {e}") from None
        self.policies.add(d.policy_id)
        self.models.add(d.model_id)
        day = datetime.fromtimestamp(d.time / 1000, UTC).date()
        incident = self.incidents.get(d.incident_id)
        if incident is None:
            incident = self.incidents[d.incident_id] = Incident(day, 0.0, set())
            self._first[d.incident_id] = d.time
        if d.time < self._first[d.incident_id]:
            self._first[d.incident_id], incident.day = d.time, day
        incident.probability = max(incident.probability, d.probability)
        incident.challenges.add((d.account_id, d.otp_id))

    def disposition(self, value: bytes) -> None:
        """Take a record of ``dispositions``; the last one about the same thing counts. One that cannot be read is passed over."""
        self._verdicts.take(value)

    def know(self, truths: Sequence[Truth] = ()) -> None:
        """Label the incidents by what was said of their challenges, findings and sessions; fraud goes before benign."""
        known = {(t.account_id, finding_uid(t.account_id, t.otp_id)): t.label for t in truths}
        for uid, incident in self.incidents.items():
            places = {(account, finding_uid(account, otp)) for account, otp in incident.challenges}
            places |= {(account, uid) for account, _ in incident.challenges}
            verdicts = self._verdicts.of(places)
            labels = {known[p] for p in places if p in known}
            if verdicts & FRAUD or "takeover" in labels:
                incident.label = "fraud"
            elif verdicts & BENIGN or "benign" in labels:
                incident.label = "benign"


def propose(past: Past, policy: Policy, budget: int, chosen_days: int | None = None, met: float = 1.0) -> Proposal:
    """Find the lowest threshold above the policy's watch level that keeps to ``budget`` alerts on a share ``met`` of the chosen days.

    Chosen on the first ``chosen_days`` days (two thirds of them when None), shown on the rest. Raises NoThreshold.
    """
    days = sorted({i.day for i in past.incidents.values()})
    if len(days) < 2:
        raise NoThreshold(f"decisions of {len(days)} days: it takes two at least, some to choose on and some to show what comes of it")
    count = ceil(len(days) * 2 / 3) if chosen_days is None else chosen_days
    count = min(count, len(days) - 1) if chosen_days is None else count
    if not 0 < count < len(days):
        raise NoThreshold(f"{count} days to choose on, of {len(days)}: leave one at least to show what comes of it")
    chosen, shown = tuple(days[:count]), tuple(days[count:])
    needed = sorted(_needed(past.incidents.values(), day, budget) for day in chosen)
    threshold = round(max(needed[ceil(met * count) - 1], policy.thresholds.watch + STEP), 6)
    if threshold > 1.0 - STEP:
        raise NoThreshold(f"more than {budget} incidents a day are as good as certain: no threshold tells them apart")
    current = policy.thresholds.alert

    def of(days: tuple[date, ...], at: float) -> Outcome:
        return _outcome(past.incidents.values(), days, at)

    return Proposal(
        budget=budget,
        met=met,
        threshold=threshold,
        current=current,
        chosen_on=chosen,
        shown_on=shown,
        chosen=of(chosen, threshold),
        shown=of(shown, threshold),
        chosen_now=of(chosen, current),
        shown_now=of(shown, current),
        incidents=len(past.incidents),
        policies=tuple(sorted(past.policies)),
        models=tuple(sorted(past.models)),
    )


def _needed(incidents: Iterable[Incident], day: date, budget: int) -> float:
    """The lowest threshold that keeps to the budget on a day: just above the first incident that is too many."""
    peaks = sorted((i.probability for i in incidents if i.day == day), reverse=True)
    return peaks[budget] + STEP if len(peaks) > budget else 0.0


def _outcome(incidents: Iterable[Incident], days: tuple[date, ...], threshold: float) -> Outcome:
    among = [i for i in incidents if i.day in days]
    alerted = [i for i in among if i.probability >= threshold]
    return Outcome(
        per_day=tuple(sum(i.day == day for i in alerted) for day in days),
        caught=sum(i.label == "fraud" for i in alerted),
        frauds=sum(i.label == "fraud" for i in among),
        false_alarms=sum(i.label == "benign" for i in alerted),
    )


def lines(p: Proposal) -> list[str]:
    """The proposal in words, with what it rests on."""

    def said(what: str, days: tuple[date, ...], at: Outcome, now: Outcome) -> list[str]:
        span = f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"
        return [
            f"{what:13} {span} ({len(days)} {'day' if len(days) == 1 else 'days'})",
            f"  proposed    {_words(at)}",
            f"  in force    {_words(now)}",
        ]

    share = "each day" if p.met == 1.0 else f"{p.met:.0%} of the days"
    found = [
        f"threshold     {p.threshold:g} proposed, {p.current:g} in force; at most {p.budget} alerts on {share} it was chosen on",
        *said("chosen on", p.chosen_on, p.chosen, p.chosen_now),
        *said("shown on", p.shown_on, p.shown, p.shown_now),
        f"read          {p.incidents:,} incidents, policy {', '.join(p.policies)}, model {', '.join(p.models)}",
    ]
    if len(p.models) > 1:
        found.append("              several models decided: their probabilities may not mean the same; choose days of one")
    return found


def _words(o: Outcome) -> str:
    text = f"{o.mean:.1f} alerts a day, {o.worst} on the worst"
    if o.frauds or o.false_alarms:
        text += f"; of what is known: {o.caught} of {o.frauds} frauds, {o.false_alarms} false alarms"
    return text


def policy_text(p: Proposal) -> str:
    """The override as a policy file, its evidence above it. What else the policy overrides is not repeated: put it beside."""
    made = [f"# {line}" for line in ("Proposed by `offhook budget`. Nothing is in force until a policy file says so.", *lines(p))]
    return "\n".join([*made, "", "[thresholds]", f"alert = {p.threshold:g}", "", "[budget]", f"alerts_per_day = {p.budget}"]) + "\n"
