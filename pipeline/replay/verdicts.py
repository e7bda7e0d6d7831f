"""What has case management found out? The last disposition about each challenge, finding and session of a log."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from pipeline.core.decision import finding_uid
from pipeline.core.episode import named
from pipeline.wire.records import Disposition

FRAUD = frozenset(("true_positive",))
BENIGN = frozenset(("false_positive", "benign", "test", "disregard"))  # the other verdicts say neither


class Verdicts:
    """Take dispositions in any order, then ask by challenge and by session; the last one about the same thing counts."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(Disposition).decode
        self._said: dict[tuple[str, str], tuple[datetime, str, str]] = {}

    def __len__(self) -> int:
        """How many challenges, findings and sessions have one."""
        return len(self._said)

    def take(self, value: bytes) -> None:
        """Take a record of ``dispositions``. One that cannot be read is passed over: ingest has made a dead letter of it."""
        try:
            d = self._decode(value)
        except msgspec.DecodeError:
            return
        about = d.finding_uid or (d.otp_id and finding_uid(d.account_id, d.otp_id))
        about = about or (d.session_id and session_name(d.account_id, d.session_id))
        if about is None:
            return
        place = (d.account_id, about)
        have = self._said.get(place)
        if have is None or have[:2] <= (d.occurred_at, d.event_id):
            self._said[place] = (d.occurred_at, d.event_id, d.verdict)

    def of(self, places: Iterable[tuple[str, str]]) -> set[str]:
        """The verdicts on these: pairs of an account and the name of a finding (``finding_uid``) or session (``session_name``)."""
        return {self._said[p][2] for p in places if p in self._said}


def session_name(account_id: str, session_id: str) -> str:
    """Name a session as the incident is named that is made of its challenges."""
    return named("i_", account_id, "session", session_id)
