"""What if the calls and messages are real: a recording of who rang whom takes the place of simulated telephony.

Reads the layout of the Copenhagen Networks Study (Sapiezynski et al., Scientific Data 6:315, 2019): ``calls.csv`` (timestamp, caller,
callee, duration; -1 is a missed call), ``sms.csv`` (timestamp, sender, recipient) and, where there is one, ``fb_friends.csv``;
timestamps are seconds since a midnight. Each participant becomes an account with one line. The data itself is never written
anywhere but into the log that is asked for.
"""

import csv
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import msgspec

from pipeline.core.events import Direction
from pipeline.simulate.chance import DAY, SECOND
from pipeline.simulate.facts import Call, Text
from pipeline.simulate.identifiers import Peer, token
from pipeline.simulate.people import Line
from pipeline.simulate.scene import Diary

USUAL = 3  # calls and messages with somebody in the whole recording make a usual contact


class RecordedCall(msgspec.Struct, frozen=True, gc=False):
    at_s: int
    outbound: bool
    other: int
    duration_s: int  # -1: missed


class RecordedText(msgspec.Struct, frozen=True, gc=False):
    at_s: int
    outbound: bool
    other: int


class Recording:
    """Calls and messages by participant; ``participants`` has the most active first."""

    def __init__(self, folder: Path) -> None:
        self.calls: dict[int, list[RecordedCall]] = defaultdict(list)
        self.texts: dict[int, list[RecordedText]] = defaultdict(list)
        self.close: Counter[tuple[int, int]] = Counter()
        with (folder / "calls.csv").open(newline="") as f:
            for row in csv.DictReader(f):
                at, caller, callee, duration = (int(row[k]) for k in ("timestamp", "caller", "callee", "duration"))
                self.calls[caller].append(RecordedCall(at, True, callee, duration))
                self.calls[callee].append(RecordedCall(at, False, caller, duration))
                self._met(caller, callee, 1)
        with (folder / "sms.csv").open(newline="") as f:
            for row in csv.DictReader(f):
                at, sender, recipient = (int(row[k]) for k in ("timestamp", "sender", "recipient"))
                self.texts[sender].append(RecordedText(at, True, recipient))
                self.texts[recipient].append(RecordedText(at, False, sender))
                self._met(sender, recipient, 1)
        friends = folder / "fb_friends.csv"
        if friends.exists():
            with friends.open(newline="") as f:
                for pair in list(csv.reader(f))[1:]:
                    self._met(int(pair[0]), int(pair[1]), USUAL)
        everybody = self.calls.keys() | self.texts.keys()
        self.participants = sorted(everybody, key=lambda p: (-10 * len(self.calls.get(p, ())) - len(self.texts.get(p, ())), p))

    def _met(self, one: int, other: int, times: int) -> None:
        self.close[one, other] += times
        self.close[other, one] += times

    def play(self, diary: Diary, participant: int, lines: dict[int, Line], midnight: int, end: int, rng: Random) -> None:
        """Write one participant's calls and messages into the diary, as far as they begin before ``end``."""
        line = lines[participant]
        for call in self.calls.get(participant, ()):
            at = midnight + call.at_s * SECOND
            if at >= end:
                continue
            peer = Peer(lines[call.other].number, "mobile", None, is_contact=self.close[participant, call.other] >= USUAL)
            ring = 2000 + int(rng.random() * 10_000)
            missed = call.duration_s < 0
            made = Call(
                event_id=diary.next_id(),
                call_id=token(rng, "c"),
                line=line,
                direction="outbound" if call.outbound else "inbound",
                at=at if missed else at - ring,
                answered_at=None if missed else at,
                ended_at=at + 2 * ring if missed else at + call.duration_s * SECOND,
                peer=peer,
            )
            diary.facts.append(made)
            diary.calls.append(made)
        for text in self.texts.get(participant, ()):
            at = midnight + text.at_s * SECOND
            if at < end:
                known = self.close[participant, text.other] >= USUAL
                direction: Direction = "outbound" if text.outbound else "inbound"
                diary.facts.append(Text(diary.next_id(), at, line, direction, lines[text.other].number, known, False, False))


def midnight_before(ms: int) -> int:
    """Return the midnight, UTC, that the recording's zero is set to."""
    return ms - ms % DAY
