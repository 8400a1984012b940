"""Abnormal against normal: ROC, precision-recall, operating points, and whole groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.metrics.group_decision import aggregate, group_labels
from cytodistill.report.chart import REFERENCE, Axis, Chart, Point, Series, spread
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, decimal, percent, percent_entry, percents
from cytodistill.report.resampling import GroupResampling
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

POINTS, LISTED = 120, 21
FIELDS = {"max": "Highest cell", "top_k_mean": "Mean of the three highest cells", "noisy_or": "Noisy-or of the cells"}


def screening_section(judged: Judged) -> Section | None:
    """The screening view; None where no class map says which classes are abnormal."""
    view = judged.trust["screening"] if judged.trust else None
    if view is None:
        return None
    interval = f" (95 % interval {percents(view['auc_interval'])})" if view["auc_interval"] else ""
    text = [
        f"Abnormal are {', '.join(view['abnormal_classes'])}, by the class map {view['class_map']}: "
        f"{count(view['abnormal'])} of {count(view['cells'])} cells. A cell's score is the sum of their calibrated "
        f"probabilities. AUC {percent(view['auc'])}{interval}.",
        "Operating points are thresholds of the score that were chosen on validation cells, to find so many of the "
        "abnormal ones; the table says what they do on these cells. Numbers mark them on the ROC curve.",
    ]
    charts = [_roc_chart(view), _recall_chart(view)]
    tables = [_points(view)]
    if view["fields"]:
        tables.append(_fields(judged, view["fields"]))
    return Section("screening", "Screening view", text, charts, tables)


def _roc_chart(view: dict[str, Any]) -> Chart:
    curve = view["roc"]
    kept = spread(len(curve["sensitivity"]), POINTS)
    points = [(1 - curve["specificity"][k], curve["sensitivity"][k]) for k in kept]
    operating = view["operating_points"]
    places: dict[Point, str] = {}
    for number, point in enumerate(operating, start=1):
        place = (1 - point["specificity"], point["sensitivity"])
        places[place] = f"{places[place]},{number}" if place in places else str(number)
    series = [
        Series("chance", [(0, 0), (1, 1)], REFERENCE),
        Series("abnormal against normal", points, 1),
        Series(
            "operating points",
            list(places),
            2,
            line=False,
            badges=list(places.values()),
        ),
    ]
    listed = [points[k] for k in spread(len(points), LISTED)]
    rows = [Row(percent(1 - x), [percent_entry(y)]) for x, y in listed]
    at = "; ".join(
        f"{percent(value)} at {100 * float(of):.0f} % sensitivity"
        for of, value in view["specificity_at_sensitivity"].items()
    )
    return Chart(
        "roc",
        "ROC curve",
        f"Sensitivity against false alarms. Area {percent(view['auc'])}. Specificity {at}.",
        Axis("normal cells called abnormal (1 − specificity), %"),
        Axis("abnormal cells found (sensitivity), %"),
        series if operating else series[:2],
        Table("roc-table", "Figures of the chart, in %", "Specificity", ["Sensitivity"], rows),
    )


def _recall_chart(view: dict[str, Any]) -> Chart:
    curve, share = view["precision_recall"], view["abnormal"] / view["cells"]
    kept = spread(len(curve["sensitivity"]), POINTS)
    points = [(curve["sensitivity"][k], curve["precision"][k]) for k in kept]
    rows = [Row(percent(points[k][0]), [percent_entry(points[k][1])]) for k in spread(len(points), LISTED)]
    return Chart(
        "precision-recall",
        "Precision and recall",
        f"Precision against sensitivity. Average precision {percent(view['average_precision'])}; at random it would be "
        f"{percent(share)}, the share of abnormal cells, which is another in routine slides.",
        Axis("abnormal cells found (recall, sensitivity), %"),
        Axis("alarms that are right (precision), %"),
        [Series("chance", [(0, share), (1, share)], REFERENCE), Series("abnormal against normal", points, 1)],
        Table("recall-table", "Figures of the chart, in %", "Recall", ["Precision"], rows),
    )


def _points(view: dict[str, Any]) -> Table:
    """Operating points by their number on the chart: the threshold, and what it does on both kinds of cells."""
    rows = []
    for number, point in enumerate(view["operating_points"], start=1):
        chosen = point.get("folds", [point])
        rows.append(
            Row(
                f"{number}  {point['name']}",
                [
                    Entry(_span([one["threshold"] for one in chosen])),
                    percent_entry(point["sensitivity"], point["sensitivity_interval"]),
                    percent_entry(point["specificity"], point["specificity_interval"]),
                    Entry(_span([100 * one["on_validation"]["sensitivity"] for one in chosen], 1)),
                    Entry(_span([100 * one["on_validation"]["specificity"] for one in chosen], 1)),
                ],
            )
        )
    columns = [
        "Threshold",
        "Sensitivity, %",
        "Specificity, %",
        "Sensitivity on validation, %",
        "Specificity on validation, %",
    ]
    caption = "Operating points, with 95 % intervals on these cells; on validation cells they were chosen"
    return Table("points-table", caption, "Point", columns, rows)


def _span(values: list[float], digits: int = 3) -> str:
    """A number, or of folds the lowest and the highest."""
    low, high = decimal(min(values), digits), decimal(max(values), digits)
    return low if low == high else f"{low} to {high}"


def _fields(judged: Judged, fields: dict[str, Any]) -> Table:
    """Groups that hold an abnormal cell, told from the others by their cells' scores together."""
    screened = judged.applied.screened if judged.applied else None
    assert screened is not None  # for there is a view of it
    scores = np.clip(screened.scores, 0, 1)
    names, truth = group_labels(screened.abnormal, judged.groups)
    draws = GroupResampling(names)  # a group is one unit here, with one score
    rows = []
    for how, name in FIELDS.items():
        found = aggregate(scores, judged.groups, how, 3 if how == "top_k_mean" else None)[1]
        rows.append(
            Row(name, [percent_entry(fields[how]["auc"], draws.interval(fields[how]["auc"], draws.area(found, truth)))])
        )
    caption = (
        f"Groups with an abnormal cell ({count(fields['abnormal'])} of {count(fields['groups'])}) told from the "
        "others, with 95 % intervals"
    )
    return Table("fields-table", caption, "Score of a group", ["AUC, %"], rows)
