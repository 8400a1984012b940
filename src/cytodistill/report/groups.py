"""Groups of cells (fields, slides, acquisitions) on which the model does worst."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, counted, percent, percent_entry
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

LIMIT = 15
Z = 1.96


def groups_section(judged: Judged) -> Section | None:
    """The worst groups, and how accuracy spreads over groups. None where each cell is a group of its own."""
    found = accuracy_by_group(judged.groups, judged.correct)
    if len(found) == len(judged.groups):
        return None
    quartiles = np.quantile(found["accuracy"], [0.25, 0.5, 0.75])
    whole = int((found["right"] == found["n"]).sum())
    text = [
        f"Of {counted(len(found), 'group')}, {count(whole)} {'is' if whole == 1 else 'are'} answered right in every "
        f"cell. The middle half of the groups has an accuracy of {percent(quartiles[0])} to {percent(quartiles[2])}, "
        f"the median is {percent(quartiles[1])}.",
        "Listed are the groups that are surest to be bad: those whose accuracy, seen as that of a sample, is lowest at "
        "the upper end of its 95 % interval (Wilson), so that one wrong cell alone does not come first.",
    ]
    worst = found[found["right"] < found["n"]].head(LIMIT)
    if worst.empty:
        return Section("groups", "Worst groups", text[:1])
    rows = [
        Row(
            str(name),
            [
                Entry(count(group["n"])),
                Entry(count(group["n"] - group["right"])),
                percent_entry(group["accuracy"], (group["low"], group["high"])),
                Entry(_most_frequent(judged, str(name))),
            ],
        )
        for name, group in zip(worst.index, worst.to_dict("records"), strict=True)
    ]
    columns = ["Cells", "Wrong", "Accuracy, %", "Most frequent mistake"]
    return Section(
        "groups",
        "Worst groups",
        text,
        tables=[Table("groups-table", "The worst of them", "Group", columns, rows, (3,))],
    )


def accuracy_by_group(groups: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Rows by group: n, right, accuracy, and the ends "low" and "high" of its Wilson interval (Wilson, JASA 22, 1927),
    worst first by the upper end.

    Args:
        groups: (N,) names.
        correct: (N,) whether each answer is right.
    """
    of = pd.Series(correct.astype(int)).groupby(np.asarray(groups, object))
    found = pd.DataFrame({"n": of.size(), "right": of.sum()})
    n, p = found["n"], found["right"] / found["n"]
    centre, half = (p + Z**2 / (2 * n)), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    found = found.assign(
        accuracy=p, low=((centre - half) / scale).clip(0, 1), high=((centre + half) / scale).clip(0, 1)
    )
    return found.sort_values(["high", "accuracy"], kind="stable")


def _most_frequent(judged: Judged, group: str) -> str:
    rows = np.flatnonzero((judged.groups == group) & ~judged.correct)
    pairs = pd.Series(list(zip(judged.labels[rows], judged.raw[rows].argmax(axis=1), strict=True))).value_counts()
    (true, said), times = pairs.index[0], int(pairs.iloc[0])
    return f"{judged.classes[true]} as {judged.classes[said]}, {times}×"
