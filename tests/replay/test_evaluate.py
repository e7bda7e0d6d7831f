"""Are the measures those of the field, and does each view take away what it says?"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.__main__ import main
from pipeline.replay.ablations import ANSWERS_AFTER_MS, VIEWS
from pipeline.replay.card import Scored
from pipeline.replay.page import HEIGHT, MARGIN, WIDTH, page, precision_plot
from pipeline.replay.scorecard import figures, scorecard, summary
from pipeline.simulate.run import simulate
from pipeline.wire.ingest import Ingest
from pipeline.wire.log import LogRecord
from pipeline.wire.pseudonym import Pseudonyms
from tests.replay.raw import DAY, PHONE, START, Log, story

ENTERED = 1_000_000


def scored(label: str, score: float, account: str, *, story: str = "plain", lead_s: float | None = None, call: bool = False) -> Scored:
    alerted = None if lead_s is None else ENTERED + int(1000 * lead_s)
    return Scored(account, f"o-{account}-{score}", label, story, call, score, alerted, ENTERED, {"channel": "sms"})  # type: ignore[arg-type]


def run(benign: int = 2000) -> list[Scored]:
    """Four takeovers at 0.9, 0.8, 0.7 and 0.1, a look-alike at 0.75, and quiet customers."""
    return [
        scored("takeover", 0.9, "a", story="V1", lead_s=-20, call=True),
        scored("takeover", 0.8, "b", story="V1", lead_s=0.5, call=True),
        scored("takeover", 0.7, "c", story="V8", lead_s=5),
        scored("takeover", 0.1, "d", story="V8"),
        scored("attempt", 0.95, "e", story="V1", lead_s=-5, call=True),
        scored("benign", 0.75, "f", story="B8", lead_s=1, call=True),
        *(scored("benign", 0.001, f"q{n}") for n in range(benign - 1)),
    ]


def test_the_figures_are_those_counted_by_hand() -> None:
    card = scorecard([run()], prior=1e-4)
    assert (card.caught.hits, card.caught.n, card.attempts) == (3, 4, 1)
    assert (card.false_alarms.hits, card.false_alarms.n) == (1, 2000)
    assert (card.before_entry_with_call.hits, card.before_entry_with_call.n) == (1, 2)
    assert [r.hits for r in (card.lead.before_entry, card.lead.within_1s, card.lead.within_10s)] == [1, 2, 3]
    at = {a.false_positive_rate: a for a in card.at_rates}
    assert at[1e-3].by_challenge == 1.0, "two false alarms are allowed: all four takeovers are above the third"
    assert at[1e-4].by_challenge == 0.5, "none is allowed: two takeovers are above the look-alike"
    assert (at[1e-3].resolved, at[1e-4].resolved) == (True, False)
    assert card.average_precision == pytest.approx((1 + 1 + 3 / 4 + 4 / 5) / 4)
    pair = next(p for p in card.pairs if (p.attack, p.lookalike) == ("V1", "B8"))
    assert (pair.auc, pair.attacks.hits, pair.lookalikes.hits) == (1.0, 2, 1)


def test_a_budget_of_alerts_counts_both_kinds_at_the_prior() -> None:
    few, some, many = scorecard([run()], prior=1e-4).at_budgets
    assert (few.recall, few.recall_ceiling) == (0.0, 0.1), "a quarter of the takeovers is 25 alerts in a million codes"
    assert (some.recall, some.recall_ceiling, some.precision) == (0.5, 0.5, 1.0)
    assert many.recall == 0.5, "one false alarm in 2,000 is 500 in a million"
    assert many.recall_ceiling == many.precision_ceiling == 1.0


def test_an_account_counts_once_with_its_highest_score() -> None:
    one = [scored("takeover", 0.9, "a"), scored("benign", 0.2, "a"), scored("benign", 0.3, "b"), scored("attempt", 0.99, "c")]
    at = scorecard([one], prior=1e-4).at_rates[0]
    assert at.by_account == 1.0
    two = [scored("takeover", 0.2, "a"), scored("benign", 0.9, "a"), scored("benign", 0.5, "b")]
    at = scorecard([two], prior=1e-4).at_rates[0]
    assert (at.by_challenge, at.by_account) == (0.0, 1.0)


def test_seeds_give_an_interval_and_one_seed_gives_none() -> None:
    assert scorecard([run()], prior=1e-4).seeds["caught"].low is None
    several = scorecard([run(), run(), [scored("takeover", 0.9, "a", lead_s=1), scored("benign", 0.1, "b")]], prior=1e-4).seeds["caught"]
    assert several.mean == pytest.approx((0.75 + 0.75 + 1.0) / 3)
    assert several.low is not None
    assert several.high is not None
    assert several.high - several.mean == pytest.approx(4.302653 * (0.25 / 3**0.5) / 3**0.5, rel=1e-5)  # t at 0.975, 2 degrees of freedom


def test_every_figure_has_its_interval_over_seeds_and_one_that_rests_on_nothing_is_left_out() -> None:
    quiet = [scored("benign", 0.1, f"q{n}") for n in range(50)]
    card = scorecard([run(), run(), quiet], prior=1e-4)
    assert {*figures(card)} - {*card.seeds} == UNRESOLVED, "2,000 benign codes a seed show a rate of 1e-3, and no smaller one"
    assert {*summary(card)} - {*card.seeds} == {"recall at 1e-4"}
    assert all(found.low is not None for found in card.seeds.values())
    assert card.seeds["caught"].mean == pytest.approx(0.75), "the seed without a takeover says nothing of it"
    false_alarms = [figures(scorecard([one], prior=1e-4))["false alarms per 10,000"] for one in (run(), run(), quiet)]
    assert card.seeds["false alarms per 10,000"].mean == pytest.approx(sum(false_alarms) / 3)
    assert "In brackets" in page("-", [], {"full": card})
    assert "In brackets" not in page("-", [], {"full": scorecard([run()], prior=1e-4)})


UNRESOLVED = {
    *(f"recall at {rate}{by}" for rate in ("1e-4", "1e-5") for by in ("", ", by account")),
    *(f"{what} with {budget} alerts per million codes" for what in ("recall", "precision") for budget in (10, 50, 100)),
}


def test_probabilities_are_judged_at_the_prior_of_the_log() -> None:
    prior = 1 / 1001
    honest = prior_of_the_model_put(0.5, prior)
    mixed = [*(scored("takeover", honest, f"t{n}") for n in range(10)), *(scored("benign", honest, f"b{n}") for n in range(10))]
    quiet = [scored("benign", 0.0, f"q{n}") for n in range(9_990)]
    card = scorecard([[*mixed, *quiet]], prior=1e-4)
    assert card.calibration.prior == pytest.approx(10 / 10_010)
    assert card.calibration.error < 1e-3
    assert card.calibration.brier == pytest.approx(20 * 0.25 / 10_010, rel=0.02)


def prior_of_the_model_put(probability: float, prior: float) -> float:
    """What the model, at its own prior of one in 10,000, says where ``probability`` is right at another one."""
    odds = probability / (1 - probability) * (1e-4 / (1 - 1e-4)) / (prior / (1 - prior))
    return odds / (1 + odds)


def bodies(view: str, path: Path, topic: str) -> list[dict[str, object]]:
    return [json.loads(r.value or b"") for r in seen(view, path) if r.topic == topic]


def seen(view: str, path: Path) -> Iterator[LogRecord]:
    return VIEWS[view]([path])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = story()
    log.put("telephony", PHONE, START - 3 * DAY, type="line", phone=PHONE, change="sim_swapped")
    return log.write(tmp_path / "log.jsonl")


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_in_the_order_of_arrival_and_nothing_of_it_is_refused(view: str, path: Path) -> None:
    from pipeline.core.policy import Policy

    ingest = Ingest(Policy(), Pseudonyms.for_demo())
    records = list(seen(view, path))
    assert [r.ts for r in records] == sorted(r.ts for r in records)
    for record in records:
        ingest.read(record.topic, record.value, record.ts)


def test_a_view_leaves_out_what_it_says_and_nothing_else(path: Path) -> None:
    whole = {topic: bodies("all feeds", path, topic) for topic in ("logins", "otp-entries", "otp-dispatches", "telephony")}
    assert bodies("no telephony", path, "telephony") == []
    assert bodies("no telephony", path, "logins") == whole["logins"]
    assert bodies("no line state", path, "telephony") == [b for b in whole["telephony"] if b["type"] != "line"]
    assert all(b["device_id"] is None for topic in ("logins", "otp-entries") for b in bodies("no device", path, topic))
    assert bodies("no device", path, "telephony") == whole["telephony"]
    late = [r.ts for r in seen("calls an hour late", path) if r.topic == "telephony"]
    assert late == [r.ts + 3_600_000 for r in seen("all feeds", path) if r.topic == "telephony"]
    app = bodies("app call state only", path, "telephony")
    assert [b["state"] for b in app] == [b["state"] for b in whole["telephony"] if b["type"] == "call"]
    assert all(b["peer"] is None and b["attestation"] is None for b in app)


def test_a_carrier_is_asked_when_a_code_is_sent_a_little_later_and_when_it_is_entered(tmp_path: Path) -> None:
    log = Log()
    log.call(PHONE, START + 10_000, "call", talk_s=30)  # answered 14 s after the start, over at 44 s
    log.challenge("acc-1", PHONE, START, "one", "dev", entry_s=38)  # sent at 2 s, entered at 40 s
    log.challenge("acc-1", PHONE, START + 120_000, "two", "dev", entry_s=None)
    answers = bodies("probe answers only", log.write(tmp_path / "log.jsonl"), "telephony")
    assert all(b["type"] == "call_status" and b["phone"] == PHONE for b in answers)
    assert [b["on_call"] for b in answers] == [False, True, True, False, False]
    assert len(answers) == 2 * len(ANSWERS_AFTER_MS) + 1
    assert len({b["event_id"] for b in answers}) == len(answers)


def test_the_command_writes_a_scorecard_and_a_page(tmp_path: Path) -> None:
    made = simulate(3, 60, 1.0, tmp_path / "sim", history_days=1, prior=0.2)
    log, truth, policy = (str(tmp_path / "sim" / name) for name in (made.log, made.truth, made.policy))
    out = tmp_path / "out"
    options = ["--log", log, "--truth", truth, "--policy", policy, "--demo-key", "--out", str(out)]
    done = CliRunner().invoke(main, ["evaluate", *options, "--view", "all feeds", "--view", "no telephony"])
    assert done.exit_code == 0, done.output
    card = json.loads((out / "scorecard.json").read_bytes())
    full = card["views"]["all feeds"]
    customers = {s["value"]: s["rate"]["n"] for s in full["segments"] if s["name"] == "customer"}
    assert set(customers) <= {"older", "middle", "younger"}
    assert sum(customers.values()) == full["benign"]
    assert list(card["views"]) == ["all feeds", "no telephony"]
    assert full["takeovers"] + full["attempts"] + full["benign"] == made.challenges
    assert f"{full['caught']['hits']} of {full['caught']['n']} caught" in done.output
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 4
    assert "http" not in page, "nothing is fetched"
    wrong = CliRunner().invoke(main, ["evaluate", *options, "--view", "no phones"])
    assert wrong.exit_code == 2
    assert "there are all feeds" in wrong.output


def test_precision_is_that_of_the_prior_not_of_the_log() -> None:
    plot = precision_plot([(0.0, 0.5), (1e-3, 1.0)], prior=1e-3)
    assert f"L{WIDTH - MARGIN:.1f}," in plot, "to a recall of 1"
    share = 1e-3 / (1e-3 + 0.999 * 1e-3)
    assert f",{HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN):.1f}" in plot, "half of the alerts are right there"
    assert '<path class="line"' not in precision_plot([], prior=1e-3)
