"""A snooze on real brokers: an analyst adds one, the next finding is written and not heard; he ends it, and the next one is."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from pipeline.__main__ import main
from pipeline.wire.log import LogRecord
from pipeline.wire.schemas import schemas
from tests.broker.harness import Deployment

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]
ACCOUNT = "acct-1"
STAGES = ("ingest", "route", "detect")


def offhook(live: Deployment, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments, env=live.environment)
    assert done.exit_code == code, done.output
    return done.output


def takeover(number: int, at: datetime) -> list[LogRecord]:
    """A stranger on the phone while the code is entered on a new device, from a hosting network."""

    def record(topic: str, seconds: int, **fields: Any) -> LogRecord:
        when = at + timedelta(seconds=seconds)
        value = {"event_id": f"{topic}-{number}-{seconds}", "occurred_at": when.isoformat(), **fields}
        key = fields.get("account_id", fields.get("phone"))
        return LogRecord(topic, 0, 0, int(when.timestamp() * 1000), str(key).encode(), json.dumps(value).encode())

    account = {"account_id": ACCOUNT, "session_id": f"s-{number}"}
    phone = "+447700900001"
    call = {
        "type": "call",
        "phone": phone,
        "call_id": f"c-{number}",
        "direction": "inbound",
        "peer": "+447700900666",
        "peer_is_contact": False,
    }
    return [
        record("logins", 0, **account, outcome="passed", flow="login", device_id="d-crook", asn=64666, asn_kind="hosting"),
        record(
            "otp-dispatches", 1, **account, otp_id=f"o-{number}", phone=phone, channel="sms", purpose="payment", initiated_by="customer"
        ),
        record("telephony", 5, **call, state="answered", attestation="C"),
        record("otp-entries", 30, **account, otp_id=f"o-{number}", outcome="accepted", method="typed", device_id="d-crook"),
    ]


def test_a_snooze_is_told_taken_and_ended(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[thresholds]\nwatch = 0.01\nalert = 0.05\n")
    live = deploy(partitions=1, policy_file=tmp_path / "policy.toml")
    assert "nothing is snoozed" in offhook(live, "snooze", "list")
    assert "no such rule" in offhook(live, "snooze", "add", ACCOUNT, "R99", "--days", "1", "--reason", "x", "--who", "a", code=2)
    said = offhook(live, "snooze", "add", ACCOUNT, "R05", "--days", "1", "--reason", "asked from +447700900001", "--who", "a", code=2)
    assert "no numbers" in said
    assert "7700900001" not in said
    assert "at most" in offhook(live, "snooze", "add", ACCOUNT, "model", "--days", "60", "--reason", "x", "--who", "a", code=2)
    before = datetime.now(UTC)
    offhook(live, "snooze", "add", ACCOUNT, "model", "--days", "2", "--reason", "exercise of the team", "--who", "lead-1")
    assert f"{ACCOUNT} model until" in offhook(live, "snooze", "list", ACCOUNT)
    assert "nothing is snoozed" in offhook(live, "snooze", "list", "acct-2")
    snoozed = takeover(1, before + timedelta(seconds=1))
    live.load(snoozed)
    workers = {stage: live.start(stage) for stage in STAGES}
    live.settled(STAGES)
    offhook(live, "snooze", "end", ACCOUNT, "model", "--who", "lead-1", "--reason", "over")
    assert "nothing is snoozed" in offhook(live, "snooze", "list")
    live.load(takeover(2, before + timedelta(minutes=2)))
    live.finish(workers)

    alerts = [json.loads(kept.value or b"") for kept in live.read("alerts")]
    last: dict[str, dict[str, Any]] = {}
    statuses: dict[str, list[int]] = {}
    for alert in alerts:
        last[alert["unmapped"]["otp_id"]] = alert
        statuses.setdefault(alert["unmapped"]["otp_id"], []).append(alert["status_id"])
    assert statuses["o-1"][0] == 3, "written, and not heard"
    first = next(a for a in alerts if a["unmapped"]["otp_id"] == "o-1")
    (snooze,) = first["unmapped"]["suppressed"]["snoozes"]
    assert (snooze["scope"], snooze["who"], snooze["reason"]) == ("model", "lead-1", "exercise of the team")
    assert last["o-1"]["status_id"] == 1, "the code was still open when the snooze was ended"
    assert set(statuses["o-2"]) == {1}
    assert "suppressed" not in last["o-2"]["unmapped"]
    check = Draft202012Validator(schemas()["snoozed.schema.json"])
    events = [json.loads(kept.value or b"") for kept in live.read("events")]
    taken = [event for event in events if event["type"] == "snoozed"]
    assert [(event["scope"], event["status"]) for event in taken] == [("model", "in_force"), ("model", "ended")]
    assert all(check.is_valid(event) for event in taken)
