"""What did it come to? The final assessment of each challenge, as a run wrote it and as a replay of the raw log says it (law 7)."""

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.policy import Policy
from pipeline.replay.run import Replay
from pipeline.wire.log import LogRecord, read_log
from pipeline.wire.pseudonym import Pseudonyms
from tests.broker.harness import KEY, Deployment

# Whether a finding was ever told is of the order in which things came: what was an alarm for a moment in one order never was in another.
SAME = ("stage", "level", "probability", "incident_id")
Final = dict[tuple[str, str], tuple[object, ...]]


def final_assessments(values: Iterable[bytes | None]) -> Final:
    """The last word on each challenge by (account, code), those left out that ended clear and unused: they need not be said."""
    last: Final = {}
    for value in values:
        decision = json.loads(value or b"{}")
        last[decision["account_id"], decision["otp_id"]] = tuple(decision[name] for name in SAME)
    return {key: said for key, said in last.items() if said[:2] not in (("before_entry", "clear"), ("near_miss", "clear"))}


def said_by(live: Deployment) -> Final:
    """The final assessments that a run wrote."""
    return final_assessments(kept.value for kept in live.read("decisions"))


def said_by_replay(log: Iterable[LogRecord], out: Path, policy: Policy | None = None, key: str = KEY) -> Final:
    """The final assessments of a replay of raw records; its outputs are written to ``out``."""
    Replay(policy or Policy(), Pseudonyms.from_text(key), out).run(log)
    return final_assessments(record.value for record in read_log(out / "decisions.jsonl"))
