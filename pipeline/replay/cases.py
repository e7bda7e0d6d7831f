"""What did a run say about each challenge? Reads the alerts of a run back, one case per finding, for the report and the score."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from pipeline.core.events import Ms
from pipeline.wire.log import read_log


class _Trait(msgspec.Struct, frozen=True):
    name: str
    values: list[str] = []


class _Event(msgspec.Struct, frozen=True):
    uid: str
    type: str = ""
    created_time: Ms = 0


class _FindingInfo(msgspec.Struct, frozen=True):
    uid: str
    title: str
    desc: str = ""
    first_seen_time: Ms = 0
    traits: list[_Trait] = []
    related_events: list[_Event] = []


class _Resource(msgspec.Struct, frozen=True):
    uid: str


class _Suppressed(msgspec.Struct, frozen=True):
    cause: str


class _Exoneration(msgspec.Struct, frozen=True):
    text: str


class _Unmapped(msgspec.Struct, frozen=True):
    otp_id: str
    stage: str
    probability: float
    part_of: str | None = None
    feeds_missing: list[str] = []
    suppressed: _Suppressed | None = None
    benign_if: list[_Exoneration] = []


class _Remediation(msgspec.Struct, frozen=True):
    desc: str = ""


class Alert(msgspec.Struct, frozen=True):
    """One record of ``alerts``, as far as a person or a score needs it (a tolerant reader: the rest is ignored)."""

    activity_id: int
    time: Ms
    finding_info: _FindingInfo
    resources: list[_Resource]
    unmapped: _Unmapped
    message: str = ""
    remediation: _Remediation = _Remediation()


class Case:
    """All that a run said about one challenge: the first alert, the strongest one, and whether it was taken back.

    ``heard``: the first alert that was not suppressed; None: nobody was told.
    """

    __slots__ = ("alerts", "closed", "entered_at", "first", "heard", "peak")

    def __init__(self, alert: Alert) -> None:
        self.first = alert
        self.peak = alert
        self.alerts = 0
        self.closed = False
        self.entered_at: Ms | None = None
        self.heard: Alert | None = None
        self.add(alert)

    def add(self, alert: Alert) -> None:
        """Take the next alert of the same finding."""
        self.alerts += 1
        self.closed = alert.activity_id == 3
        if self.heard is None and not self.closed and alert.unmapped.suppressed is None:
            self.heard = alert
        if alert.activity_id != 3 and alert.unmapped.probability > self.peak.unmapped.probability:
            self.peak = alert
        for event in alert.finding_info.related_events:
            if event.type == "otp_entered" and (self.entered_at is None or event.created_time > self.entered_at):
                self.entered_at = event.created_time

    @property
    def account_id(self) -> str:
        return self.first.resources[0].uid

    @property
    def otp_id(self) -> str:
        return self.first.unmapped.otp_id

    @property
    def after_entry_s(self) -> float | None:
        """Seconds from the entry to the first alert: below zero it came before the code was entered. None: never entered."""
        return None if self.entered_at is None else (self.first.time - self.entered_at) / 1000


def cases(alerts: Iterable[bytes]) -> list[Case]:
    """Group alert values into cases, in the order of their first alert. Raises ValueError for a value that is no alert."""
    decode = msgspec.json.Decoder(Alert).decode
    found: dict[str, Case] = {}
    for value in alerts:
        try:
            alert = decode(value)
        except msgspec.ValidationError as e:
            raise ValueError(f"not an alert: {e}") from None
        case = found.get(alert.finding_info.uid)
        if case is None:
            found[alert.finding_info.uid] = Case(alert)
        else:
            case.add(alert)
    return list(found.values())


def read_cases(folder: Path) -> list[Case]:
    """Read ``alerts.jsonl`` of a run. Raises FileNotFoundError where there is none."""
    return cases(record.value for record in read_log(folder / "alerts.jsonl") if record.value is not None)
