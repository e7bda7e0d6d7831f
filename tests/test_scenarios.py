"""Does the detector say what an analyst would? Every story of tests/scenarios, and that the stories cover rules and variants."""

import pytest

from pipeline.core.decision import finding_uid
from pipeline.core.outcome import Decision, Finding, Hold, HoldEnded, Outcome
from pipeline.core.rules import RULES, RULES_BY_NAME
from tests.stories import GROUPS, SCENARIOS, Expect, Run, Story, findings, played, stories

VARIANTS = 14  # V1 to V14 of the design
LOOK_ALIKES = 18  # B1 to B18
PLAYED = [
    pytest.param(s, id=s.name, marks=[pytest.mark.xfail(reason=s.known_gap, raises=AssertionError)] if s.known_gap else [])
    for s in stories()
]


@pytest.mark.parametrize("story", PLAYED)
def test_story(story: Story) -> None:
    run = played(story.name)
    said = [outcome for _, outcome in run.said]
    for otp_id, expect in story.expect.items():
        _check(story, run, said, otp_id, expect)
    _check_counts(story, run, said)
    _check_holds_rest_on_findings(run)


def _check(story: Story, run: Run, said: list[Outcome], otp_id: str, expect: Expect) -> None:
    decided = [d for d in said if isinstance(d, Decision) and d.otp_id == otp_id]
    told = findings(said, otp_id)
    last = decided[-1] if decided else None
    assert (last.level if last else "clear") == expect.level, _why(last)
    if expect.stage is not None:
        assert last is not None, "no decision, so no stage"
        assert last.stage == expect.stage
    hits = {RULES_BY_NAME[r.name].uid for r in last.reasons if r.name in RULES_BY_NAME} if last else set()
    assert set(expect.hits) <= hits, _why(last)
    assert not set(expect.misses) & hits, _why(last)
    for name, value in expect.features.items():
        assert last is not None, "no decision, so no features"
        assert last.features.get(name) == (pytest.approx(value, abs=1e-3) if type(value) is float else value), name
    if expect.level == "clear" and expect.first_alert is None:
        assert not told, f"alerted: {told[0].message}"
    if expect.first_alert is not None:
        assert told, "never alerted"
        assert told[0].stage == expect.first_alert
    if expect.within_s is not None:
        assert told[0].time - _entered(run, otp_id) <= 1000 * expect.within_s
    if expect.findings is not None:
        assert len(told) == expect.findings, [(f.sequence, f.activity, f.stage) for f in told]
    if expect.hold is not None:
        _check_hold(said, otp_id, expect)
    _check_words(story, told, otp_id, expect)
    if expect.incident is not None:
        assert last is not None
        other = [d for d in said if isinstance(d, Decision) and d.otp_id == expect.incident]
        assert other[-1].incident_id == last.incident_id


def _check_words(story: Story, told: list[Finding], otp_id: str, expect: Expect) -> None:
    assert [f.sequence for f in told] == list(range(1, len(told) + 1)), "sequence numbers without gaps"
    spoken = [f for f in told if f.activity != "close"]
    for words in expect.says:
        assert spoken, "never alerted"
        last = spoken[-1]
        assert words in f"{last.title}\n{last.message}\n{last.story}\n{last.advice}\n{last.contact_advice}"
    if expect.feeds_missing is not None:
        assert spoken[-1].feeds_missing == expect.feeds_missing
    if expect.linked_accounts is not None:
        assert spoken[-1].linked_accounts == expect.linked_accounts
    _check_suppressed(spoken, expect)
    if expect.part_of is not None:
        pages = findings([f for _, f in played(story.name).said], expect.part_of)
        assert spoken[-1].part_of == pages[0].uid
        assert pages[0].part_of is None
    elif spoken:
        assert spoken[-1].part_of is None
    if expect.because is not None:
        assert told[-1].activity == "close"
        assert expect.because in (told[-1].close_reason or "")
    elif told:
        assert told[-1].activity != "close", told[-1].close_reason
    if expect.verdict_id is not None:
        assert told[-1].verdict_id == expect.verdict_id


def _check_suppressed(spoken: list[Finding], expect: Expect) -> None:
    if expect.suppressed == "never":
        assert not any(f.suppressed for f in spoken)
    elif expect.suppressed == "heard":
        assert spoken[-1].suppressed is None
    elif expect.suppressed is not None:
        by = spoken[-1].suppressed
        assert by is not None, "it is heard"
        assert expect.suppressed in ([s.scope for s in by.snoozes] or [by.cause])
    if expect.benign_if is not None:
        assert tuple(fact for e in spoken[-1].benign_if for fact in e.facts) == expect.benign_if


def _check_hold(said: list[Outcome], otp_id: str, expect: Expect) -> None:
    holds = [o for o in said if isinstance(o, Hold | HoldEnded) and o.otp_id == otp_id]
    if expect.hold == "none":
        assert not holds
    else:
        assert isinstance(holds[0], Hold)
        assert isinstance(holds[-1], HoldEnded)


def _check_holds_rest_on_findings(run: Run) -> None:
    """After every event, a code that is held has an open finding, and the last word on a hold is its end."""
    held: set[str] = set()
    is_open: set[str] = set()
    for n, (offset, o) in enumerate(run.said):
        if isinstance(o, Hold):
            held.add(o.finding_uid)
        elif isinstance(o, HoldEnded):
            held.discard(finding_uid(o.account_id, o.otp_id))
        elif isinstance(o, Finding):
            (is_open.discard if o.activity == "close" else is_open.add)(o.uid)
        if n + 1 == len(run.said) or run.said[n + 1][0] != offset:
            assert held <= is_open
    assert not held


def _check_counts(story: Story, run: Run, said: list[Outcome]) -> None:
    timelines = [t for t in map(run.partition.timeline, run.partition.accounts()) if t is not None]
    assert sum(t.late for t in timelines) == story.counts.late
    assert sum(t.conflicts for t in timelines) == story.counts.conflicts
    assert dict(run.refused) == story.counts.refused
    assert not any(t.tracks for t in timelines), "a challenge was never settled"
    named = {d.otp_id for d in said if isinstance(d, Decision) and d.level != "clear"}
    assert named <= set(story.expect), "a challenge that the story does not speak of was suspected"


def _entered(run: Run, otp_id: str) -> int:
    return min(e.occurred_at for e in run.events if getattr(e, "otp_id", None) == otp_id and hasattr(e, "outcome"))


def _why(decision: Decision | None) -> str:
    if decision is None:
        return "no decision"
    reasons = ", ".join(f"{r.name} {r.contribution:+.1f}" for r in decision.reasons)
    return f"{decision.stage} {decision.level} {decision.probability:.4f}: {reasons}"


# --- the stories themselves


@pytest.mark.parametrize("story", stories(), ids=lambda s: s.name)
def test_a_story_speaks_of_every_challenge_and_says_why(story: Story) -> None:
    assert story.story.endswith(".")
    assert story.why.endswith(".")
    told = {r.get("otp_id", "otp-1") for r in story.records if r.get("topic") in ("otp-dispatches", "otp-entries")}
    assert told - {None} <= set(story.expect), "a challenge without an expectation"
    assert (story.known_gap is not None) == story.name.startswith("known_gaps/"), "known gaps have a folder and a reason"
    if story.name.startswith("benign/"):
        assert all(e.level != "alert" and e.first_alert is None for e in story.expect.values()), "benign stories expect no alert"


def test_every_file_is_in_a_known_folder() -> None:
    files = {p.relative_to(SCENARIOS).as_posix() for p in SCENARIOS.rglob("*") if p.is_file()} - {"cast.yaml", "README.md"}
    assert files == {f"{s.name}.yaml" for s in stories()}
    assert {name.split("/")[0] for name in files} == set(GROUPS)


@pytest.mark.parametrize("uid", [r.uid for r in RULES])
def test_every_rule_has_a_story_that_hits_and_one_that_misses(uid: str) -> None:
    names = [s.name.split("/")[1] for s in stories()]
    for verb, field in (("hits", "hits"), ("misses", "misses")):
        found = [s for s in stories() if s.name.split("/")[1].startswith(f"{uid.lower()}_{verb}")]
        assert found, f"{uid} has no story {uid.lower()}_{verb}_... among {len(names)}"
        assert all(any(uid in getattr(e, field) for e in s.expect.values()) for s in found)


@pytest.mark.parametrize("tag", [f"v{n:02}" for n in range(1, VARIANTS + 1)] + [f"b{n:02}" for n in range(1, LOOK_ALIKES + 1)])
def test_every_variant_has_a_story(tag: str) -> None:
    groups = {s.name.split("/")[0] for s in stories() if s.name.split("/")[1].startswith(f"{tag}_")}
    assert groups
    assert groups <= ({"fraud", "known_gaps"} if tag.startswith("v") else {"benign", "known_gaps"})
