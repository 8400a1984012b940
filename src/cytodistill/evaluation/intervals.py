"""Intervals of the report's figures: groups of the test cells resampled, for every exit and the ensemble."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cytodistill.metrics.auc_interval import auc_interval
from cytodistill.metrics.intervals import LEVEL, RESAMPLES, figure_intervals, group_tallies

AUC_RESAMPLES = 1000
"""Fewer than for the counted figures: every resample goes through all cells."""


def report_intervals(
    exit_probabilities: ArrayLike, ensemble: ArrayLike, labels: ArrayLike, groups: ArrayLike
) -> dict[str, Any] | None:
    """{"level", "resamples", "exits", "ensemble"}, the last two with {figure: [low, high]} for each figure that has an
    interval; None where the cells are of one group, of which nothing can be resampled.

    Args:
        exit_probabilities: (N, E, C).
        ensemble: (N, C).
        labels: (N,) codes.
        groups: (N,) group of each cell.
    """
    exits, y, g = np.asarray(exit_probabilities), np.asarray(labels), np.asarray(groups)
    if len(np.unique(g)) < 2:
        return None

    def of(probabilities: np.ndarray) -> dict[str, list[float]]:
        tallies = group_tallies(y, probabilities.argmax(1), g, probabilities.shape[1])
        found = dict(figure_intervals([tallies]))
        if area := auc_interval(probabilities, y, g, resamples=AUC_RESAMPLES):
            found["auc"] = area
        return {name: [interval.low, interval.high] for name, interval in found.items()}

    return {
        "level": LEVEL,
        "resamples": RESAMPLES,
        "exits": [of(exits[:, exit]) for exit in range(exits.shape[1])],
        "ensemble": of(np.asarray(ensemble)),
    }
