"""Is a change seen, its direction and size right, and a steady world left in peace?"""

from random import Random

from worlds import SCHEMA, Example, world

from pipeline.core.learn.drift import Drift, DriftSettings, DriftWatch, Rate


def watched(watch: DriftWatch, examples: list[Example], log_odds: float, alert_rate: float, seed: int = 0) -> list[Drift]:
    r = Random(seed)
    return [d for x, _ in examples for d in watch.update(x, r.gauss(log_odds, 1.0), r.random() < alert_rate)]


def test_a_steady_world_is_left_in_peace() -> None:
    assert watched(DriftWatch(SCHEMA), world(1, 8000), -6.0, 0.01) == []


def test_a_steady_rate_of_alerts_is_left_in_peace_for_long() -> None:
    r, rate = Random(3), Rate(DriftSettings())
    assert [i for i in range(100_000) if rate.update(r.random() < 0.01)] == []


def test_scores_that_rise_are_seen() -> None:
    watch = DriftWatch(SCHEMA)
    assert watched(watch, world(2, 3000), -6.0, 0.0) == []
    found = watched(watch, world(3, 1000), -5.0, 0.0, seed=1)
    first = found[0]
    assert {d.name for d in found} == {"score"}
    assert (first.detector, first.direction) == ("adwin", "up")
    assert first.after > first.before
    assert first.magnitude == first.after - first.before
    assert 3000 < first.example < 3400


def test_a_feature_that_changes_and_one_that_goes_missing_are_named() -> None:
    watch = DriftWatch(SCHEMA)
    watched(watch, world(4, 2000, prior=0.0), -6.0, 0.0)
    changed: list[Example] = []
    for x, y in world(5, 1000, prior=0.0):
        f = dict(x)
        f["share"] = float(f["share"]) - 2.0
        f["new_device"] = True
        f.pop("channel", None)
        changed.append((f, y))
    found = watched(watch, changed, -6.0, 0.0)
    by_name = {d.name: d for d in found}
    assert set(by_name) == {"feature:share", "feature:new_device", "missing:channel"}
    assert by_name["feature:share"].direction == "down"
    assert -2.6 < by_name["feature:share"].magnitude < -0.5
    assert by_name["missing:channel"].direction == "up"
    assert by_name["missing:channel"].before < 0.2


def test_a_flood_of_alerts_and_a_silence_are_seen() -> None:
    watch = DriftWatch(SCHEMA)
    assert watched(watch, world(6, 3000), -6.0, 0.02) == []
    flood = [d for d in watched(watch, world(7, 1500), -6.0, 0.2, seed=2) if d.name == "alert_rate"]
    assert flood[0].direction == "up"
    assert flood[0].detector == "page_hinkley"
    assert flood[0].magnitude > 0.0
    silence = [d for d in watched(watch, world(8, 3000), -6.0, 0.0, seed=3) if d.name == "alert_rate"]
    assert silence[0].direction == "down"


def test_the_same_stream_gives_the_same_drifts() -> None:
    def run() -> list[Drift]:
        watch = DriftWatch(SCHEMA)
        return watched(watch, world(9, 1500), -6.0, 0.0) + watched(watch, world(10, 1500, flipped=True), -3.0, 0.1)

    assert run() == run() != []
