"""What every figure asks of its probabilities, scores and labels before it is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.errors import CytodistillError
from cytodistill.metrics.classification import SUM_TOLERANCE


def checked_rows(probabilities: ArrayLike, name: str, dimensions: int = 2) -> NDArray[np.float64]:
    """Probabilities of shape (N, …, C) as floats, whose last axis sums to 1 within 0.001.

    Args:
        probabilities: the array.
        name: what the error begins with.
        dimensions: number of its axes.

    Raises:
        CytodistillError: the shape is another, there are no cells, or a cell's values are not finite or not normalised.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != dimensions or not p.size:
        wanted = "(cells, classes)" if dimensions == 2 else "(cells, exits, classes)"
        raise CytodistillError(f"{name}: probabilities have shape {p.shape}; give {wanted}, with at least one of each")
    # NaN fails every comparison, so it counts as wrong here.
    right = (np.abs(p.sum(axis=-1) - 1) <= SUM_TOLERANCE) & (p >= 0).all(axis=-1)
    if not right.all():
        cell = int(np.argwhere(~right)[0, 0])
        raise CytodistillError(
            f"{name}: the probabilities of cell {cell} are not at least 0 with sum 1; apply softmax to logits"
        )
    return p


def truth_values(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """(N,) booleans, or the numbers 0 and 1, as booleans.

    Raises:
        CytodistillError: they are of another kind or shape, or there are none.
    """
    found = np.asarray(values)
    if found.ndim != 1 or not len(found):
        raise CytodistillError(f"{name} have shape {found.shape}; give one for each cell, and at least one cell")
    if found.dtype.kind not in "biu" or found.min() < 0 or found.max() > 1:
        raise CytodistillError(f"{name} are not all True or False (1 or 0); give one truth value for each cell")
    return found.astype(bool)


def finite_scores(scores: ArrayLike) -> NDArray[np.float64]:
    """(N,) scores as floats.

    Raises:
        CytodistillError: they are not (N,), or one is not finite.
    """
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 1 or not np.isfinite(s).all():
        raise CytodistillError(f"screening: scores of shape {s.shape} are not one finite number for each cell")
    return s


def checked_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N,) scores and (N,) labels as booleans, of which both are there.

    Raises:
        CytodistillError: shapes disagree, a value is of another kind, or all labels are the same.
    """
    s, y = finite_scores(scores), truth_values(labels, "screening: labels")
    if s.shape != y.shape:
        raise CytodistillError(f"screening: {len(s)} scores and {len(y)} labels do not fit; give one of each a cell")
    if y.all() or not y.any():
        raise CytodistillError(
            f"screening: all {len(y)} are {'abnormal' if y.all() else 'normal'}; sensitivity and specificity need both"
        )
    return s, y


def check_target(name: str, target: float) -> None:
    """Raises CytodistillError where a sensitivity or specificity that is asked for is not above 0 and at most 1."""
    if not 0 < target <= 1:
        raise CytodistillError(f"screening: {name} {target} is outside 0 to 1; 0.95 is usual")
