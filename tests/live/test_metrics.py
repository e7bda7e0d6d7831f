"""Metrics: each is declared once, explained, and free of identifiers."""

from pathlib import Path

from prometheus_client import generate_latest

from pipeline.core.outcome import Hold, HoldEnded, Late
from pipeline.live import metrics

# every label is a closed list, or a partition number; the two ids are hashes of the policy and name of the model
LABELS = {"stage", "topic", "partition", "reason", "type", "level", "activity", "rule", "change", "feed", "state"}
LABELS |= {"version", "policy_id", "model_id", "what", "label", "source", "role", "cause", "kind", "feature"}


def test_no_label_can_hold_a_person() -> None:
    assert {label for m in metrics.METRICS.values() for label in m.labels} <= LABELS


def test_every_metric_is_served_and_in_the_table() -> None:
    served = generate_latest(metrics.REGISTRY).decode()
    for name, metric in metrics.METRICS.items():
        assert f"# HELP {name} " in served
        assert f"| `{name}` |" in metrics.table()
        assert metric.meaning
        assert metric.unit


def test_the_reference_is_what_the_code_says() -> None:
    """Written by ``offhook metrics --markdown``."""
    assert (Path(__file__).parents[2] / "deploy" / "metrics.md").read_text() == metrics.reference() + "\n", "offhook metrics --markdown"


def test_what_an_operator_asks_for_is_there() -> None:
    wanted = {
        "rates": ("offhook_records_read_total", "offhook_events_folded_total"),
        "lag and age": ("offhook_lag_records", "offhook_commit_age_seconds", "offhook_watermark_age_seconds"),
        "times": ("offhook_fold_seconds", "offhook_produce_seconds", "offhook_loop_lag_seconds", "offhook_restore_seconds"),
        "what could not be read": ("offhook_dead_letters_total", "offhook_late_events_total", "offhook_feed_suspended"),
        "what was said": ("offhook_alerts_total", "offhook_alert_rules_total", "offhook_holds_total", "offhook_alert_latency_seconds"),
        "state": ("offhook_state_entities", "offhook_state_bytes"),
        "itself": ("offhook_build_info", "offhook_parity_mismatches_total", "offhook_parity_checked_total"),
    }
    assert {name for names in wanted.values() for name in names} <= metrics.METRICS.keys()
    assert {"topic", "reason"} <= set(metrics.METRICS["offhook_dead_letters_total"].labels)
    assert {"rule", "stage"} <= set(metrics.METRICS["offhook_alert_rules_total"].labels)
    assert metrics.METRICS["offhook_watermark_age_seconds"].labels == ("feed",)


def test_units_are_in_the_names() -> None:
    for name, metric in metrics.METRICS.items():
        assert name.startswith("offhook_")
        assert (metric.kind == "counter") == name.endswith("_total")
        if metric.unit in ("seconds", "bytes"):
            assert name.endswith(f"_{metric.unit}")


def test_outcomes_are_counted() -> None:
    def value(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

    before = value("offhook_holds_total", change="placed"), value("offhook_holds_total", change="ended"), value("offhook_late_events_total")
    hold = Hold(
        account_id="a", otp_id="o", session_id=None, finding_uid="f", probability=0.9, expires_at=1, reason="code_entered_during_call"
    )
    late = Late(account_id="a", event_id="e", occurred_at=1, arrived_at=2)
    metrics.count_outcomes([hold, HoldEnded(account_id="a", otp_id="o"), late, late])
    after = value("offhook_holds_total", change="placed"), value("offhook_holds_total", change="ended"), value("offhook_late_events_total")
    assert tuple(a - b for a, b in zip(after, before, strict=True)) == (1, 1, 2)
