"""Interval of the macro one-vs-rest AUC by resampling groups: thousands of resamples for one sort a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.intervals import LEVEL, RESAMPLES, Interval, check_groups, draw_groups
from cytodistill.metrics.standard_error import effective_groups, share_ends

WEIGHTS_AT_ONCE = 4_000_000
"""Cells times resamples whose weights are held at a time."""


def auc_interval(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval | None:
    """Interval of the AUC of `classification_metrics`, whole groups resampled.

    A cell that is drawn w times counts w times: the AUC of a class is Σ w_i w_j [p_i > p_j, ties ½] over its cells i
    and the other cells j, over Σ w_i Σ w_j. With the cells sorted once, every resample is a weighted cumulative sum.

    Args:
        probabilities: (N, C), each row summing to 1.
        labels: (N,) codes.
        groups: (N,) group of each cell.
        resamples: how many; the same draws as in the other intervals of this seed.
        seed: of the draw.
        level: of the interval.

    Returns:
        The interval, or None where one class alone has cells.

    Raises:
        CytodistillError: fewer than two groups, or the AUC is undefined in most resamples.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    names, g = np.unique(np.asarray(groups), return_inverse=True)
    check_groups(len(names))
    value = classification_metrics(p, y, [str(code) for code in range(p.shape[1])])["auc"]
    if value is None:
        return None
    drawn = draw_groups(len(names), resamples, seed)
    at_once = max(1, WEIGHTS_AT_ONCE // len(y))
    sums, present = np.zeros(resamples), np.zeros(resamples)
    for code in np.unique(y):
        order = np.argsort(p[:, code], kind="stable")
        scores = p[order, code]
        own = y[order] == code
        # First cell of each run of equal scores.
        starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
        for start in range(0, resamples, at_once):
            part = slice(start, start + at_once)
            areas = _areas(drawn[part][:, g[order]].astype(np.float64), own, starts)
            known = np.isfinite(areas)
            sums[part] += np.where(known, areas, 0)
            present[part] += known
    with np.errstate(invalid="ignore"):
        return Interval(value, *share_ends(value, sums / present, effective_groups(np.bincount(g)), level=level))


def _areas(weights: NDArray[np.float64], own: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """(R,) areas from the (R, N) weights of cells sorted by score; NaN where a class or its rest has no weight."""
    positive = np.add.reduceat(weights * own, starts, axis=1)
    negative = np.add.reduceat(weights * ~own, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * (below + 0.5 * negative)).sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
