"""Does the score count what it says it counts?"""

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from pipeline.replay.cases import Case, cases
from pipeline.replay.report import findings_table, score_lines, score_table
from pipeline.replay.score import Truth, missed, read_truth, score, wilson

NOON = 1_795_348_800_000


def alert(
    otp: str,
    time: int,
    activity: int = 1,
    probability: float = 0.9,
    entered: int | None = None,
    account: str = "a-1",
    **unmapped: object,
) -> bytes:
    events = [{"uid": "e1", "type": "otp_dispatched", "created_time": NOON}]
    if entered is not None:
        events.append({"uid": "e2", "type": "otp_entered", "created_time": entered})
    return orjson.dumps(
        {
            "activity_id": activity,
            "time": time,
            "message": "m",
            "finding_info": {
                "uid": f"f_{account}_{otp}",
                "title": "One-time code read out to a caller",
                "related_events": events,
                "traits": [
                    {"name": "call_live_at_entry", "category": "reason_code", "values": ["+2.31"]},
                    {"name": "known_device", "category": "reason_code", "values": ["-0.50"]},
                ],
            },
            "resources": [{"type": "account", "uid": account}],
            "unmapped": {"otp_id": otp, "stage": "before_entry", "probability": probability, **unmapped},
        }
    )


SUPPRESSED = {"suppressed": {"cause": "snooze", "snoozes": []}}


def truth(otp: str, label: str, story: str, entered: int | None = None, has_call: bool = False) -> Truth:
    at = None if entered is None else datetime.fromtimestamp(entered / 1000, UTC)
    return Truth(account_id="a-1", otp_id=otp, label=label, story=story, entered_at=at, has_call=has_call)  # type: ignore[arg-type]


def found(*alerts: bytes) -> list[Case]:
    return cases(alerts)


def test_a_case_keeps_the_first_alert_and_the_strongest() -> None:
    (case,) = found(
        alert("o1", NOON, probability=0.6),
        alert("o1", NOON + 5000, 2, 0.97, entered=NOON + 4000),
        alert("o1", NOON + 9000, 3, 0.99, entered=NOON + 4000),
    )
    assert (case.first.time, case.peak.unmapped.probability, case.closed, case.alerts) == (NOON, 0.97, True, 3)
    assert case.after_entry_s == -4.0
    assert (case.account_id, case.otp_id) == ("a-1", "o1")


def test_a_case_that_was_never_entered_has_no_lead_time() -> None:
    assert found(alert("o1", NOON))[0].after_entry_s is None


def test_what_nobody_was_told_does_not_count_as_alerted() -> None:
    silent = alert("o1", NOON, **SUPPRESSED)
    truths = [truth("o1", "takeover", "V1", entered=NOON + 3000)]
    (case,) = found(silent)
    assert case.heard is None
    assert score(truths, [case]).takeovers.alerted == 0
    assert missed(truths, [case]) == truths
    assert "(suppressed)" in shown(case)
    (case,) = found(silent, alert("o1", NOON + 2000, 2))
    assert case.heard is not None
    group = score(truths, [case]).takeovers
    assert (group.alerted, group.after_entry_s) == (1, -1.0), "early is when somebody was told"
    (case,) = found(silent, alert("o1", NOON + 2000, 3))
    assert case.heard is None, "the close of what nobody heard is heard by nobody"


def test_the_table_says_what_would_clear_it() -> None:
    (case,) = found(alert("o1", NOON, benign_if=[{"facts": ["device_owned"], "text": "if the device were theirs", "probability": 0.1}]))
    assert "benign if the device were theirs" in shown(case)


def shown(case: Case) -> str:
    screen = Console(width=200, file=StringIO())
    screen.print(findings_table([case]))
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_no_alert_is_refused() -> None:
    with pytest.raises(ValueError, match="not an alert"):
        cases([b'{"activity_id": "x"}'])


def test_score_counts_challenges() -> None:
    result = score(
        [
            truth("o1", "takeover", "V1", NOON + 10_000, has_call=True),
            truth("o2", "takeover", "V14", NOON + 10_000),
            truth("o3", "takeover", "V1", NOON + 1000, has_call=True),
            truth("o4", "attempt", "V1", has_call=True),
            *(truth(f"p{n}", "benign", "plain") for n in range(9_999)),
            truth("o5", "benign", "B8"),
        ],
        found(
            alert("o1", NOON),
            alert("o3", NOON + 1500),
            alert("o5", NOON),
            alert("o5", NOON + 60_000, 3),
            alert("o6", NOON),
        ),
    )
    assert (result.takeovers.alerted, result.takeovers.challenges) == (2, 3)
    assert (result.takeovers_with_call.alerted, result.takeovers_without_call.alerted) == (2, 0)
    assert (result.takeovers.before_entry, result.takeovers.within_second, result.takeovers.entered) == (1, 2, 2)
    assert result.takeovers.after_entry_s == pytest.approx(-4.75)
    assert (result.attempts.alerted, result.attempts.challenges) == (0, 1)
    assert (result.benign.alerted, result.benign.withdrawn, result.benign.challenges) == (1, 1, 10_000)
    assert result.unmatched == 1
    rate, low, high = result.false_alarms_per_10k
    assert rate == 1.0
    assert low == pytest.approx(0.177, abs=0.001)
    assert high == pytest.approx(5.66, abs=0.01)
    assert [(g.name, g.label) for g in result.stories] == [
        ("V1", "takeover"),
        ("V1", "attempt"),
        ("V14", "takeover"),
        ("B8", "benign"),
        ("plain", "benign"),
    ]


def test_history_does_not_count() -> None:
    old = Truth(account_id="a-1", otp_id="o1", label="benign", story="plain", history=True)
    result = score([old, truth("o2", "benign", "plain")], found(alert("o1", NOON)))
    assert (result.benign.challenges, result.benign.alerted, result.in_history, result.unmatched) == (1, 0, 1, 0)
    assert any("1 finding in the history" in line for line in score_lines(result))


def test_nothing_scored_is_not_a_perfect_score() -> None:
    result = score([], [])
    assert result.takeovers.share is None
    assert (result.takeovers.low, result.takeovers.high) == (0.0, 1.0)


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I, Wilson without continuity correction: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_truth_is_read_with_file_and_line_on_error(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text(
        '{"account_id":"a-1","otp_id":"o1","label":"takeover","story":"V1","entered_at":"2026-11-22T10:00:00Z","call_answered_at":null,"has_call":true}\n'
        '{"account_id":"a-1","otp_id":"o1","label":"perhaps","story":"V1"}\n'
    )
    with pytest.raises(ValueError, match=r"truth\.jsonl:2: .*label"):
        read_truth(path)
    path.write_text(path.read_text().splitlines()[0] + "\n\n")
    (only,) = read_truth(path)
    assert only.entered_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


def test_people_can_read_it() -> None:
    from rich.console import Console

    truths = [truth("o1", "takeover", "V1", NOON + 10_000, has_call=True), truth("o5", "benign", "B8")]
    found_cases = found(alert("o1", NOON + 9000, entered=NOON + 10_000), alert("o5", NOON))
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - rich records what it prints
    console.print(findings_table(found_cases, {(t.account_id, t.otp_id): t for t in truths}))
    console.print(score_table(score(truths, found_cases)))
    for line in score_lines(score(truths, found_cases)):
        console.print(line)
    console.file.close()
    text = console.export_text()
    for words in ("-1.0 s", "no entry", "call live at entry", "takeover (V1)", "false alarm (B8)", "One-time code read out"):
        assert words in text
    assert "known device" not in text.split("By story")[0]
    assert "1 caught of 1: 100.0 % (20.7 to 100.0)" in text
    assert "1 in 1 benign challenges: 10000.0 per 10,000" in text
