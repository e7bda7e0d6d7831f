"""Whose state is measured? Accounts as the fold leaves them after days of a simulated bank, laid over one another under other names."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.core import timeline as timelines
from pipeline.core.beats import BeatMaker
from pipeline.core.events import FEEDS, AccountEvent, Beat
from pipeline.core.partition import Partition
from pipeline.core.policy import Policy
from pipeline.core.route import Router
from pipeline.core.timeline import Timeline
from pipeline.simulate.run import simulate
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import merge_logs
from pipeline.wire.pseudonym import Pseudonyms

HOURS = 6.0  # of events that are not folded yet


class Bank(NamedTuple):
    """Accounts after their history, the beat at its end, and the events that come next."""

    timelines: list[Timeline]
    beat: Beat
    next: list[AccountEvent]


def bank(seed: int, accounts: int, history_days: int, folder: Path) -> Bank:
    """Simulate a bank and fold its history."""
    made = simulate(seed, accounts, HOURS, folder, history_days=history_days, noise=False)
    policy = Policy()
    ingest, router, beats = Ingest(policy, Pseudonyms.for_demo()), Router(policy), BeatMaker(dict.fromkeys(FEEDS, 1))
    partition = Partition(policy)
    lines = offset = 0
    last: Beat | None = None
    coming: list[AccountEvent] = []
    for record in merge_logs([folder / made.log]):
        found: list[AccountEvent] = []
        for topic, _, event in ingest.read(record.topic, record.value, record.ts):
            if topic == "events":
                found.append(event)  # type: ignore[arg-type]
            else:
                found += router.fold(lines, event)  # type: ignore[arg-type]
                lines += 1
        if record.ts >= made.live_from:
            coming += found
            continue
        for each in found:
            partition.fold(offset, each)
            offset += 1
        beats.all_caught_up(record.ts)
        if record.ts - (last.arrived_at if last is not None else 0) > 600_000:  # time passes in strides: no deadline is judged here
            beat = beats.due(record.ts)
            if beat is not None:
                partition.fold(offset, last := beat)
                offset += 1
    assert last is not None
    kept = [t for t in map(partition.timeline, list(partition.accounts())) if t is not None]
    return Bank([msgspec.structs.replace(t, offset=-1) for t in kept], last, coming)


def many(found: Bank, number: int) -> Iterator[tuple[str, bytes]]:
    """The states of ``number`` accounts, by account: the bank's over and over, under other names."""
    for i in range(number):
        timeline = found.timelines[i % len(found.timelines)]
        name = named(timeline.account_id, i // len(found.timelines))
        yield name, timelines.encode(msgspec.structs.replace(timeline, account_id=name))


def next_of(found: Bank, number: int, turn: int) -> list[AccountEvent]:
    """What comes next to ``number`` accounts: to each account of the bank, under one of its names, another one at each ``turn``."""
    copies = max(1, number // len(found.timelines))
    who = {t.account_id: named(t.account_id, (place + turn) % copies) for place, t in enumerate(found.timelines)}
    return [msgspec.structs.replace(event, account_id=who[event.account_id]) for event in found.next if event.account_id in who]


def named(account_id: str, copy: int) -> str:
    """The name of the account in a copy of the bank."""
    return f"{account_id}-{copy}"
