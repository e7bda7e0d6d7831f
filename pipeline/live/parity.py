"""Did the workers write what the log says? Folds a sample of the accounts of one partition of ``events`` again and compares.

Stands beside the flow and carries nothing. A driver (live.audit) hands in, round after round and in this order, what the changelog
has, what the outputs have and what ``events`` has; then it asks for the judgement. In that order, because an output is durable before
the clock in the changelog speaks of its event, and an event is in the log before an output follows from it.
"""

from collections import Counter
from typing import Final

import msgspec

from pipeline.core.champion import Shelf
from pipeline.core.errors import InvalidEvent
from pipeline.core.events import Ms, account_of
from pipeline.core.outcome import Outcome
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.live.changelog import CLOCK, Image, decode_key, decode_value, encode_value
from pipeline.live.mismatch import (
    Expected,
    Found,
    Mismatch,
    Share,
    Skip,
    What,
    account_in,
    compared,
    digest_of,
    flooded,
    knows_feeds,
    oldest,
    packed,
    read_said,
    shorten,
    unpacked,
)
from pipeline.wire.codec import OutcomeEncoder, decode_event

KNOWN: Final = 200_000  # outputs that were found right and are remembered, since a restart may write them again


class Parity:
    """One partition of ``events``: the second fold of the sampled accounts, and what live has written of them."""

    def __init__(self, policy: Policy, number: int, sampled: Share, cut: bool = False, models: Shelf | None = None) -> None:
        """``cut``: the log begins later than its first record, so accounts may be older than it. ``models``: those that it activates."""
        self.number = number
        self.durable = -1  # live's clock: all outputs and all state of events up to here are written
        self.folded = -1  # up to here the second fold has come
        self.checked: Counter[What] = Counter()
        self.skipped: dict[str, Skip] = {}
        self._policy, self._sampled = policy, sampled
        self._cut = cut
        self.fold = Partition(policy, models=models)
        self._encode = OutcomeEncoder("live").encode
        self._image = Image()  # of sampled accounts: in place of the state its digest, behind the offset it speaks of
        self._states: dict[str, list[tuple[int, bytes]]] = {}  # of the second fold: (offset, digest), the last durable one and later
        self._expected: dict[str, dict[bytes, Expected]] = {}
        self._found: dict[str, dict[bytes, Found]] = {}
        self._right: dict[bytes, None] = {}
        self._touched: set[str] = set()
        self._parted: set[str] = set()  # reported once; what follows follows from that
        self._origin: dict[str, Ms] = {}  # of accounts in live's state: the oldest thing it remembers
        self._cut_until: Ms = 0  # of a log that is cut: accounts that appear before this may be older than it
        self._doubtful: set[str] = set()  # what differs of these may lie before the log
        self._build_since, self._outputs_since = 0, 0  # ms, see begin_at
        self._told_until: Ms = -1  # outputs that speak of no later time may be of before the beginning
        self._clock: bytes | None = None
        self._bugs: set[int] = set()  # offsets that live has set aside
        self._too_large: set[int] = set()  # offsets from which live has left outputs out
        self._recent: dict[int, str] = {}  # accounts of events behind live's clock

    @property
    def accounts(self) -> int:
        """How many accounts of the sample have been met."""
        return len(self._states.keys() | self.skipped.keys() | self._parted)

    @property
    def judged(self) -> int:
        """How many of them were compared."""
        return self.accounts - len(self.skipped)

    # --- where the second fold begins

    def begin_with(self, image: Image) -> None:
        """Begin with what live had as of its clock, as a new owner would. What is ahead of the clock is left out."""
        clock = image.kept.get(CLOCK)
        if clock is not None:
            self.fold.restore_clock(clock.state)
            self.durable = self.folded = clock.offset
            self._told_until = self.fold.now
        for entity, kept in image.kept.items():
            account, aside = account_in(entity)
            if entity == CLOCK:
                self._image.kept[entity] = kept
            elif aside or kept.offset > self.durable or flooded(kept.state):
                self.skipped[account] = "bug" if aside else "in_flight" if kept.offset > self.durable else "flood"
            else:
                self.fold.restore(account, kept.state)
                self._states[account] = [shorten(kept.state)]
                self._image.kept[account] = kept._replace(state=packed(kept.state))
        self._image.top = image.top

    def begin_at(self, first: int, arrived: Ms, build_since: Ms, outputs_since: Ms) -> None:
        """Begin with the log's first record: its offset and time.

        ``build_since``: accounts that appear earlier were folded by another build. ``outputs_since``: what follows from earlier events
        may be gone from the outputs.
        """
        self.folded = first - 1
        self._build_since, self._outputs_since = build_since, outputs_since
        if self._cut:  # until a silent feed is known to be silent, and no campaign rests on meetings of before
            self._cut_until = arrived + 1000 * max(self._policy.feeds.silent_s, self._policy.campaigns.reach_s)

    # --- what live has written

    def changelog(self, key: bytes, value: bytes | None) -> None:
        """Take a record of the changelog. Raises UnsupportedState for state of a newer version, ValueError for what is none of ours."""
        entity, _ = decode_key(key)
        if entity == CLOCK:
            self._image.take(key, value)
            kept = self._image.kept.get(CLOCK)
            if kept is not None:
                self.durable, self._clock = max(self.durable, kept.offset), kept.state
            return
        account, aside = account_in(entity)
        if not self._sampled(account.encode()):
            return
        if aside:
            if value is not None:
                self._skip(account, "bug")
            return
        if value is not None:
            offset, state = decode_value(value)
            if self._cut:
                self._origin[entity] = oldest(state)
            value = encode_value(offset, packed(state))
        self._image.take(key, value)
        self._touched.add(entity)

    def output(self, topic: What, key: bytes, value: bytes | None, headers: object, place: str, counts: bool = True) -> None:
        """Take a record of an output. ``counts``: False where it may belong to events of before the beginning."""
        if not self._sampled(key):
            return
        account, digest = key.decode(errors="replace"), digest_of(topic.encode(), value or b"", repr(headers).encode())
        if account in self.skipped or account in self._parted or digest in self._right:
            return
        said = read_said(value or b"")
        if said.flooded:
            self._skip(account, "flood")
        else:
            self._found.setdefault(account, {}).setdefault(digest, Found(topic, place, said.time, counts and said.time > self._told_until))
            self._touched.add(account)

    def dead_letter(self, offset: int, reason: str) -> None:
        """Take what live says of a record of ``events`` that it could not fold, or whose outputs it could not send."""
        if reason == "too_large":
            self._too_large.add(offset)
            for expected in self._expected.values():
                expected |= {d: msgspec.structs.replace(one, required=False) for d, one in expected.items() if one.offset == offset}
        elif reason == "bug":
            self._bugs.add(offset)
            if offset in self._recent:
                self._skip(self._recent[offset], "bug")

    # --- what the log says

    def event(self, offset: int, arrived: Ms, key: bytes | None, value: bytes | None) -> None:
        """Fold a record of ``events``, appended at ``arrived``. Cheap for accounts that are not in the sample."""
        self.folded = offset
        if value is None or (key is not None and not self._sampled(key)):
            return
        try:
            event = decode_event(value)
        except InvalidEvent:
            return  # live has made a dead letter of it
        account = account_of(event)
        if account and not self._concerns(account, offset, arrived):
            return
        try:
            self._take(self.fold.fold(offset, event), offset, arrived)
        except Exception:  # live sets the account aside too, and says so
            if not account:
                raise
            self._skip(account, "bug")
        for tripped, _ in self.fold.tripped:
            self._skip(tripped, "bug")
        self.fold.tripped = []
        for entity, state in self.fold.changes().items():
            states = self._states.setdefault(entity, [])
            if len(states) == 1 and offset <= self.durable:
                states.clear()
            states.append(shorten(state))
            self._touched.add(entity)

    def _concerns(self, account: str, offset: int, arrived: Ms) -> bool:
        if offset in self._bugs:
            self._skip(account, "bug")
        if offset > self.durable:
            self._recent[offset] = account
        if account in self.skipped or account in self._parted or not self._sampled(account.encode()):
            return False
        if account not in self._states:
            if arrived < self._build_since:
                self._skip(account, "other_build")
            elif self._cut and (arrived < self._cut_until or not knows_feeds(self._policy, self._clock, self.fold.missing)):
                self._doubtful.add(account)
        return account not in self.skipped

    def _take(self, outcomes: list[Outcome], offset: int, arrived: Ms) -> None:
        for outcome in outcomes:
            try:
                out = self._encode(outcome)
            except ValueError:  # a number that is not finite: a bug there, too
                self._skip(outcome.account_id, "bug")
                continue
            if out is None or out.key is None or (topic := compared(out.topic)) is None:
                continue
            digest, account = digest_of(topic.encode(), out.value or b"", repr(out.headers).encode()), out.key.decode()
            if digest not in self._right and account not in self._parted and account not in self.skipped:
                self._expected.setdefault(account, {})[digest] = Expected(topic, offset, arrived, offset not in self._too_large)
                self._touched.add(account)

    def _skip(self, account: str, why: Skip) -> None:
        self.skipped[account] = why
        self._forget(account)

    def _forget(self, account: str) -> None:
        for kept in (self._states, self._expected, self._found):
            kept.pop(account, None)

    # --- the judgement

    def judge(self) -> list[Mismatch]:
        """Compare what can be compared by now; each account that differs is told once."""
        mismatches = []
        later = set()
        for account in self._touched:
            if account in self.skipped or account in self._parted:
                self._forget(account)
                continue
            if self._cut and account not in self._states:
                self._skip(account, "cut")
                continue
            found = self._compare_outputs(account) or self._compare_state(account)
            older = account in self._doubtful or self._origin.get(account, self._cut_until) < self._cut_until
            if found is not None and self._cut and older:
                self._skip(account, "cut")
            elif found is not None:
                mismatches.append(found)
                self._parted.add(account)
                self._forget(account)
            elif self._expected.get(account) or self._found.get(account) or len(self._states.get(account, ())) > 1:
                later.add(account)
        self._touched = later
        self._recent = {offset: account for offset, account in self._recent.items() if offset > self.durable}
        while len(self._right) > KNOWN:
            del self._right[next(iter(self._right))]
        return mismatches

    def _compare_outputs(self, account: str) -> Mismatch | None:
        expected, found = self._expected.get(account, {}), self._found.get(account, {})
        for digest in expected.keys() & found.keys():
            self.checked[found.pop(digest).topic] += 1
            del expected[digest]
            self._right[digest] = None
        for digest, one in list(expected.items()):
            if one.arrived < self._outputs_since or (one.offset <= self.durable and not one.required):
                del expected[digest]
            elif one.offset <= self.durable:
                return Mismatch(one.topic, "missing", self._place(one.offset), account)
        for digest, other in list(found.items()):
            if other.counts:
                return Mismatch(other.topic, "unexpected", other.place, account)
            if other.time <= self._told_until:
                del found[digest]
        return None

    def _compare_state(self, account: str) -> Mismatch | None:
        states = self._states.get(account, [])
        while len(states) > 1 and states[1][0] <= self.durable:
            del states[0]
        mine = states[0] if states and states[0][0] <= self.durable else None
        kept = self._image.kept.get(account)
        if kept is None:
            return None if mine is None else Mismatch("state", "missing", self._place(mine[0]), account)
        if kept.offset > self.durable:
            return None
        offset, digest = unpacked(kept.state)
        if mine is None:
            return Mismatch("state", "unexpected", self._place(offset), account)
        if (offset, digest) != mine:
            return Mismatch("state", "different", self._place(max(offset, mine[0])), account)
        self.checked["state"] += 1
        return None

    def _place(self, offset: int) -> str:
        return f"events-{self.number}@{offset}"
