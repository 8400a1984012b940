"""Abnormal against normal: ROC, precision-recall, operating points, and whole groups."""

from __future__ import annotations

from typing import Any

from cytodistill.report.chart import REFERENCE, Axis, Chart, Point, Series, spread
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, decimal, percent, percent_entry, percents
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
        fields = view["fields"]
        tables.append(_fields(fields))
        if fields["points"]:
            tables.append(_field_points(fields))
        if fields["few"]:
            text.append(f"Of whole groups {fields['few']}.")
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
    within = view["intervals"]["specificity_at_sensitivity"]
    at = "; ".join(
        f"{percent(value)}{_between(within[of])} at {100 * float(of):.0f} % sensitivity"
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
        f"Precision against sensitivity. Average precision {percent(view['average_precision'])}"
        f"{_between(view['intervals']['average_precision'])}; at random it would be {percent(share)}, the share of "
        "abnormal cells, which is another in routine slides.",
        Axis("abnormal cells found (recall, sensitivity), %"),
        Axis("alarms that are right (precision), %"),
        [Series("chance", [(0, share), (1, share)], REFERENCE), Series("abnormal against normal", points, 1)],
        Table("recall-table", "Figures of the chart, in %", "Recall", ["Precision"], rows),
    )


def _between(ends: list[float] | None) -> str:
    return f" ({percents(ends)})" if ends else ""


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


def _fields(fields: dict[str, Any]) -> Table:
    """Groups that hold an abnormal cell, told from the others by their cells' scores together."""
    rows = [
        Row(name, [percent_entry(fields[how]["auc"], fields[how].get("auc_interval"))]) for how, name in FIELDS.items()
    ]
    caption = (
        f"Groups with an abnormal cell ({count(fields['abnormal'])} of {count(fields['groups'])}) told from the "
        "others, with 95 % intervals"
    )
    return Table("fields-table", caption, "Score of a group", ["AUC, %"], rows)


def _field_points(fields: dict[str, Any]) -> Table:
    """What the operating points of whole groups do: a group is abnormal where its score reaches the threshold."""
    rows = []
    for point in fields["points"]:
        chosen = point.get("folds", [point])
        on_validation = [one["on_validation"] for one in chosen]
        chose, normal = (sum(of[key] for of in on_validation) for key in ("n", "normal"))
        rows.append(
            Row(
                point["name"],
                [
                    Entry(_span([one["threshold"] for one in chosen])),
                    percent_entry(point["sensitivity"], point["sensitivity_interval"]),
                    percent_entry(point["specificity"], point["specificity_interval"]),
                    Entry(f"{count(chose)}, {count(normal)} normal"),
                ],
            )
        )
    columns = ["Threshold", "Sensitivity, %", "Specificity, %", "Validation groups that chose it"]
    caption = (
        f"Operating points of whole groups, on {count(fields['abnormal'])} abnormal and {count(fields['normal'])} "
        "normal groups, with 95 % intervals"
    )
    return Table("field-points-table", caption, "Point", columns, rows)
