"""Which classes are taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.confusion import MOST_COUNTED
from cytodistill.evaluation.panels import panels
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, percent_entry
from cytodistill.report.section import Matrix, Section
from cytodistill.report.tables import Entry, Row, Table

MOST_MISTAKES = 20
"""Mistakes that are listed where there are too many classes for a matrix."""


def confusion_section(judged: Judged) -> Section:
    """A matrix of every exit and the ensemble; of more classes than a page can show, the most frequent mistakes."""
    named, classes = panels(judged.metrics), judged.classes
    if len(classes) > MOST_COUNTED:
        text = (
            f"A matrix of {len(classes)} classes has no room here: these are the most frequent mistakes of each exit. "
            "confusion.png, beside this page, has the matrices."
        )
        tables = [_mistakes(name, figures, classes) for name, figures in named.items()]
        return Section("confusion", "Confusion", [text], tables=tables)
    text = (
        "True classes down, answers across: the number of cells and, below it, their share of the true class in %. "
        "The diagonal is right."
    )
    # The ensemble, which answers in the end, comes first.
    matrices = [_matrix(name, figures, classes) for name, figures in reversed(named.items())]
    return Section("confusion", "Confusion", [text], matrices=[matrices[0], *reversed(matrices[1:])])


def _matrix(name: str, figures: dict[str, Any], classes: tuple[str, ...]) -> Matrix:
    counts = np.array(figures["confusion_matrix"])
    totals = counts.sum(axis=1)
    shares = [[int(n) / int(total) if total else None for n in row] for row, total in zip(counts, totals, strict=True)]
    return Matrix(f"confusion-{_key(name)}", name, classes, counts.tolist(), shares)


def _mistakes(name: str, figures: dict[str, Any], classes: tuple[str, ...]) -> Table:
    counts = np.array(figures["confusion_matrix"])
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(counts.diagonal())
    places = [np.unravel_index(flat, counts.shape) for flat in np.argsort(-wrong, axis=None, kind="stable")]
    rows = [
        Row(
            classes[true],
            [
                Entry(classes[said]),
                Entry(count(int(wrong[true, said]))),
                percent_entry(wrong[true, said] / totals[true]),
            ],
        )
        for true, said in places[:MOST_MISTAKES]
        if wrong[true, said]
    ]
    return Table(f"mistakes-{_key(name)}", name, "True class", ["Answer", "Cells", "% of the class"], rows)


def _key(name: str) -> str:
    return name.lower().replace(" ", "-")
