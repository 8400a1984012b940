"""The figures of every exit and the ensemble."""

from __future__ import annotations

from cytodistill.evaluation.panels import panels
from cytodistill.evaluation.table import COLUMNS
from cytodistill.report.chart import Axis, Chart, Series
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import NOTHING, decimal, percent, percent_entry
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

DRAWN = {"accuracy": "Accuracy", "f1": "F-measure, mean of the classes"}


def exits_section(judged: Judged) -> Section:
    """A table of the exits, a chart of them where there are several, and the folds of a cross-validation."""
    metrics = judged.metrics
    table = exits_table(judged)
    text = ["Averages are over classes, each counting the same, so balanced accuracy and sensitivity are one figure."]
    if len(metrics["exits"]) > 1:
        text.append("Exits are numbered from shallow to deep; the ensemble is the mean of their probabilities.")
    folds = [_folds(judged)] if "folds" in metrics else []
    charts = [_chart(judged, table)] if len(metrics["exits"]) > 1 else []
    return Section("exits", "Figures by exit", text, charts, [table, *folds])


def exits_table(judged: Judged) -> Table:
    """Rows Exit 1..E and Ensemble, in per cent, each figure with its interval."""
    metrics = judged.metrics
    columns = [heading.replace("\n", " ") for name, heading in COLUMNS.items() if name != "balanced_accuracy"]
    rows = [
        Row(
            name,
            [
                percent_entry(figures[key], _ends(judged, place).get(key))
                for key in COLUMNS
                if key != "balanced_accuracy"
            ],
            strong=name == "Ensemble",
        )
        for place, (name, figures) in enumerate(panels(metrics).items())
    ]
    return Table("exits-table", f"Every exit, in %{_with_intervals(judged)}", "", columns, rows)


def _with_intervals(judged: Judged) -> str:
    found = judged.metrics["intervals"]
    return f", with {100 * found['level']:.0f} % intervals" if found else ""


def _ends(judged: Judged, place: int) -> dict:
    found = judged.metrics["intervals"]
    if not found:
        return {}
    return found["exits"][place] if place < len(found["exits"]) else found["ensemble"]


def _chart(judged: Judged, table: Table) -> Chart:
    rows = panels(judged.metrics)
    shift = {"accuracy": -0.09, "f1": 0.09}
    series, values = [], []
    for style, (key, name) in enumerate(DRAWN.items(), start=1):
        points = [(place + shift[key], figures[key]) for place, figures in enumerate(rows.values())]
        whiskers = [_ends(judged, place).get(key) for place in range(len(rows))]
        values += [y for _, y in points] + [end for ends in whiskers if ends for end in ends]
        series.append(Series(name, points, style, line=False, whiskers=whiskers))
    first, last = next(iter(rows.values())), judged.metrics["ensemble"]
    said = (
        f"Accuracy goes from {percent(first['accuracy'])} at the first exit to {percent(last['accuracy'])} of the "
        f"ensemble, the F-measure from {percent(first['f1'])} to {percent(last['f1'])}."
    )
    names = [name.removeprefix("Exit ") for name in rows]
    return Chart(
        "exits-chart",
        "Accuracy and F-measure of the exits",
        said,
        Axis("exit, shallow to deep", -0.5, len(rows) - 0.5, names=names),
        Axis.round_values("%", values),
        series,
        Table("exits-chart-table", "Figures of the chart, in %", "", *_columns(table, ("Accuracy", "F-measure"))),
    )


def _columns(table: Table, kept: tuple[str, ...]) -> tuple[list[str], list[Row]]:
    places = [table.columns.index(name) for name in kept]
    return list(kept), [Row(row.name, [row.entries[place] for place in places], row.strong) for row in table.rows]


def _folds(judged: Judged) -> Table:
    """The ensemble of each fold, and their mean and standard deviation."""
    keys = [key for key in COLUMNS if key != "balanced_accuracy"]
    rows = [
        Row(
            f"Fold {number}",
            [
                Entry(str(fold["n"])),
                *(percent_entry(fold[key], (fold.get("intervals") or {}).get(key)) for key in keys),
            ],
        )
        for number, fold in enumerate(judged.metrics["folds"], start=1)
    ]
    over = judged.metrics["over_folds"]
    rows.append(Row("Mean ± SD", [Entry(""), *(Entry(_mean_sd(over[key])) for key in keys)], strong=True))
    columns = ["Cells", *(COLUMNS[key].replace("\n", " ") for key in keys)]
    caption = (
        "The ensemble fold by fold, in %, with 95 % intervals over the groups of the fold (none of a single group); "
        "the deviation is over folds, whose training cells overlap"
    )
    return Table("folds-table", caption, "", columns, rows)


def _mean_sd(of: dict[str, float | None]) -> str:
    mean, deviation = of["mean"], of["sd"]
    if mean is None:
        return NOTHING
    return decimal(100 * mean, 1) + ("" if deviation is None else f" ± {100 * deviation:.1f}")
