"""What does an evaluation look like? One HTML page with tables and plots, everything in it, nothing fetched from anywhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import log10

from pipeline.replay.card import AtBudget, AtRate, Interval, Rate, Scorecard
from pipeline.replay.lessons import Day, Learning
from pipeline.replay.scorecard import summary

WIDTH, HEIGHT, MARGIN = 420, 280, 56
LEAST_RATE = 1e-5
LEAD_BINS_S = (-600, -120, -60, -30, -10, 0, 1, 10, 60, 600)

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d4dae0; --mark: #0b6bcb; --warn: #c2410c; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa4ae; --line: #3a424b; --mark: #5aa9f5; --warn: #f59a5a; --paper: #14181c }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 74rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p, figcaption { color: var(--soft) } table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } .plots { display: flex; flex-wrap: wrap; gap: 1.5rem }
figure { margin: 0; max-width: 420px }
.scroll { overflow-x: auto } svg text { font: 11px system-ui, sans-serif; fill: var(--soft) }
svg .axis { stroke: var(--line) } svg .line { stroke: var(--mark); fill: none; stroke-width: 2 } svg .bar { fill: var(--mark) }
svg .late { fill: var(--warn) } svg .even { stroke: var(--soft); stroke-dasharray: 4 4 } svg .dot { fill: var(--mark) }
"""


def page(title: str, said: Sequence[str], cards: Mapping[str, Scorecard], learned: Learning | None = None) -> str:
    """The page of an evaluation. ``said``: sentences under the title; ``cards``: a scorecard for each view, the full one first;
    ``learned``: learning on beside off, where it was judged.
    """
    name, card = next(iter(cards.items()))
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in said),
        f"<h2>At the policy's threshold ({escape(name)})</h2>",
        table(("", "hits", "of", "share", "95 %"), _headline(card)),
        _seeds(card.seeds, "Rates and budgets for which a single seed has too few benign codes are left out."),
        '<h2>Pictures</h2><div class="plots">',
        figure(recall_plot(card.curve), "Recall over the false-positive rate, by challenge. What matters is on the left."),
        figure(
            precision_plot(card.curve, card.prior),
            f"Precision over recall at a prior of {card.prior:g}: what share of the alerts would be right at a bank.",
        ),
        figure(lead_plot(card.lead.seconds), "Alerts on takeovers by seconds from the entry; left of 0 the code was not entered yet."),
        figure(reliability_plot(card.calibration.bins), f"Reliability at this log's prior of {card.calibration.prior:.2g}."),
        "</div>",
        *_learning(learned),
        "<h2>At false-positive rates a bank can live with</h2>",
        table(("false-positive rate", "recall by challenge", "by account", ""), map(_rate_row, card.at_rates)),
        f"<h2>With a budget of alerts, at a prior of {card.prior:g}</h2>",
        table(("alerts per million codes", "recall", "ceiling", "precision", "ceiling"), map(_budget_row, card.at_budgets)),
        "<h2>What each feed is worth</h2>",
        *(["<p>In brackets: the 95 % interval over seeds.</p>"] if _spans(card.seeds) else []),
        table(("view", *summary(card)), ([view, *_compared(other)] for view, other in cards.items())),
        "<h2>Hard pairs</h2>",
        table(
            ("attack", "looks like it", "AUC", "attacks alerted", "look-alikes alerted"),
            ([p.attack, p.lookalike, "-" if p.auc is None else f"{p.auc:.3f}", _of(p.attacks), _of(p.lookalikes)] for p in card.pairs),
        ),
        "<h2>By story</h2>",
        table(("story", "alerted", "share", "95 %"), ([n, _of(r), *_share(r)] for n, r in card.stories.items())),
        "<h2>False alarms by segment</h2>",
        table(("segment", "value", "alerted", "share", "95 %"), ([s.name, s.value, _of(s.rate), *_share(s.rate)] for s in card.segments)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _headline(card: Scorecard) -> list[list[str]]:
    lead = card.lead
    rows = [
        ("takeovers caught", card.caught),
        ("with a call: caught", card.caught_with_call),
        ("with a call: alerted before the entry", card.before_entry_with_call),
        ("alerted before the entry", lead.before_entry),
        ("alerted at most 1 s after it", lead.within_1s),
        ("alerted at most 10 s after it", lead.within_10s),
        ("false alarms, all benign codes", card.false_alarms),
        ("false alarms, plain codes", card.false_alarms_plain),
    ]
    return [[what, f"{r.hits:,}", f"{r.n:,}", *_share(r)] for what, r in rows]


def _share(r: Rate) -> list[str]:
    """A share as per cent, or per 10,000 where it is small."""
    if r.n and r.share < 0.01:
        return [f"{1e4 * r.share:.1f} in 10,000", f"{1e4 * r.low:.1f} to {1e4 * r.high:.1f}"]
    return [f"{100 * r.share:.1f} %", f"{100 * r.low:.1f} to {100 * r.high:.1f}"]


def _of(r: Rate) -> str:
    return f"{r.hits:,} of {r.n:,}"


def _rate_row(at: AtRate) -> list[str]:
    shown = [f"{100 * at.by_challenge:.1f} %", f"{100 * at.by_account:.1f} %"]
    return [f"{at.false_positive_rate:g}", *shown, "" if at.resolved else "too few benign codes to resolve it"]


def _budget_row(at: AtBudget) -> list[str]:
    shares = (at.recall, at.recall_ceiling, at.precision, at.precision_ceiling)
    return [str(at.alerts_per_million), *(f"{100 * share:.1f} %" for share in shares)]


def _compared(card: Scorecard) -> list[str]:
    spans = _spans(card.seeds)
    cells = []
    for name, value in summary(card).items():
        digits = 1 if "10,000" in name else 3
        span = f" ({spans[name][0]:.{digits}f} to {spans[name][1]:.{digits}f})" if name in spans else ""
        cells.append(f"{value:.{digits}f}{span}")
    return cells


def _spans(seeds: Mapping[str, Interval]) -> dict[str, tuple[float, float]]:
    """The intervals that there are: of one seed there is none."""
    return {name: (i.low, i.high) for name, i in seeds.items() if i.low is not None and i.high is not None}


def _learning(learned: Learning | None) -> list[str]:
    if learned is None:
        return []
    text = (
        f"Each label came 1 to 10 days after the fact, 30 % never, 3.5 % wrong. A day's threshold is the one that kept {learned.allowed:g} "
        "false alarms on the benign codes of the days before. Off: the policy's weights alone. On: what `learn` makes of the examples that "
        "detect would have written, and scores once it is promoted."
    )
    whole = learned.whole
    rows = [(f"from day {whole.day}", whole), *((f"day {d.day}", d) for d in learned.days)]
    return [
        "<h2>Learning on and off</h2>",
        f"<p>{escape(text)} Average precision from day {learned.from_day} on: off {learned.average_precision_off:.3f}, "
        f"on {learned.average_precision_on:.3f}, after {learned.examples:,} examples.</p>",
        _seeds(
            {"takeovers caught with learning on, minus off": learned.gain}
            | {f"of {s.story}": s.gain for s in learned.stories if s.caught_on != s.caught_off}
        ),
        figure(learning_plot(learned.days), "Share of each day's takeovers that alarmed: learning on (line) and off (dashed)."),
        table(
            ("", "takeovers", "caught, off", "caught, on", "benign", "false, off", "false, on"),
            (
                [n, str(d.takeovers), str(d.caught_off), str(d.caught_on), f"{d.benign:,}", str(d.false_off), str(d.false_on)]
                for n, d in rows
            ),
        ),
        table(
            ("story", "takeovers", "caught, off", "caught, on"),
            ([s.story, str(s.takeovers), str(s.caught_off), str(s.caught_on)] for s in learned.stories),
        ),
    ]


def _seeds(seeds: Mapping[str, Interval], said: str = "") -> str:
    spans = _spans(seeds)
    if not spans:
        return ""
    rows = ([name, f"{seeds[name].mean:.4f}", f"{low:.4f} to {high:.4f}"] for name, (low, high) in spans.items())
    return "<h2>Over seeds</h2>" + (f"<p>{escape(said)}</p>" if said else "") + table(("", "mean", "95 %, Student's t"), rows)


def table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways where the screen is narrow."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(svg: str, caption: str) -> str:
    """A picture with what it says under it."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _svg(parts: Iterable[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _x(share: float) -> float:
    return MARGIN + share * (WIDTH - 2 * MARGIN)


def _y(share: float) -> float:
    return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)


def _frame(x_label: str, y_label: str, x_ticks: Iterable[tuple[float, str]], y_ticks: Iterable[tuple[float, str]]) -> list[str]:
    parts = [f'<path class="axis" fill="none" d="M{_x(0)},{_y(1)} V{_y(0)} H{_x(1)}"/>']
    parts += [f'<text x="{_x(at):.1f}" y="{_y(0) + 16}" text-anchor="middle">{escape(text)}</text>' for at, text in x_ticks]
    parts += [f'<text x="{_x(0) - 6}" y="{_y(at) + 4:.1f}" text-anchor="end">{escape(text)}</text>' for at, text in y_ticks]
    parts.append(f'<text x="{_x(0.5)}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="12" y="{_y(0.5)}" text-anchor="middle" transform="rotate(-90 12 {_y(0.5)})">{escape(y_label)}</text>')
    return parts


_SHARES = tuple((share, f"{100 * share:.0f} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0))


def recall_plot(curve: Sequence[tuple[float, float]]) -> str:
    """Recall over the false-positive rate, from 1e-5 to 1 on a logarithmic axis."""

    def place(f: float) -> float:
        return 1 + log10(max(f, LEAST_RATE)) / -log10(LEAST_RATE)

    ticks = [(place(10.0**e), f"1e{e}") for e in range(-5, 1)]
    steps = []
    last = 0.0
    for f, recall in curve:
        steps.append(f"L{_x(place(f)):.1f},{_y(last):.1f} L{_x(place(f)):.1f},{_y(recall):.1f}")
        last = recall
    path = f'<path class="line" d="M{_x(0)},{_y(curve[0][1] if curve and curve[0][0] == 0 else 0):.1f} {" ".join(steps)}"/>'
    return _svg([*_frame("false-positive rate", "recall", ticks, _SHARES), path], "recall over false-positive rate")


def precision_plot(curve: Sequence[tuple[float, float]], prior: float) -> str:
    """Precision over recall with attacks as rare as at the bank; where the log has no false alarm the rate is half of one, not none."""
    least = min((f for f, _ in curve if f > 0), default=LEAST_RATE) / 2
    points = [(recall, prior * recall / (prior * recall + (1 - prior) * max(f, least))) for f, recall in curve if recall > 0]
    parts = _frame("recall", "precision", _SHARES, _SHARES)
    if points:
        parts.append(f'<path class="line" d="M{" L".join(f"{_x(r):.1f},{_y(p):.1f}" for r, p in points)}"/>')
    return _svg(parts, "precision over recall at the bank's prior")


def lead_plot(seconds: Sequence[float]) -> str:
    """How many alerts came how long before or after the entry."""
    edges = LEAD_BINS_S
    counts = [0] * (len(edges) + 1)
    for s in seconds:
        counts[sum(s >= edge for edge in edges)] += 1
    most = max(*counts, 1)
    wide = 1 / len(counts)
    parts = _frame(
        "seconds from the entry", "takeovers", [((n + 1) * wide, str(edge)) for n, edge in enumerate(edges)], [(0.0, "0"), (1.0, str(most))]
    )
    for n, count in enumerate(counts):
        late = " late" if n > edges.index(0) else ""
        top = _y(count / most)
        parts.append(
            f'<rect class="bar{late}" x="{_x(n * wide) + 1:.1f}" y="{top:.1f}" width="{(WIDTH - 2 * MARGIN) * wide - 2:.1f}" '
            f'height="{_y(0) - top:.1f}"><title>{count}</title></rect>'
        )
    return _svg(parts, "alerts by seconds from the entry")


def learning_plot(days: Sequence[Day]) -> str:
    """The share of the takeovers of each day that alarmed, with learning on and off; days without a takeover are passed over."""
    shown = [d for d in days if d.takeovers]
    last = max((d.day for d in shown), default=1)
    ticks = [(day / last, str(day)) for day in range(0, last + 1, max(1, last // 7))]
    parts = _frame("day", "takeovers caught", ticks, _SHARES)
    for kind, caught in (("even", [d.caught_off for d in shown]), ("line", [d.caught_on for d in shown])):
        points = " L".join(f"{_x(d.day / last):.1f},{_y(n / d.takeovers):.1f}" for d, n in zip(shown, caught, strict=True))
        parts.append(f'<path class="{kind}" fill="none" d="M{points}"/>')
    return _svg(parts, "takeovers caught by day, learning on and off")


def reliability_plot(bins: Sequence[tuple[float, float, int]]) -> str:
    """Share of takeovers over mean probability, in bins of equal number; on the dashed line the two agree."""
    parts = _frame("probability", "share of takeovers", _SHARES, _SHARES)
    parts.append(f'<line class="even" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    parts += [f'<circle class="dot" cx="{_x(p):.1f}" cy="{_y(y):.1f}" r="4"><title>{n} codes</title></circle>' for p, y, n in bins]
    return _svg(parts, "share of takeovers over probability")
