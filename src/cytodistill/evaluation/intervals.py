"""Intervals of the report's figures: groups of the test cells resampled, for every exit and the ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cytodistill.metrics.auc_interval import auc_interval, auc_intervals
from cytodistill.metrics.class_intervals import class_intervals
from cytodistill.metrics.group_resampling import GroupResampling, ends
from cytodistill.metrics.intervals import LEVEL, METHOD, RESAMPLES, figure_intervals, group_tallies

AUC_RESAMPLES = 1000
"""Fewer than for the counted figures: every resample goes through all cells."""
NO_INTERVALS = (
    "no intervals: all cells are of one group, and an interval needs two fields, clusters or acquisitions to resample"
)


def report_intervals(
    exit_probabilities: ArrayLike, ensemble: ArrayLike, labels: ArrayLike, groups: ArrayLike, classes: Sequence[str]
) -> dict[str, Any] | None:
    """{"level", "resamples", "method", "exits", "ensemble"}, the last two with {figure: [low, high]} for each figure
    that has an interval, and "per_class" {class: {figure: [low, high]}}, None where a class has none: it is of one
    group, or undefined. None in all where the cells are of one group, of which nothing can be resampled.

    Args:
        exit_probabilities: (N, E, C).
        ensemble: (N, C).
        labels: (N,) codes.
        groups: (N,) group of each cell.
        classes: the C names.
    """
    exits, y, g = np.asarray(exit_probabilities), np.asarray(labels), np.asarray(groups)
    if len(np.unique(g)) < 2:
        return None

    draws = GroupResampling(g)

    def of(probabilities: np.ndarray) -> dict[str, Any]:
        predicted = probabilities.argmax(1)
        found = dict(figure_intervals([group_tallies(y, predicted, g, len(classes))]))
        area, areas = auc_intervals(probabilities, y, g, resamples=AUC_RESAMPLES)
        if area:
            found["auc"] = area
        by_class = class_intervals(draws, y, predicted, len(classes))
        return {name: [interval.low, interval.high] for name, interval in found.items()} | {
            "per_class": {
                name: {figure: ends(within) for figure, within in (of_class | {"auc": own}).items()}
                for name, of_class, own in zip(classes, by_class, areas, strict=True)
            }
        }

    of_exits = [of(exits[:, exit]) for exit in range(exits.shape[1])]
    # The ensemble of one exit is that exit, and a hundred classes take half a minute.
    same = exits.shape[1] == 1 and np.array_equal(exits[:, 0], ensemble)
    return {
        "level": LEVEL,
        "resamples": RESAMPLES,
        "method": METHOD,
        "exits": of_exits,
        "ensemble": of_exits[0] if same else of(np.asarray(ensemble)),
    }


def share_interval(held: np.ndarray, groups: np.ndarray) -> list[float] | None:
    """[low, high] of the share of (N,) cells for which something holds; None of fewer than two groups."""
    if len(np.unique(groups)) < 2:
        return None
    ones = np.ones(len(held), int)
    share = figure_intervals([group_tallies(ones, held.astype(int), groups, 2)])["accuracy"]
    return [share.low, share.high]


def area_interval(scores: np.ndarray, abnormal: np.ndarray, groups: np.ndarray) -> list[float] | None:
    """[low, high] of the area under the ROC curve of (N,) scores between 0 and 1; None as in ``share_interval``."""
    if len(np.unique(groups)) < 2:
        return None
    of_both = np.stack([1 - scores, scores], axis=1)
    area = auc_interval(of_both, abnormal.astype(int), groups, resamples=AUC_RESAMPLES)
    return None if area is None else [area.low, area.high]
