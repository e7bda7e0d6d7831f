"""What do bad habits of producers lead to, live? Each fault ends in exactly what it must, and the accounts beside it end as without it."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from pipeline.core.policy import Policy
from pipeline.simulate.run import simulate
from pipeline.wire.dead_letter import parse
from pipeline.wire.log import LogRecord, merge_logs
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
    fallen_silent,
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
    accounts = verify(live)
    assert accounts.where["lines"]["dropped"] == ACCOUNTS - Policy().bounds.line_links, "what a full line let go of, and nothing else"
    assert letters(live) == {}
    assert said_by(live) == said_by_replay(log, tmp_path), "the final assessments of everybody else"
    told = [kept for kept in live.read("events") if kept.key and kept.key.startswith(b"acct-s")]
    bound = Policy().bounds.line_accounts
    assert len(told) == sum(range(1, bound + 1)), "each of the first accounts heard of those that came, and nobody of the call"
    assert not any(SWITCHBOARD.encode() in (kept.value or b"") for kept in live.read("events"))
    assert sum(kept.key == HOT.encode() for kept in live.read("events")) == len(log)
    assert 100 * bound < ACCOUNTS


def test_a_feed_that_falls_silent_holds_nothing_up_and_alerts_say_what_they_lack(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    """An hour and a half with many attacks, the telephone network gone after twenty minutes, and missed half an hour later."""
    simulate(5, 3000, 1.5, tmp_path / "simulated", history_days=0, prior=0.3)
    whole = list(merge_logs([tmp_path / "simulated" / "log.jsonl"]))
    quiet = start(whole) + 20 * MINUTE_MS
    log = fallen_silent(whole, "telephony", quiet)
    # The hours pass in seconds here, so route is minutes behind ingest: let silence alone be a reason to miss a feed.
    (tmp_path / "policy.toml").write_text("[feeds]\nbehind_s = 86400\n")
    live = deploy(policy_file=tmp_path / "policy.toml")
    live.load(log)
    live.finish({stage: live.start(stage) for stage in STAGES}, within_s=240)
    verify(live)
    assert said_by(live) == said_by_replay(log, tmp_path, live.settings.policy()), "the final assessments of a replay that lacks it too"
    alerts = [json.loads(kept.value or b"{}") for kept in live.read("alerts")]
    missed = [alert["time"] for alert in alerts if "telephony" in alert["unmapped"]["feeds_missing"]]
    assert missed, "no alert says that calls are not seen"
    assert min(missed) > quiet + 1000 * Policy().feeds.silent_s - MINUTE_MS, "it was missed before it had been silent for long"
    assert min(alert["time"] for alert in alerts) < quiet, "nothing was said before it fell silent"


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
    # What ingest had written and not committed when it was killed, it rightly writes again with both keys: its copies differ in bytes,
    # and they are events of their own behind beats that spoke of their like.
    verify(live, ("route", "detect"), beats=False)
    assert said_by(live) == said_by_replay(log, tmp_path), "the final assessments of one key"
