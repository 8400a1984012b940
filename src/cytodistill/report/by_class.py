"""The figures of every class, against the rest."""

from __future__ import annotations

import numpy as np

from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, percent_entry
from cytodistill.report.resampling import quotient
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table


def class_section(judged: Judged) -> Section:
    """A table of the classes, by the answers."""
    text = [
        f"Each class against all others, by the answers of {judged.speaker}. A class of few groups has a wide "
        "interval, and its figure may change much with other cells; one of a single group has none.",
    ]
    return Section("classes", "Figures by class", text, tables=[class_table(judged)])


def class_table(judged: Judged) -> Table:
    """A row a class: cells, groups, and figures in per cent with their intervals."""
    predicted, labels, draws = judged.raw.argmax(1), judged.labels, judged.resampling
    classes = len(judged.classes)
    hits = draws.sums_by(labels, classes, (labels == predicted).astype(float))
    own, said = draws.sums_by(labels, classes), draws.sums_by(predicted, classes)
    rest = own.sum(axis=1, keepdims=True) - own
    drawn = {
        "sensitivity": quotient(hits, own),
        "specificity": quotient(rest - (said - hits), rest),
        "precision": quotient(hits, said),
        "f1": quotient(2 * hits, own + said),
    }
    rows = []
    for code, (name, figures) in enumerate(judged.metrics["ensemble"]["per_class"].items()):
        mine, called = labels == code, predicted == code
        counted = {"sensitivity": mine, "specificity": ~mine, "precision": called, "f1": mine | called}
        entries = [
            percent_entry(figures[key], draws.interval(figures[key], found[:, code], counted[key]))
            for key, found in drawn.items()
        ]
        groups = len(np.unique(judged.groups[mine]))
        rows.append(Row(name, [Entry(count(figures["n"])), Entry(count(groups)), *entries]))
    columns = ["Cells", "Groups", "Sensitivity", "Specificity", "Precision", "F-measure"]
    return Table("classes-table", "Every class against the rest, in %, with 95 % intervals", "Class", columns, rows)
