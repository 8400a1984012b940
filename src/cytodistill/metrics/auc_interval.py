"""Intervals of one-vs-rest AUCs and their mean by resampling groups: thousands of resamples for one sort a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.intervals import LEVEL, RESAMPLES, Interval, check_groups, draw_groups
from cytodistill.metrics.standard_error import effective_groups, mostly_defined, share_ends

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
    return auc_intervals(probabilities, labels, groups, resamples=resamples, seed=seed, level=level)[0]


def auc_intervals(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Interval | None, list[Interval | None]]:
    """The interval of `auc_interval`, and those of the C classes that it averages, from the same resamples.

    A class's own is None where it has no cells, no rest, cells of one group only, or no cells in most resamples. Its
    degrees of freedom are those of the groups that hold it, which of a rare class are few.

    Args and Raises: as `auc_interval`.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    names, g = np.unique(np.asarray(groups), return_inverse=True)
    check_groups(len(names))
    classes = [str(code) for code in range(p.shape[1])]
    figures = classification_metrics(p, y, classes)
    each: list[Interval | None] = [None] * len(classes)
    if figures["auc"] is None:
        return None, each
    drawn = draw_groups(len(names), resamples, seed)
    sums, present = np.zeros(resamples), np.zeros(resamples)
    for code in np.unique(y):
        areas = resampled_areas(p[:, code], y == code, g, drawn)
        known = np.isfinite(areas)
        sums[known] += areas[known]
        present += known
        sizes = np.bincount(g[y == code])
        if (sizes > 0).sum() > 1 and mostly_defined(areas):
            value = figures["per_class"][classes[code]]["auc"]
            each[code] = Interval(value, *share_ends(value, areas, effective_groups(sizes), level=level))
    with np.errstate(invalid="ignore"):
        ends = share_ends(figures["auc"], sums / present, effective_groups(np.bincount(g)), level=level)
    return Interval(figures["auc"], *ends), each


def resampled_areas(
    scores: NDArray[np.floating], own: NDArray[np.bool_], groups: NDArray[np.integer], drawn: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(R,) areas under the ROC curve of one class against the rest; NaN where either has no cell in a resample.

    Let A_i be the weight of all cells that score below cell i, ties half. Over the class's own cells Σ w_i A_i counts
    the pairs with the rest and those among themselves, and the latter, cell with itself included, are ½ (Σ w_i)²: of
    each two one is the lower. So the weights of the rest are never singled out, and a resample is one cumulative sum.

    Args:
        scores: (N,) of the class.
        own: (N,) whether a cell is of the class.
        groups: (N,) codes in 0..G-1.
        drawn: (R, G) how often each resample has each group.
    """
    order = np.argsort(scores, kind="stable")
    rising = scores[order]
    below = np.searchsorted(rising, scores[own], side="left")
    upto = np.searchsorted(rising, scores[own], side="right")
    areas = np.empty(len(drawn))
    at_once = max(1, WEIGHTS_AT_ONCE // len(scores))
    for start in range(0, len(drawn), at_once):
        part = slice(start, start + at_once)
        times = np.ascontiguousarray(drawn[part].T, np.int32)
        passed = np.zeros((len(scores) + 1, times.shape[1]), np.int32)
        np.cumsum(np.take(times, groups[order], axis=0), axis=0, out=passed[1:])
        mine = times[groups[own]].astype(np.int64)
        positive = mine.sum(axis=0)
        won = (mine * passed[below] + mine * passed[upto]).sum(axis=0) / 2 - positive.astype(np.float64) ** 2 / 2
        pairs = positive * (passed[-1].astype(np.int64) - positive)
        areas[part] = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return areas
