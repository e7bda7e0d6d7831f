"""Does the audit find what differs, and nothing else? On a real broker: a run with kills, and what is written wrong while it looks."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from pipeline.core.timeline import decode, encode
from pipeline.live.changelog import CLOCK, Image, encode_key, encode_value
from pipeline.live.outbox import Outgoing
from pipeline.wire.log import LogRecord
from tests.broker.harness import ROOT, Deployment, ask
from tests.broker.test_monitoring_live import free_ports, samples, total, until, wait_until_ready

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")


def audit(live: Deployment, *options: str, accounts: str = "100%", **settings: str) -> tuple[int, dict[str, Any]]:
    """Run the command; its exit code and what it says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFHOOK_")} | live.environment | settings
    command = [sys.executable, "-m", "pipeline", "audit", "--accounts", accounts, "--json", "--quiet", *options]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert ended.returncode in (0, 1), ended.stderr.decode()
    said: dict[str, Any] = json.loads(ended.stdout)
    return ended.returncode, said


def mismatches(port: int) -> dict[str, float]:
    """How many of each kind the worker has counted."""
    found = samples(port)
    return {what: total(found, "offhook_parity_mismatches_total", what=what) for what in ("state", "decisions", "alerts")}


def compared(port: int) -> float:
    return total(samples(port), "offhook_parity_checked_total", what="state")


def corrupt_state(live: Deployment) -> str:
    """Write a state over that of an account that has the same epoch and speaks of the same event, but says something else."""
    images: dict[int, Image] = {}
    for kept in live.read("detect-state"):
        assert kept.key is not None
        images.setdefault(kept.partition, Image()).take(kept.key, kept.value)
    partition, image = next((p, i) for p, i in images.items() if len(i.kept) > 1)
    account = next(entity for entity in image.kept if entity != CLOCK)
    state = image.kept[account]
    timeline = decode(state.state)
    timeline.late += 3
    value = encode_value(state.offset, encode(timeline))
    live.append("detect-state", [Outgoing(encode_key(account, state.epoch), value)], to=partition)
    return account


def corrupt_decision(live: Deployment, but: str) -> str:
    """Write a decision that no event leads to, for another account; the newest one with another probability."""
    decision = next(k for k in reversed(live.read("decisions")) if k.key is not None and k.key.decode() != but)
    said = msgspec.json.decode(decision.value or b"")
    said |= {"probability": 0.123456, "time": int(time.time() * 1000)}
    assert decision.key is not None
    live.append("decisions", [Outgoing(decision.key, msgspec.json.encode(said))])
    return decision.key.decode()


def test_the_worker_finds_what_is_written_wrong_while_detect_is_killed(
    deploy: Callable[..., Deployment], recorded: list[Outgoing], tmp_path: Path
) -> None:
    live = deploy(audit_share="1.0")
    policy = tmp_path / "policy.toml"
    policy.write_text("[thresholds]\nwatch = 0.04\n")
    port, elsewhere = free_ports(2)
    half = len(recorded) // 2
    live.append("events", recorded[:half])
    detect = live.start("detect")
    live.settled(("detect",))
    auditor = live.start("audit", http_port=port)
    stranger = live.start("audit", http_port=elsewhere, policy_file=policy)
    wait_until_ready(port, within_s=60)
    wait_until_ready(elsewhere, within_s=60)
    for part in (recorded[half:-200], recorded[-200:]):
        live.append("events", part)
        detect.kill()
        detect.wait()
        detect = live.start("detect")
    live.settled(("detect",))
    until(lambda: total(samples(port), "offhook_lag_records", stage="audit") == 0 and compared(port) > 50, lambda: samples(port))
    assert mismatches(port) == {"state": 0, "decisions": 0, "alerts": 0}
    until(lambda: total(samples(elsewhere), "offhook_audit_blind") == 1, lambda: samples(elsewhere))
    assert mismatches(elsewhere) == {"state": 0, "decisions": 0, "alerts": 0}, "two builds may differ and both be right"
    assert total(samples(port), "offhook_audit_blind") == 0
    assert live.stop(stranger) == 0
    code, said = audit(live)
    assert (code, said["mismatches"], said["skipped"]) == (0, [], {})
    assert said["compared"] == said["checked"]["state"] == len({kept.key for kept in live.read("events") if kept.key is not None})
    assert said["checked"]["alerts"] == len({kept.value for kept in live.read("alerts")}) > 5

    account = corrupt_state(live)
    other = corrupt_decision(live, but=account)
    until(lambda: mismatches(port) == {"state": 1, "decisions": 1, "alerts": 0}, lambda: mismatches(port))
    assert (ask(port, "/healthz")[0], ask(port, "/readyz")[0]) == (200, 200), "the audit is well; what it looks at is not"

    code, said = audit(live, "--values")
    assert code == 1
    assert {(m["account_id"], m["what"], m["problem"]) for m in said["mismatches"]} == {
        (account, "state", "different"),
        (other, "decisions", "unexpected"),
    }
    code, said = audit(live)
    assert (code, {m["account_id"] for m in said["mismatches"]}) == (1, {""}), "accounts are named only when asked for"
    code, said = audit(live, OFFHOOK_POLICY_FILE=str(policy))
    assert (code, said["mismatches"], set(said["skipped"])) == (0, [], {"other_build"}), "two builds may differ and both be right"

    assert live.stop(auditor) == 0
    assert live.stop(detect) == 0


def test_of_a_log_that_retention_has_cut_no_account_is_called_wrong(deploy: Callable[..., Deployment], recorded: list[Outgoing]) -> None:
    live = deploy()
    live.append("events", recorded)
    detect = live.start("detect")
    live.settled(("detect",))
    assert live.stop(detect) == 0
    asyncio.run(delete_first_third(live))
    code, said = audit(live)
    assert (code, said["mismatches"]) == (0, [])
    assert set(said["skipped"]) == {"cut"}
    assert audit(live, accounts="20%")[1]["accounts"] < said["accounts"]


async def delete_first_third(live: Deployment) -> None:
    """Do to ``events`` what retention does in time."""
    places = [TopicPartition(live.prefix + "events", p) for p in range(live.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=live.bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(places)
    finally:
        await consumer.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=live.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=end // 3) for tp, end in ends.items()})
    finally:
        await admin.close()


@pytest.mark.soak
def test_all_stages_killed_again_and_again_have_no_mismatch(deploy: Callable[..., Deployment], log: list[LogRecord]) -> None:
    live = deploy()
    live.load(log)
    workers = {stage: live.start(stage) for stage in STAGES}
    for stage in ("detect", "ingest", "route", "detect", "detect"):
        time.sleep(3)
        workers[stage].kill()
        workers[stage].wait()
        workers[stage] = live.start(stage)
        code, said = audit(live)
        assert (code, said["mismatches"]) == (0, [])
    live.finish(workers, within_s=120)
    code, said = audit(live)
    assert (code, said["mismatches"], said["skipped"]) == (0, [], {})
