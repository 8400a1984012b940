"""Which answers are likely wrong, and how good the rest are when the doubtful ones are left to people."""

from __future__ import annotations

import numpy as np

from cytodistill.metrics.intervals import Interval
from cytodistill.metrics.selective import aurc, coverage_at, doubt, e_aurc, failure_auroc, risk_coverage
from cytodistill.report.chart import REFERENCE, Axis, Chart, Series, spread
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import decimal, percent, percent_entry
from cytodistill.report.resampling import GroupResampling, quotient, steps
from cytodistill.report.section import Section
from cytodistill.report.tables import Row, Table

POINTS, LISTED = 120, 21
"""Points of a curve that are drawn, and that its table lists."""
RISK = 0.05
KINDS = {"max_probability": "largest probability", "entropy": "entropy", "margin": "margin of the two largest"}


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
    at = coverage_at(doubts, right, RISK)
    said = (
        f"{percent(1 - right.mean())} of the answers are wrong when all cells are answered. Answering {percent(at)} of "
        f"the cells keeps wrong answers at {percent(RISK)} or below. The area under the curve (AURC) is "
        f"{decimal(aurc(doubts, right))}, {decimal(e_aurc(doubts, right))} above that of the best order."
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
    exits, right = judged.exits, judged.correct
    rows = []
    if exits.shape[1] > 1:
        for exit in range(exits.shape[1]):
            of_exit = exits[:, exit]
            rows.append(_row(f"Exit {exit + 1}", judged, doubt(of_exit), of_exit.argmax(1) == judged.labels))
    named = "Ensemble" if rows else "Exit 1"
    for kind, name in KINDS.items():
        rows.append(
            _row(f"{named}, {name}", judged, doubt(judged.probabilities, kind), right, kind == "max_probability")
        )
    if exits.shape[1] > 1:
        rows.append(_row("Ensemble, the exits' disagreement", judged, doubt(exits, "disagreement"), right))
    columns = ["AUROC of wrong against right, %", "AURC, %", f"Cells answered at {100 * RISK:.0f} % wrong, %"]
    caption = "How well doubt finds wrong answers, with 95 % intervals; exits by their largest probability"
    return Table("failure-table", caption, "", columns, rows)


def _row(name: str, judged: Judged, doubts: np.ndarray, right: np.ndarray, strong: bool = False) -> Row:
    ends = _intervals(judged.resampling, doubts, right)
    return Row(
        name,
        [
            percent_entry(failure_auroc(doubts, right), ends["auroc"]),
            percent_entry(aurc(doubts, right), ends["aurc"]),
            percent_entry(coverage_at(doubts, right, RISK), ends["coverage"]),
        ],
        strong,
    )


def _intervals(draws: GroupResampling, doubts: np.ndarray, right: np.ndarray) -> dict[str, Interval | None]:
    """Intervals of the three figures; within a step of doubts the order is left open, as among equal doubts."""
    step, count = steps(doubts)
    size, bad = draws.sums_by(step, count), draws.sums_by(step, count, (~right).astype(float))
    answered, cells = np.cumsum(size, axis=1), size.sum(axis=1)
    risk = quotient(np.cumsum(bad, axis=1), answered)
    covered = np.where(risk <= RISK, answered, 0).max(axis=1) / cells
    mean_risk = np.where(size > 0, risk * size, 0).sum(axis=1) / cells
    return {
        "auroc": draws.interval(failure_auroc(doubts, right), draws.area(doubts, ~right)),
        "aurc": draws.interval(aurc(doubts, right), mean_risk),
        "coverage": draws.interval(coverage_at(doubts, right, RISK), covered),
    }
