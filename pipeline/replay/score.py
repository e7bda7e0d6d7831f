"""How good was the run? Joins what it said with what really happened; pure, except for reading the truth file.

Unit of counting: one challenge (one one-time code, resends included). A challenge counts as alerted when a finding about it was ever
heard, whether or not it was taken back later: somebody was paged. One that was suppressed all along does not count. Shares come with
95 % Wilson intervals (Wilson 1927), which hold up for the very small rates that matter here.
"""

from collections.abc import Iterable
from datetime import datetime
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from pipeline.replay.cases import Case

PLAIN = "plain"  # the story of a challenge that has none
Z95 = 1.959963984540054  # the 97.5 % point of the normal distribution


class Truth(msgspec.Struct, frozen=True):
    """What really happened in one challenge, as the simulator wrote it down."""

    account_id: str
    otp_id: str
    label: Literal["takeover", "attempt", "benign"]
    story: str
    dispatched_at: datetime | None = None
    entered_at: datetime | None = None
    call_answered_at: datetime | None = None
    has_call: bool = False
    segment: str | None = None  # of customers, such as older: who bears the false alarms
    history: bool = False  # before the log proper: accounts are still being learned, so it does not count


class Group(msgspec.Struct, frozen=True):
    """Challenges of one kind: how many, how many alerted, the share with its interval, and how early.

    ``after_entry_s``: median seconds from the entry to the first alert (below zero: before it), over those that were entered.
    """

    name: str
    label: str
    challenges: int
    alerted: int
    withdrawn: int
    share: float | None
    low: float
    high: float
    entered: int  # alerted and entered
    before_entry: int  # of these, alerted before the entry
    within_second: int  # at most 1 s after the entry, those before included
    within_minute: int  # at most 60 s after the entry, those before included
    after_entry_s: float | None


class Score(msgspec.Struct, frozen=True):
    """The whole comparison, history left out.

    ``in_history``: findings about challenges of the history; ``unmatched``: about challenges that the truth does not name.
    """

    takeovers: Group
    attempts: Group
    benign: Group
    lookalikes: Group  # benign challenges that are a story of their own
    plain: Group  # and those that are not
    takeovers_with_call: Group
    takeovers_without_call: Group
    stories: tuple[Group, ...]
    in_history: int
    unmatched: int

    @property
    def false_alarms_per_10k(self) -> tuple[float, float, float]:
        """False alarms per 10,000 benign challenges: the rate and its 95 % interval."""
        return (self.benign.share or 0.0) * 1e4, self.benign.low * 1e4, self.benign.high * 1e4


def wilson(hits: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share.

    >>> [round(x, 4) for x in wilson(0, 10_000)]
    [0.0, 0.0004]
    >>> [round(x, 3) for x in wilson(9, 10)]
    [0.596, 0.982]
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == n else middle + half)


def _after_entry_s(truth: Truth, case: Case) -> float | None:
    return None if truth.entered_at is None else (case.heard or case.first).time / 1000 - truth.entered_at.timestamp()


def _group(name: str, label: str, members: list[tuple[Truth, Case | None]]) -> Group:
    alerted = [(truth, case) for truth, case in members if case is not None]
    leads = [s for truth, case in alerted if (s := _after_entry_s(truth, case)) is not None]
    low, high = wilson(len(alerted), len(members))
    return Group(
        name=name,
        label=label,
        challenges=len(members),
        alerted=len(alerted),
        withdrawn=sum(case.closed for _, case in alerted),
        share=len(alerted) / len(members) if members else None,
        low=low,
        high=high,
        entered=len(leads),
        before_entry=sum(s < 0 for s in leads),
        within_second=sum(s <= 1 for s in leads),
        within_minute=sum(s <= 60 for s in leads),
        after_entry_s=median(leads) if leads else None,
    )


def _story_order(name: str) -> tuple[int, str, int]:
    """Variants before look-alikes before plain challenges, V2 before V10."""
    family = name[:1]
    return ({"V": 0, "B": 1}.get(family, 2), name.rstrip("0123456789"), int(name[1:]) if name[1:].isdigit() else 0)


def score(truths: Iterable[Truth], cases: Iterable[Case]) -> Score:
    """Join truth and cases of one run by account and challenge, and count."""
    return pooled([(truths, cases)])


def pooled(runs: Iterable[tuple[Iterable[Truth], Iterable[Case]]]) -> Score:
    """Count over several runs, such as seeds: ids are joined within a run only."""
    members: list[tuple[Truth, Case | None]] = []
    in_history = unmatched = 0
    for truths, cases in runs:
        by_challenge = {(case.account_id, case.otp_id): case for case in cases if case.heard is not None}
        joined = {(t.account_id, t.otp_id): t for t in truths}
        members += [(truth, by_challenge.get(challenge)) for challenge, truth in joined.items() if not truth.history]
        in_history += sum(truth.history and challenge in by_challenge for challenge, truth in joined.items())
        unmatched += sum(challenge not in joined for challenge in by_challenge)
    by_label: dict[str, list[tuple[Truth, Case | None]]] = {"takeover": [], "attempt": [], "benign": []}
    by_story: dict[tuple[str, str], list[tuple[Truth, Case | None]]] = {}
    for member in members:
        by_label[member[0].label].append(member)
        by_story.setdefault((member[0].story, member[0].label), []).append(member)
    takeovers = by_label["takeover"]
    return Score(
        takeovers=_group("takeovers", "takeover", takeovers),
        attempts=_group("attempts", "attempt", by_label["attempt"]),
        benign=_group("benign", "benign", by_label["benign"]),
        lookalikes=_group("look-alikes", "benign", [m for m in by_label["benign"] if m[0].story != PLAIN]),
        plain=_group("plain", "benign", [m for m in by_label["benign"] if m[0].story == PLAIN]),
        takeovers_with_call=_group("takeovers with a call", "takeover", [m for m in takeovers if m[0].has_call]),
        takeovers_without_call=_group("takeovers without a call", "takeover", [m for m in takeovers if not m[0].has_call]),
        stories=tuple(
            _group(story, label, by_story[story, label])
            for story, label in sorted(by_story, key=lambda k: (_story_order(k[0]), {"takeover": 0, "attempt": 1}.get(k[1], 2)))
        ),
        in_history=in_history,
        unmatched=unmatched,
    )


def missed(truths: Iterable[Truth], cases: Iterable[Case]) -> list[Truth]:
    """The takeovers of the log proper about which nothing was said."""
    said = {(case.account_id, case.otp_id) for case in cases if case.heard is not None}
    return [t for t in truths if t.label == "takeover" and not t.history and (t.account_id, t.otp_id) not in said]


def read_truth(path: Path) -> list[Truth]:
    """Read a truth file. Raises ValueError with file and line for a line that is none."""
    decode = msgspec.json.Decoder(Truth).decode
    truths = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    truths.append(decode(line))
                except msgspec.DecodeError as e:
                    raise ValueError(f"{path}:{number}: {e}") from None
    return truths
