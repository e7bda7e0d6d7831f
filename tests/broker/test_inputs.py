"""What do bad habits of producers lead to, live? Each fault ends in exactly what it must, and the accounts beside it end as without it."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from pipeline.core.policy import Policy
from pipeline.wire.dead_letter import parse
from pipeline.wire.log import LogRecord
from tests.broker.assessed import said_by, said_by_replay
from tests.broker.harness import KEY, Deployment
from tests.broker.input_faults import (
    ACCOUNTS,
    AHEAD,
    HOT,
    MINUTE_MS,
    SWITCHBOARD,
    TOO_LATE,
    disordered,
    fast_clock,
    hot,
    in_order,
    start,
    switchboard,
    too_late,
    twice,
)
from tests.broker.verifier import STAGES, verify

pytestmark = pytest.mark.broker
BOTH_KEYS = f"{KEY}\nd2={'6b' * 32}\nrouting=d1\npeers=d2,d1"


def letters(live: Deployment) -> dict[tuple[str, str], set[tuple[int, int]]]:
    """The places that were set aside, by topic and reason."""
    found: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for kept in live.read("dead-letters"):
        letter = parse(kept.headers, kept.key, kept.value)
        at = (letter.topic.removeprefix(live.prefix), letter.reason)
        found.setdefault(at, set()).add((letter.partition, letter.offset))
    return found


def test_duplicates_disorder_lateness_and_a_fast_clock_change_nothing_but_what_they_must(
    deploy: Callable[..., Deployment], log: list[LogRecord], tmp_path: Path
) -> None:
    live = deploy()
    late = too_late(log[-1].ts - MINUTE_MS)
    faulty = in_order(chain(disordered(in_order(twice(log))), late, fast_clock(start(log))))
    live.load(faulty)
    live.finish({stage: live.start(stage) for stage in STAGES}, within_s=240)
    accounts = verify(live)
    assert {at: len(places) for at, places in letters(live).items()} == {("events", "late"): TOO_LATE, ("logins", "future"): AHEAD}
    assert accounts.where["events"]["late"] >= TOO_LATE
    assert said_by(live) == said_by_replay(log, tmp_path), "the final assessments of the clean log"


def test_a_hot_account_and_a_phone_of_ten_thousand_accounts_harm_nobody_else(
    deploy: Callable[..., Deployment], log: list[LogRecord], tmp_path: Path
) -> None:
    live = deploy()
    faulty = in_order(chain(log, hot(log), switchboard(start(log), start(log) + MINUTE_MS)))
    live.load(faulty)
    live.finish({stage: live.start(stage) for stage in STAGES}, within_s=240)
    assert letters(live) == {}
    assert said_by(live) == said_by_replay(log, tmp_path), "the final assessments of everybody else"
    told = [kept for kept in live.read("events") if kept.key and kept.key.startswith(b"acct-s")]
    bound = Policy().bounds.line_accounts
    assert len(told) == sum(range(1, bound + 1)), "each of the first accounts heard of those that came, and nobody of the call"
    assert not any(SWITCHBOARD.encode() in (kept.value or b"") for kept in live.read("events"))
    assert sum(kept.key == HOT.encode() for kept in live.read("events")) == len(log)
    assert 100 * bound < ACCOUNTS


def test_the_key_of_pseudonyms_is_rotated_in_the_middle(deploy: Callable[..., Deployment], log: list[LogRecord], tmp_path: Path) -> None:
    """Peers carry both keys from then on: who was known before is known, and calls before and after are still of one phone."""
    live = deploy(batch_records=20)
    live.load(log)
    workers = {stage: live.start(stage) for stage in ("route", "detect")}
    first = live.start("ingest", crash=("kill", "before-settling", 300))
    live.died(first, "the rotation")
    workers["ingest"] = live.start("ingest", pseudonym_key=BOTH_KEYS)
    live.finish(workers, within_s=240)
    lines = b"".join(kept.value or b"" for kept in live.read("lines"))
    assert b'"peer":["d1:' in lines, "nothing was read before the rotation"
    assert b'"peer":["d2:' in lines, "nothing was read after it"
    assert said_by(live) == said_by_replay(log, tmp_path), "the final assessments of one key"
