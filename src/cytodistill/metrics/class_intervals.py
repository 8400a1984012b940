"""Intervals of each class's figures against the rest, groups resampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytodistill.metrics.group_resampling import GroupResampling, quotient
from cytodistill.metrics.intervals import Interval, group_tallies
from cytodistill.metrics.macro_groups import macro_groups
from cytodistill.metrics.standard_error import share_ends


def class_intervals(
    draws: GroupResampling, labels: NDArray, predicted: NDArray, classes: int
) -> list[dict[str, Interval | None]]:
    """For each class "sensitivity", "specificity", "precision" and "f1" of `classification_metrics`.

    An interval's degrees of freedom are those of the groups of the cells that its figure counts: of a rare class's
    sensitivity the few groups that hold it. None where they are of one group, or where most resamples leave the figure
    undefined; a class that is never predicted has a precision of 0 and no interval of it.

    Args:
        draws: of the groups of the N cells.
        labels: (N,) codes.
        predicted: (N,) codes.
        classes: C.
    """
    hits = draws.sums_by(labels, classes, (labels == predicted).astype(float))
    own, said = draws.sums_by(labels, classes), draws.sums_by(predicted, classes)
    rest = own.sum(axis=1, keepdims=True) - own
    drawn = {
        "sensitivity": quotient(hits, own),
        "specificity": quotient(rest - (said - hits), rest),
        "precision": quotient(hits, said),
        "f1": quotient(2 * hits, own + said),
    }
    found = []
    for code in range(classes):
        mine, called = labels == code, predicted == code
        right = mine & called
        if not mine.any():
            found.append(dict.fromkeys(drawn))
            continue
        counted = {"sensitivity": mine, "specificity": ~mine, "precision": called, "f1": mine | called}
        rightly = {"sensitivity": right, "specificity": ~mine & ~called, "precision": right}
        values = {name: _share(of, counted[name]) for name, of in rightly.items()}
        values["f1"] = 2 * float(right.sum()) / float(mine.sum() + called.sum())
        found.append({name: draws.interval(values[name], of[:, code], counted[name]) for name, of in drawn.items()})
    return found


def f1_interval(draws: GroupResampling, labels: NDArray, predicted: NDArray, classes: int) -> Interval | None:
    """Of the macro F-measure as `figure_intervals` has it; None of one group. Args as `class_intervals`."""
    if draws.groups < 2:
        return None
    hits = draws.sums_by(labels, classes, (labels == predicted).astype(float))
    own, said = draws.sums_by(labels, classes), draws.sums_by(predicted, classes)
    each = np.where(own > 0, np.nan_to_num(quotient(2 * hits, own + said)), 0)
    tallies = group_tallies(labels, predicted, draws.of, classes)
    all_hits, all_own, all_said = tallies.sum(axis=0)
    value = float((2 * all_hits / np.maximum(all_own + all_said, 1))[all_own > 0].mean())
    drawn = each.sum(axis=1) / (own > 0).sum(axis=1)
    return Interval(value, *share_ends(value, drawn, macro_groups([tallies])["f1"]))


def _share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(of.sum() / among.sum()) if among.any() else None
