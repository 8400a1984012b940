"""The figures of every class, against the rest."""

from __future__ import annotations

import numpy as np

from cytodistill.metrics.classification import PER_CLASS
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, percent_entry
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
    rows = []
    for code, (name, figures) in enumerate(judged.metrics["ensemble"]["per_class"].items()):
        within = judged.class_intervals.get(name, {})
        entries = [percent_entry(figures[key], within.get(key)) for key in PER_CLASS]
        groups = len(np.unique(judged.groups[judged.labels == code]))
        rows.append(Row(name, [Entry(count(figures["n"])), Entry(count(groups)), *entries]))
    columns = ["Cells", "Groups", "Sensitivity", "Specificity", "Precision", "F-measure", "AUC"]
    return Table("classes-table", "Every class against the rest, in %, with 95 % intervals", "Class", columns, rows)
