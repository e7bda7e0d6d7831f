"""Does the evaluation learn from what detect would have kept for the day the truth comes? On one simulated log, decision by decision."""

from collections import Counter
from pathlib import Path

import orjson

from pipeline.core.policy import Learning, Policy
from pipeline.replay.lessons import Said
from pipeline.replay.prequential import kept
from pipeline.replay.run import Replay
from pipeline.simulate.run import simulate
from pipeline.wire.log import merge_logs, read_log
from pipeline.wire.pseudonym import Pseudonyms


def test_what_is_learned_of_a_code_is_what_detect_writes_to_examples(tmp_path: Path) -> None:
    simulate(77, 400, 48.0, tmp_path, history_days=3, prior=0.3, all_labels=True)
    Replay(Policy(learning=Learning(negatives=0.0)), Pseudonyms.for_demo(), tmp_path / "said").run(merge_logs([tmp_path / "log.jsonl"]))
    decisions = [orjson.loads(record.value or b"") for record in read_log(tmp_path / "said" / "decisions.jsonl")]
    said: dict[tuple[str, str], list[Said]] = {}
    names: dict[int, dict[str, object]] = {}
    for d in sorted(decisions, key=lambda d: d["time"]):
        one = Said(d["time"], 0.0, d["features"], d["stage"], d["level"])
        names[id(one)] = d
        said.setdefault((d["account_id"], d["otp_id"]), []).append(one)
    found = [names[id(one)] for each in said.values() if (one := kept(each)) is not None]
    stages = {d["decision_id"]: d["stage"] for d in found}
    taught = {orjson.loads(record.value or b"")["example_id"] for record in read_log(tmp_path / "said" / "examples.jsonl")}
    assert taught - stages.keys() == set()
    counted = Counter(stages[name] for name in taught)
    assert counted["at_entry"] > 30
    assert counted["near_miss"] > 30
