"""Is one caller on several accounts seen live, whatever happens to the stage that counts? All four stages on a real broker."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.campaign import Known, hear
from pipeline.core.events import CampaignSeen
from pipeline.core.policy import Policy
from pipeline.wire.codec import decode_event
from pipeline.wire.log import LogRecord
from tests.broker.assessed import said_by, said_by_replay
from tests.broker.harness import Deployment
from tests.broker.test_verifier import campaign_faults_are_named
from tests.broker.verifier import Watch, verify

pytestmark = pytest.mark.broker
STAGES = ("ingest", "route", "detect", "campaign")


def news(live: Deployment) -> list[tuple[int, CampaignSeen]]:
    """What stands in ``events`` of campaigns, with its partition."""
    found = [(kept.partition, decode_event(kept.value or b"")) for kept in live.read("events")]
    return [(partition, event) for partition, event in found if isinstance(event, CampaignSeen)]


def tables(said: list[tuple[int, CampaignSeen]]) -> dict[int, dict[str, Known]]:
    known: dict[int, dict[str, Known]] = {}
    for partition, event in said:
        hear(known.setdefault(partition, {}), event, Policy())
    return known


def test_campaigns_are_told_to_every_partition_and_the_recorded_events_say_the_same(
    deploy: Callable[..., Deployment], attacked: list[LogRecord], tmp_path: Path
) -> None:
    live = deploy()
    live.load(attacked)
    with Watch(live) as watch:
        live.finish({stage: live.start(stage) for stage in STAGES}, within_s=240)
    told = tables(news(live))
    assert sorted(told) == [0, 1, 2, 3]
    assert len({frozenset((entity, known.marks) for entity, known in table.items()) for table in told.values()}) == 1
    assert verify(live, STAGES, beats=False).where["sightings"]["marks"] > 20
    assert any(b"one_caller_on_several_accounts" in (kept.value or b"") for kept in live.read("decisions"))
    assert said_by(live) == said_by_replay(attacked, tmp_path)
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
