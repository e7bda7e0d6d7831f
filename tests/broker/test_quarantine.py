"""A bug of ours harms one account: it is set aside for good, not until the next restart, and newer code or an operator ends that."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from pipeline.core.events import AccountEvent, Beat, LoggedIn
from pipeline.live.changelog import CLOCK, Image
from pipeline.live.outbox import Outgoing
from pipeline.live.quarantine import MARK, decode
from pipeline.wire.codec import decode_event
from pipeline.wire.dead_letter import parse
from tests.broker.harness import ROOT, Deployment
from tests.broker.verifier import verify

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]  # on a busy machine its workers take their time
DIGIT = "7"
WITHIN_S = 180.0


def start_faulty(live: Deployment, digit: str, version: str) -> "subprocess.Popen[bytes]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment
    command = [sys.executable, "-m", "tests.broker.faulty", digit, version, "worker", "--stages", "detect"]
    worker = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)
    live.workers.append(worker)
    return worker


def offhook(live: Deployment, *arguments: str) -> str:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, env=live.environment, cwd=ROOT, capture_output=True, timeout=300, check=True, text=True).stdout


def bugs(live: Deployment) -> set[tuple[int, int]]:
    letters = [parse(kept.headers, kept.key, kept.value) for kept in live.read("dead-letters")]
    return {(letter.partition, letter.offset) for letter in letters if letter.reason == "bug"}


def events_of(live: Deployment) -> dict[tuple[int, int], AccountEvent]:
    found = {(kept.partition, kept.offset): decode_event(kept.value or b"") for kept in live.read("events")}
    return {at: event for at, event in found.items() if not isinstance(event, Beat)}


def from_the_first_bug(events: dict[tuple[int, int], AccountEvent], digit: str) -> set[tuple[int, int]]:
    """Where the records are that must be set aside: the first of each account of the digit that is no login, and what follows."""
    tripped: set[str] = set()
    found = set()
    for at, event in sorted(events.items()):
        if event.account_id.endswith(digit):
            if not isinstance(event, LoggedIn):
                tripped.add(event.account_id)
            if event.account_id in tripped:
                found.add(at)
    return found


def ends(live: Deployment) -> dict[int, int]:
    return {p: max((k.offset for k in live.read("events") if k.partition == p), default=-1) + 1 for p in range(live.partitions)}


@pytest.mark.soak
def test_an_account_is_set_aside_over_restarts_until_newer_code_or_an_operator_lets_it_in(
    deploy: Callable[..., Deployment], recorded: list[Outgoing]
) -> None:
    live = deploy(partitions=2)
    third = len(recorded) // 3
    live.append("events", recorded[:third])
    worker = start_faulty(live, DIGIT, "0.9")
    live.settled(("detect",), within_s=WITHIN_S)
    worker.kill()
    worker.wait()

    # The same code once more: what is set aside stays so, and is told from what only looks like it.
    live.append("events", recorded[third : 2 * third])
    live.finish({"detect": start_faulty(live, DIGIT, "0.9")}, within_s=WITHIN_S)
    aside = from_the_first_bug(events_of(live), DIGIT)
    assert bugs(live) == aside
    verify(live, stages=("detect",))  # all others went on, and what was folded of these stands
    marks = marked(live)
    assert marks.keys() == {events_of(live)[at].account_id for at in aside}
    assert len(marks) > 2
    said = offhook(live, "quarantine", "list").splitlines()
    assert len(said) == len(marks)
    later = {decode_event(r.value or b"").account_id for r in recorded[2 * third :] if r.key is not None}  # type: ignore[union-attr]
    account, offset = next((a, at) for a, at in sorted(marks.items()) if a in later)
    line = next(line for line in said if f" {account}:" in line)
    assert re.search(rf"set aside by detect, version 0\.9, since events/\d@{offset}: ZeroDivisionError at faulty\.py:\d+$", line), line
    assert "a message that names" not in line

    # An operator lets one of them in; code without the bug, of the same version, folds that one and no other.
    assert f"released account {account}:" in offhook(live, "quarantine", "release", account)
    assert account not in marked(live)
    before = ends(live)
    live.append("events", recorded[2 * third :])
    live.finish({"detect": start_faulty(live, "-", "0.9")}, within_s=WITHIN_S)
    new = {at: event for at, event in events_of(live).items() if at[1] >= before[at[0]]}
    assert {new[at].account_id for at in bugs(live) - aside} == {e.account_id for e in new.values() if e.account_id in marks} - {account}

    # A newer version lets all of them in.
    aside, before = bugs(live), ends(live)
    live.append("events", recorded[2 * third :])  # for those who know them, redelivered
    live.finish({"detect": start_faulty(live, "-", "1.0")}, within_s=WITHIN_S)
    assert bugs(live) == aside
    verify(live, stages=("detect",))


def marked(live: Deployment) -> dict[str, int]:
    """Account -> the record that it is set aside for, as the changelog says."""
    images: dict[int, Image] = {}
    for kept in live.read("detect-state"):
        assert kept.key is not None
        images.setdefault(kept.partition, Image()).take(kept.key, kept.value)
    found = [(entity, kept) for image in images.values() for entity, kept in image.kept.items() if entity != CLOCK]
    return {entity.removeprefix(MARK): decode(kept.state).offset for entity, kept in found if entity.startswith(MARK)}
