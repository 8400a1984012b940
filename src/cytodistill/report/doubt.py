"""Which answers are likely wrong, and how good the rest are when the doubtful ones are left to people."""

from __future__ import annotations

from typing import Any

from cytodistill.evaluation.trust import RISK
from cytodistill.metrics.selective import doubt, risk_coverage
from cytodistill.report.chart import REFERENCE, Axis, Chart, Series, spread
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import decimal, percent, percent_entry
from cytodistill.report.section import Section
from cytodistill.report.tables import Row, Table

POINTS, LISTED = 120, 21
"""Points of a curve that are drawn, and that its table lists."""
KINDS = {
    "max_probability": "largest probability",
    "entropy": "entropy",
    "margin": "margin of the two largest",
    "disagreement": "the exits' disagreement",
}
FIGURES = ("auroc", "aurc", "e_aurc", "coverage_at_5_percent_risk")


def doubt_section(judged: Judged) -> Section:
    """Risk against coverage, and how well each kind of doubt finds wrong answers."""
    if judged.correct.all():
        return Section("doubt", "Doubt", ["Every answer is right: there is nothing to tell from right answers."])
    text = (
        "When only the surest cells are answered and the others left to people, fewer answers are wrong. The model's "
        "own doubt is compared with the best order there could be: all right answers first."
    )
    return Section("doubt", "Doubt", [text], [risk_chart(judged)], [failure_table(judged)])


def risk_chart(judged: Judged) -> Chart:
    """Risk against coverage by the ensemble's largest probability."""
    doubts, right = doubt(judged.probabilities), judged.correct
    coverage, risk = risk_coverage(doubts, right)
    best = risk_coverage(~right, right)[1]
    kept = spread(len(coverage), POINTS)
    listed = spread(len(coverage), LISTED)
    rows = [Row(percent(coverage[k]), [percent_entry(risk[k]), percent_entry(best[k])]) for k in listed]
    figures = judged.doubt["ensemble"]["max_probability"]
    coverage_then = percent(figures["coverage_at_5_percent_risk"])
    said = (
        f"{percent(1 - right.mean())} of the answers are wrong when all cells are answered. Answering {coverage_then} "
        f"of the cells keeps wrong answers at {percent(RISK)} or below. The area under the curve (AURC) is "
        f"{decimal(figures['aurc'])}, {decimal(figures['e_aurc'])} above that of the best order."
    )
    return Chart(
        "risk-coverage",
        "Risk and coverage",
        said,
        Axis("cells answered (coverage), %"),
        Axis("wrong answers among them (risk), %", 0.0, _above(max(risk[kept].max(), best.max()))),
        [
            Series("best order there could be", [(coverage[k], best[k]) for k in kept], REFERENCE),
            Series("by the model's own doubt", [(coverage[k], risk[k]) for k in kept], 1),
        ],
        Table("risk-table", "Figures of the chart, in %", "Cells answered", ["Wrong answers", "Best order"], rows),
    )


def _above(value: float) -> float:
    """The next multiple of 0.05 above a share, at most 1."""
    return min(1.0, 0.05 * (int(value / 0.05) + 1))


def failure_table(judged: Judged) -> Table:
    """Rows: every exit and the ensemble by the largest probability, then the ensemble by other doubts."""
    found, several = judged.doubt, judged.exits.shape[1] > 1
    rows = []
    if several:
        rows += [_row(f"Exit {exit}", figures) for exit, figures in enumerate(found["exits"], start=1)]
    named = "Ensemble" if several else "Exit 1"
    for kind, name in KINDS.items():
        if kind in found["ensemble"]:
            rows.append(_row(f"{named}, {name}", found["ensemble"][kind], kind == "max_probability"))
    columns = [
        "AUROC of wrong against right, %",
        "AURC, %",
        "Above the best order, %",
        f"Cells answered at {100 * RISK:.0f} % wrong, %",
    ]
    caption = "How well doubt finds wrong answers, with 95 % intervals; exits by their largest probability"
    return Table("failure-table", caption, "", columns, rows)


def _row(name: str, figures: dict[str, Any], strong: bool = False) -> Row:
    within = figures["intervals"]
    return Row(name, [percent_entry(figures[key], within[key]) for key in FIGURES], strong)
