"""Is one caller on several accounts seen live, and a surge of codes, whatever happens to the stage that counts? All four stages on a
real broker.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pipeline.core import surge
from pipeline.core.campaign import Known, hear
from pipeline.core.events import CampaignSeen, CodesSurged
from pipeline.core.policy import Policy, policy_from
from pipeline.core.surge import Surge
from pipeline.wire.codec import decode_event
from pipeline.wire.log import LogRecord, read_log
from tests.broker.assessed import said_by, said_by_replay
from tests.broker.harness import Deployment
from tests.broker.test_verifier import campaign_faults_are_named
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect", "campaign")
CODES = {"share": 0.9, "spread": 0.1, "accounts": [[1.0] * 24] * 7}  # of the usual: so that a few codes more are a surge


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with a baseline of codes."""
    file = tmp_path_factory.mktemp("policy") / "policy.toml"
    file.write_text("[baselines.codes]\n" + "".join(f"{name} = {value}\n" for name, value in CODES.items()))
    return file


def surges_of(values: Iterable[bytes | None]) -> dict[tuple[str, str], float]:
    """How much of a surge the last decision on each entered code saw, where its dispatch is known."""
    decisions = [json.loads(value or b"{}") for value in values]
    entered = [d for d in decisions if d["features"].get("entered") and "code_surge_z" in d["features"]]
    return {(d["account_id"], d["otp_id"]): d["features"]["code_surge_z"] for d in entered}


def news(live: Deployment) -> list[tuple[int, CampaignSeen | CodesSurged]]:
    """What stands in ``events`` of campaigns and surges, with its partition."""
    found = [(kept.partition, decode_event(kept.value or b"")) for kept in live.read("events")]
    return [(partition, event) for partition, event in found if isinstance(event, CampaignSeen | CodesSurged)]


def tables(said: list[tuple[int, CampaignSeen | CodesSurged]]) -> tuple[dict[int, dict[str, Known]], dict[int, dict[int, Surge]]]:
    known: dict[int, dict[str, Known]] = {}
    surges: dict[int, dict[int, Surge]] = {}
    for partition, event in said:
        if isinstance(event, CampaignSeen):
            hear(known.setdefault(partition, {}), event, Policy())
        else:
            surge.hear(surges.setdefault(partition, {}), event)
    return known, surges


def test_campaigns_are_told_to_every_partition_and_the_recorded_events_say_the_same(
    deploy: Callable[..., Deployment], attacked: list[LogRecord], policy_file: Path, tmp_path: Path
) -> None:
    live = deploy(policy_file=policy_file)
    live.load(attacked)
    with Watch(live) as watch:
        live.finish({stage: live.start(stage) for stage in STAGES}, within_s=240)
    told, surges = tables(news(live))
    assert sorted(told) == sorted(surges) == [0, 1, 2, 3]
    assert len({frozenset((entity, known.marks) for entity, known in table.items()) for table in told.values()}) == 1
    assert verify(live, STAGES, beats=False).where["sightings"]["marks"] > 20
    assert any(b"one_caller_on_several_accounts" in (kept.value or b"") for kept in live.read("decisions"))
    policy = policy_from({"baselines": {"codes": CODES}})
    assert said_by(live) == said_by_replay(attacked, tmp_path, policy)
    seen = surges_of(kept.value for kept in live.read("decisions"))
    assert seen == surges_of(record.value for record in read_log(tmp_path / "decisions.jsonl"))
    assert 0.0 in seen.values()
    assert max(seen.values()) >= surge.LEAST_Z
    assert len({tuple(sorted((at, s.z) for at, s in table.items())) for table in surges.values()}) == 1, "told to all alike"
    campaign_faults_are_named(live, watch)


def test_kills_of_campaign_between_its_effects_change_no_final_assessment(
    deploy: Callable[..., Deployment], attacked: list[LogRecord], tmp_path: Path
) -> None:
    """It dies with its news written and its state not, then with its slots durable and its clock not, and once more before the commit."""
    live = deploy(batch_records=20)
    live.load(attacked)
    workers = {stage: live.start(stage) for stage in STAGES if stage != "campaign"}
    for point in ("after-outputs", "inside-changelog", "before-commit"):
        live.died(live.start("campaign", crash=("kill", point, 1)), point)
    workers["campaign"] = live.start("campaign")
    live.finish(workers, within_s=240)
    assert verify(live, STAGES, beats=False).copies["events"], "no death came between news and its state"
    assert said_by(live) == said_by_replay(attacked, tmp_path)
