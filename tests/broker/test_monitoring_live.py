"""What a running worker tells its operator: alive, ready when restored, and every metric that is declared."""

import signal
import socket
import time
from collections.abc import Callable, Iterable

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipeline.core.policy import Policy
from pipeline.live.app import AUDIT
from pipeline.live.metrics import METRICS
from pipeline.live.mismatch import build_of
from pipeline.wire.log import LogRecord
from tests.broker.harness import Deployment, ask

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect")
# Has labels and no series before something goes wrong, or where no campaign runs, no model learns and nobody watches for drift
# (test_campaign, test_models, test_drift_live).
RARE = {
    "offhook_duplicates_total", "offhook_campaign_news_total", "offhook_models_refused_total", "offhook_drifts_total",
    "offhook_drift_told_timestamp_seconds", "offhook_learn_log_loss", "offhook_learned_examples_total",
}  # fmt: skip


def wait_until_ready(port: int, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while (said := ask(port, "/readyz"))[0] != 200:
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def samples(port: int) -> list[Sample]:
    status, text = ask(port, "/metrics")
    assert status == 200
    return [s for family in text_string_to_metric_families(text) for s in family.samples if s.name.startswith("offhook_")]


def total(found: Iterable[Sample], name: str, **labels: str) -> float:
    return sum(s.value for s in found if s.name == name and labels.items() <= s.labels.items())


def lag(port: int) -> float:
    """How many records are still to be read; negative where it has not been looked at yet."""
    found = samples(port)
    known = {s.labels["partition"] for s in found if s.name == "offhook_lag_records"}
    return total(found, "offhook_lag_records") if known else -1


def until(true: Callable[[], object], what: Callable[[], object], within_s: float = 60) -> None:
    """Wait until something is true; says ``what`` there is when it does not become so."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def test_a_deployment_tells_how_it_is(deploy: Callable[..., Deployment], log: list[LogRecord]) -> None:
    live = deploy(audit_share="1.0")
    raw = live.load([*log, LogRecord("telephony", 0, 0, log[-1].ts, None, b"+447700900123 is not JSON")])
    everyone = (*STAGES, AUDIT)
    ports = dict(zip(everyone, free_ports(4), strict=True))
    workers = {stage: live.start(stage, http_port=ports[stage]) for stage in everyone}
    for port in ports.values():
        wait_until_ready(port)
    live.settled()
    for stage in ("ingest", "route", AUDIT):  # progress is looked at every two seconds; beats go on, so detect is never at the end for long
        until(lambda stage=stage: lag(ports[stage]) == 0, lambda stage=stage: samples(ports[stage]))
    until(lambda: total(samples(ports[AUDIT]), "offhook_parity_checked_total", what="alerts") > 5, lambda: samples(ports[AUDIT]))
    for port in ports.values():
        assert ask(port, "/healthz")[0] == ask(port, "/readyz")[0] == 200

    by_stage = {stage: samples(port) for stage, port in ports.items()}
    everything = [sample for found in by_stage.values() for sample in found]
    told = {sample.name.removesuffix("_bucket") for sample in everything}
    assert METRICS.keys() - told - RARE == set(), "declared, and told by no worker"

    assert total(by_stage["ingest"], "offhook_records_read_total") == raw
    assert total(by_stage["ingest"], "offhook_dead_letters_total", reason="not_json") == 1
    assert total(by_stage["detect"], "offhook_partitions", state="restored") == live.partitions
    assert total(by_stage["detect"], "offhook_events_folded_total", type="beat") > 0
    assert total(by_stage["detect"], "offhook_events_folded_total", type="otp_entered") > 0
    alerts = total(by_stage["detect"], "offhook_alerts_total")
    assert alerts == len(live.read("alerts"))
    assert total(by_stage["detect"], "offhook_alert_latency_seconds_count") == alerts - total(
        by_stage["detect"], "offhook_alerts_total", activity="close"
    )
    assert total(by_stage["detect"], "offhook_state_bytes") > total(by_stage["detect"], "offhook_state_entities") > 0

    people = {r.key.decode() for r in log if r.key is not None}
    assert not people & {value for sample in everything for value in sample.labels.values()}, "no label is a person"
    assert not any("7700" in value for sample in everything for value in sample.labels.values())
    build = [s.labels for s in everything if s.name == "offhook_build_info"]
    assert len(build) == len(everyone)
    assert {(b["policy_id"], b["model_id"], b["version"]) for b in build} == {msgspec.structs.astuple(build_of(Policy()))}
    assert total(by_stage[AUDIT], "offhook_parity_mismatches_total") == 0

    workers["route"].send_signal(signal.SIGSTOP)
    assert ask(ports["route"], "/healthz")[0] == 0, "a worker that hangs answers no probe"
    workers["route"].send_signal(signal.SIGCONT)
    until(lambda: ask(ports["route"], "/healthz")[0] == 200, lambda: ask(ports["route"], "/healthz"))
    for stage in everyone:
        assert live.stop(workers[stage]) == 0
        assert ask(ports[stage], "/healthz")[0] == 0, "the listener goes with the worker"
