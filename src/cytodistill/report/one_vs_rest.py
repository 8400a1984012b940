"""ROC and precision-recall of every class against the rest, for runs that no class map tells what is abnormal."""

from __future__ import annotations

import numpy as np

from cytodistill.metrics.screening import precision_recall, roc
from cytodistill.metrics.screening_intervals import area_interval, average_precision_interval
from cytodistill.report.chart import REFERENCE, STYLES, Axis, Chart, Series, spread
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import percent_entry
from cytodistill.report.section import Section
from cytodistill.report.tables import Row, Table

POINTS = 120
KEY, TITLE = "one-vs-rest", "ROC and precision-recall"


def one_vs_rest_section(judged: Judged) -> Section:
    """Curves of the classes, of those that are told worst where there are more than a chart has styles for."""
    per_class = judged.metrics["ensemble"]["per_class"]
    areas = {code: figures["auc"] for code, figures in enumerate(per_class.values()) if figures["auc"] is not None}
    if not areas:
        return Section(KEY, TITLE, ["All cells are of one class: there is nothing to tell it from."])
    shown = sorted(sorted(areas, key=lambda code: areas[code])[:STYLES])
    few = "" if len(shown) == len(areas) else f" Shown are the {len(shown)} classes that are told worst."
    text = "No class map says which classes are abnormal, so each class is told from all others." + few
    return Section(KEY, TITLE, [text], [_roc_chart(judged, shown), _recall_chart(judged, shown)])


def _roc_chart(judged: Judged, shown: list[int]) -> Chart:
    series, rows = [Series("chance", [(0, 0), (1, 1)], REFERENCE)], []
    for style, code in enumerate(shown, start=1):
        scores, own, name = _of_class(judged, code)
        curve = roc(scores, own)
        series.append(_series(name, 1 - curve.specificity, curve.sensitivity, style))
        area = area_interval(judged.resampling, scores, own)
        rows.append(Row(name, [percent_entry(curve.auc, area)]))
    return Chart(
        "roc",
        "ROC curves",
        f"Area under the curve: {_said(rows)}.",
        Axis("cells of other classes called so (1 − specificity), %"),
        Axis("cells of the class found (sensitivity), %"),
        series,
        Table("roc-table", "Areas, in %, with 95 % intervals", "Class against the rest", ["AUC"], rows),
    )


def _recall_chart(judged: Judged, shown: list[int]) -> Chart:
    series, rows = [], []
    for style, code in enumerate(shown, start=1):
        scores, own, name = _of_class(judged, code)
        curve = precision_recall(scores, own)
        series.append(_series(name, curve.sensitivity, curve.precision, style))
        within = average_precision_interval(judged.resampling, scores, own)
        share = percent_entry(float(own.mean()), judged.resampling.mean(own))
        rows.append(Row(name, [percent_entry(curve.average_precision, within), share]))
    return Chart(
        "precision-recall",
        "Precision and recall",
        f"Average precision: {_said(rows)}. At random it is the share of the class.",
        Axis("cells of the class found (recall, sensitivity), %"),
        Axis("answers of the class that are right (precision), %"),
        series,
        Table(
            "recall-table",
            "Average precision, in %, with 95 % intervals",
            "Class against the rest",
            ["Average precision", "Share"],
            rows,
        ),
    )


def _of_class(judged: Judged, code: int) -> tuple[np.ndarray, np.ndarray, str]:
    return judged.probabilities[:, code], judged.labels == code, judged.classes[code]


def _series(name: str, x: np.ndarray, y: np.ndarray, style: int) -> Series:
    return Series(name, [(float(x[k]), float(y[k])) for k in spread(len(x), POINTS)], style)


def _said(rows: list[Row]) -> str:
    return ", ".join(f"{row.name} {row.entries[0].text} %" for row in rows)
