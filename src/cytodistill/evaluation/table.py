"""The table of metrics that people read on the terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cytodistill.evaluation.panels import panels

COLUMNS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced\naccuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F-measure",
    "auc": "AUC",
}


def metrics_table(metrics: dict[str, Any], title: str | None = None) -> Table:
    """Rows Exit 1..E and Ensemble (a single-exit model: its one row), macro figures in %, each with its
    interval over groups below it, the best of each column in bold with a star, an undefined one as a dash.

    Args:
        metrics: from `metrics_report`, or read from ``metrics.json``.
        title: heading of the table.
    """
    rows = panels(metrics)
    cells = f"{metrics['n']:,} cells, {metrics['groups']:,} groups, {len(metrics['classes'])} classes"
    # Without edges and padding the seven columns fit a terminal of 80.
    table = Table(
        title=None if title is None else escape(title),
        caption=f"{cells}; macro averages in %",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column("", no_wrap=True)
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    # What is shown is compared, so that two rows that read the same are both the best.
    shown = {name: [_percent(figures[name]) for figures in rows.values()] for name in COLUMNS}
    best = {name: max(values, key=_order) for name, values in shown.items()}
    intervals = metrics.get("intervals")
    within = [*intervals["exits"], intervals["ensemble"]] if intervals else []
    for r, row in enumerate(rows):
        values = [shown[name][r] for name in COLUMNS]
        marked = [len(rows) > 1 and value == best[name] != "–" for name, value in zip(COLUMNS, values, strict=True)]
        table.add_row(row, *(f"[bold]{v}*[/bold]" if m else f"{v} " for v, m in zip(values, marked, strict=True)))
        if intervals:
            level = f"  {100 * intervals['level']:.0f} %"
            table.add_row(level, *(f"{_ends(within[r].get(name))} " for name in COLUMNS), style="dim")
    return table


def _ends(of: list[float] | None) -> str:
    return "–" if of is None else f"{100 * of[0]:.0f}–{100 * of[1]:.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _order(shown: str) -> float:
    return -1.0 if shown == "–" else float(shown)
