"""Does a replay say what the log warrants, the same every time, and set aside what cannot be read?"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipeline.core.errors import DeadLetterFlood
from pipeline.core.policy import Policy, policy_from
from pipeline.replay.cases import read_cases
from pipeline.replay.run import BadRecord, MixedLog, Replay
from pipeline.replay.summary import Summary
from pipeline.wire.codec import encode_event
from pipeline.wire.dead_letter import DeadLetters, parse
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord, merge_logs, read_log
from pipeline.wire.pseudonym import Pseudonyms
from tests.replay.raw import DAY, PHONE, START, STRANGER, Log, habits, story

OUTPUTS = ("alerts.jsonl", "decisions.jsonl", "holds.jsonl", "examples.jsonl", "dead-letters.jsonl", "summary.json")
KEYS = Pseudonyms.for_demo()


def replay(log: Log, out: Path, **options: object) -> Summary:
    policy = options.pop("policy", Policy())
    assert isinstance(policy, Policy)
    return Replay(policy, KEYS, out, **options).run(log.by_arrival())  # type: ignore[arg-type]


def dead_letters(out: Path) -> list[tuple[str, str, int]]:
    letters = [parse(r.headers, r.key, r.value) for r in read_log(out / "dead-letters.jsonl")]
    return [(letter.topic, letter.reason, letter.offset) for letter in letters]


def test_a_takeover_is_found_before_the_code_is_entered(tmp_path: Path) -> None:
    summary = replay(story(), tmp_path)
    (case,) = read_cases(tmp_path)
    assert (case.account_id, case.otp_id) == ("acc-1", "o-acc-1-bad")
    assert case.first.unmapped.stage == "before_entry"
    assert case.after_entry_s is not None
    assert -44 < case.after_entry_s < 0
    assert (summary.findings, summary.lead_time.before_entry, summary.accounts, summary.lines) == (1, 1, 2, 2)
    assert summary.lead_time.median_s == case.after_entry_s
    assert summary.alerts["create"] == 1
    assert summary.feeds == {"logins": 22, "otp-dispatches": 22, "otp-entries": 22, "phone-links": 2, "telephony": 3}
    assert summary.records == sum(summary.feeds.values()) == 71
    assert (summary.holds, summary.holds_ended) >= (1, 1)
    assert summary.policy_id == Policy().id


def test_outputs_are_records_of_one_partition_in_order(tmp_path: Path) -> None:
    replay(story(), tmp_path)
    for topic in ("alerts", "decisions", "holds"):
        records = list(read_log(tmp_path / f"{topic}.jsonl"))
        assert records
        assert [r.offset for r in records] == list(range(len(records)))
        assert {(r.topic, r.partition) for r in records} == {(topic, 0)}
        assert all(r.key for r in records)
    last_hold = list(read_log(tmp_path / "holds.jsonl"))[-1]
    assert (last_hold.key, last_hold.value) == (b"acc-1|o-acc-1-bad", None)
    for record in read_log(tmp_path / "alerts.jsonl"):
        assert record.ts == msgspec.json.decode(record.value or b"")["time"]
        assert dict(record.headers)["ce_type"].startswith(b"offhook.finding.")


def test_no_number_leaves(tmp_path: Path) -> None:
    replay(story(), tmp_path)
    for name in OUTPUTS:
        text = (tmp_path / name).read_bytes()
        for number in (PHONE, STRANGER):
            assert number.encode() not in text
            assert number[1:].encode() not in text


def test_without_telephony_the_call_is_not_seen(tmp_path: Path) -> None:
    summary = replay(story(), tmp_path, without=("telephony",))
    assert summary.other_topics == {"telephony": 3}
    assert "telephony" not in summary.feeds
    for case in read_cases(tmp_path):
        assert "call" not in " ".join(t.name for t in case.peak.finding_info.traits)
    for decision in (msgspec.json.decode(r.value or b"") for r in read_log(tmp_path / "decisions.jsonl")):
        assert not any("call" in name for name, value in decision["features"].items() if value is True)


def test_deadlines_fire_after_the_log_unless_told_not_to(tmp_path: Path) -> None:
    log = Log()
    habits(log)
    log.challenge("acc-1", PHONE, START, "bad", "dev-new", asn=64501, entry_s=None, kind="hosting")
    log.call(PHONE, START + 3000, "c", talk_s=40)
    drained = replay(log, tmp_path / "drained")
    cut = replay(log, tmp_path / "cut", drain=False)
    assert drained.holds_ended == drained.holds == cut.holds == 1
    assert cut.holds_ended == 0
    assert drained.alerts_by_stage.get("near_miss", 0) >= 1
    assert "near_miss" not in cut.alerts_by_stage
    assert drained.records == cut.records


def test_bad_records_are_set_aside_and_their_neighbours_are_read(tmp_path: Path) -> None:
    log = story()
    bad: list[bytes | None] = [
        b"{",
        None,
        b"[" * 5000,
        b'{"event_id":"x"}',
        b"\xff\xfe",
        b'{"event_id":"x","occurred_at":"2099-01-01T00:00:00Z","account_id":"acc-1","session_id":"s","outcome":"passed","flow":"login"}',
        b'{"event_id":"x","occurred_at":NaN}',
        b'"' + b"a" * (5 << 20) + b'"',
    ]
    for value in bad:
        log.raw("logins", START + 1, value)
    log.raw("payments", START + 2, b"{}")
    summary = replay(log, tmp_path)
    assert sum(summary.dead_letters.values()) == len(bad) + 1
    assert summary.dead_letters_by_feed == {"logins": len(bad), "payments": 1}
    assert {reason for _, reason, _ in dead_letters(tmp_path)} == {
        "not_json", "no_value", "invalid_field", "not_utf8", "future", "too_large", "unknown_topic",
    }  # fmt: skip
    assert [offset for topic, _, offset in dead_letters(tmp_path) if topic == "logins"] == list(range(22, 22 + len(bad)))
    good = tmp_path / "good"
    replay(story(), good)
    assert (tmp_path / "alerts.jsonl").read_bytes() == (good / "alerts.jsonl").read_bytes()
    assert (tmp_path / "decisions.jsonl").read_bytes() == (good / "decisions.jsonl").read_bytes()


def test_strict_stops_at_the_first_bad_record_with_file_and_line(tmp_path: Path) -> None:
    log = story()
    log.raw("logins", START + 1, b'{"event_id":"x","account_id":"+447700900123"}')
    path = log.write(tmp_path / "log.jsonl")
    line = next(n for n, r in enumerate(read_log(path), 1) if r.value and b'"x"' in r.value)
    with pytest.raises(BadRecord, match=rf"log\.jsonl:{line}: logins: invalid_field: ") as e:
        Replay(Policy(), KEYS, tmp_path / "out", strict=True).run(merge_logs([path]))
    assert "447700900123" not in str(e.value)
    assert not (tmp_path / "out" / "summary.json").exists()


def test_plain_and_sealed_dead_letters(tmp_path: Path) -> None:
    from pipeline.wire.dead_letter import new_key_pair, unseal

    log = Log()
    log.raw("logins", START, b"{broken", b"the key")
    replay(log, tmp_path / "plain", dead_letters=DeadLetters("plain"))
    (letter,) = read_log(tmp_path / "plain" / "dead-letters.jsonl")
    assert (letter.key, letter.value) == (b"the key", b"{broken")
    pair = new_key_pair()
    replay(log, tmp_path / "sealed", dead_letters=DeadLetters("sealed", pair.public))
    (sealed,) = read_log(tmp_path / "sealed" / "dead-letters.jsonl")
    assert unseal(parse(sealed.headers, sealed.key, sealed.value), pair.private).value == b"{broken"


def test_a_flood_of_bad_records_stops_the_run(tmp_path: Path) -> None:
    policy = policy_from({"feeds": {"dead_letter_share": 0.5, "dead_letter_window": 20}})
    log = Log()
    habits(log, days=30)
    for n in range(10):
        log.raw("logins", START + n, b"{")
    replay(log, tmp_path / "enough", policy=policy)
    log.raw("logins", START + 10, b"{")
    with pytest.raises(DeadLetterFlood, match="11 of the last 20 records of logins cannot be read"):
        replay(log, tmp_path / "flood", policy=policy)
    assert len(list(read_log(tmp_path / "flood" / "dead-letters.jsonl"))) == 11


def test_a_bad_stretch_that_is_over_is_no_flood(tmp_path: Path) -> None:
    policy = policy_from({"feeds": {"dead_letter_share": 0.5, "dead_letter_window": 20}})
    log = Log()
    habits(log, days=100)
    for n in range(5):
        for k in range(8):
            log.raw("logins", START - (20 * n + 1) * DAY + k, b"{")
    assert replay(log, tmp_path, policy=policy).dead_letters == {"not_json": 40}


def test_late_events_are_recorded_not_folded(tmp_path: Path) -> None:
    log = story()
    log.put(
        "logins", "acc-2", START - 2 * 3_600_000, delay=2 * 3_600_000, account_id="acc-2", session_id="s", outcome="passed", flow="login"
    )
    summary = replay(log, tmp_path)
    assert (summary.late, summary.dead_letters) == (1, {"late": 1})
    assert dead_letters(tmp_path) == [("logins", "late", 22)]


def test_topic_prefix(tmp_path: Path) -> None:
    plain = replay(story(), tmp_path / "plain")
    named = (msgspec.structs.replace(r, topic="bank." + r.topic) for r in story().by_arrival())
    prefixed = Replay(Policy(), KEYS, tmp_path / "prefixed", prefix="bank.").run(named)
    assert prefixed == plain
    unprefixed = replay(story(), tmp_path / "unread", prefix="other.")
    assert unprefixed.dead_letters == {"unknown_topic": 71}


def test_a_recorded_events_topic_is_folded_as_it_is(tmp_path: Path) -> None:
    recorded = recorded_events(story())
    summary = Replay(Policy(), KEYS, tmp_path).run(iter(recorded))
    assert (summary.log, summary.feeds, summary.accounts) == ("events", {"events": len(recorded)}, 2)
    (case,) = read_cases(tmp_path)
    assert case.otp_id == "o-acc-1-bad"
    broken = LogRecord("events", 1, 7, START, b"acc-1", b'{"type":"logged_out"}')
    assert Replay(Policy(), KEYS, tmp_path).run([*recorded, broken]).dead_letters == {"invalid_field": 1}


def recorded_events(log: Log) -> list[LogRecord]:
    """What ingest and route would have written into two partitions of ``events``, without beats."""
    from pipeline.core.route import Router

    ingest, router, lines = Ingest(Policy(), KEYS), Router(Policy()), 0
    out: list[LogRecord] = []
    offsets = [0, 0]
    for record in log.by_arrival():
        for topic, _, event in ingest.read(record.topic, record.value, record.ts):
            events = [event]
            if topic == "lines":
                events = list(router.fold(lines, event))  # type: ignore[arg-type]
                lines += 1
            for e in events:
                partition = int(e.account_id[-1]) % 2  # type: ignore[union-attr]
                out.append(LogRecord("events", partition, offsets[partition], record.ts, None, encode_event(e)))
                offsets[partition] += 1
    return out


def test_raw_topics_and_events_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MixedLog, match="the same facts twice"):
        Replay(Policy(), KEYS, tmp_path).run([*recorded_events(story()), *story().by_arrival()])


def test_outputs_in_the_log_are_counted_and_left_alone(tmp_path: Path) -> None:
    log = story()
    log.raw("alerts", START, b"{}")
    log.raw("decisions", START, b"{}")
    summary = replay(log, tmp_path)
    assert (summary.other_topics, summary.dead_letters) == ({"alerts": 1, "decisions": 1}, {})


def test_an_empty_log_says_nothing(tmp_path: Path) -> None:
    summary = Replay(Policy(), KEYS, tmp_path).run([])
    assert (summary.records, summary.first_arrival, summary.findings) == (0, None, 0)
    assert all((tmp_path / name).exists() for name in OUTPUTS)


def test_the_policy_decides(tmp_path: Path) -> None:
    strict = policy_from({"thresholds": {"alert": 0.999999, "watch": 0.99}})
    assert replay(story(), tmp_path, policy=strict).findings == 0


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_compressed_logs_and_several_files_give_the_same(tmp_path: Path, suffix: str) -> None:
    import gzip

    import zstandard

    pack = {"": lambda b: b, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    log = story()
    paths = []
    for topic in sorted({r.topic for r in log.records}):
        one = Log()
        one.records = [r for r in log.records if r.topic == topic]
        paths.append(tmp_path / f"{topic}.jsonl{suffix}")
        plain = one.write(tmp_path / "plain")
        paths[-1].write_bytes(pack(plain.read_bytes()))
    merged = Replay(Policy(), KEYS, tmp_path / "merged").run(merge_logs(paths))
    assert merged == replay(story(), tmp_path / "one")
    assert (tmp_path / "merged" / "alerts.jsonl").read_bytes() == (tmp_path / "one" / "alerts.jsonl").read_bytes()


def test_two_runs_give_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    log = story()
    log.raw("logins", START + 1, b"{")
    path = log.write(tmp_path / "log.jsonl")
    for seed in ("0", "1", "4711"):
        command = [sys.executable, "-m", "pipeline", "replay", str(path), "--demo-key", "--out", str(tmp_path / seed), "--quiet"]
        subprocess.run(command, check=True, capture_output=True, timeout=120, env={**os.environ, "PYTHONHASHSEED": seed})
    for name in OUTPUTS:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes() == (tmp_path / "4711" / name).read_bytes(), name
    assert b"o-acc-1-bad" in (tmp_path / "0" / "alerts.jsonl").read_bytes()
