"""What the abnormal-against-normal view asks of a cell: how probable it is that the cell is abnormal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.errors import CytodistillError
from cytodistill.metrics.checks import checked_rows


def abnormal_score(probabilities: ArrayLike, abnormal: ArrayLike) -> NDArray[np.float64]:
    """(N,) probability that a cell is of any abnormal class: the sum over these, at most 1.

    The labels that go with it are ``abnormal[codes]``. Which classes count as abnormal (and where a benign or
    metaplastic one goes) differs between studies: name the mapping with the figures.

    Args:
        probabilities: (N, C), each row summing to 1 within 0.001.
        abnormal: (C,) bool, True where the class is abnormal.

    Raises:
        CytodistillError: shapes disagree, ``abnormal`` is not bool or has one side only, or the rows are no
            probabilities.

    Example:
        >>> abnormal_score([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]], [False, True, True]).tolist()
        [0.5, 1.0]
    """
    p, which = checked_rows(probabilities, "screening"), np.asarray(abnormal)
    if which.dtype != bool or which.shape != p.shape[1:]:
        raise CytodistillError(
            f"screening: abnormal is {which.dtype} of shape {which.shape}; give one True or False for each of the "
            f"{p.shape[1]} classes"
        )
    if which.all() or not which.any():
        raise CytodistillError("screening: abnormal names all classes or none; name those on one side only")
    # Rows may sum to a little more than 1, and a noisy-or takes no probability above 1.
    return np.minimum(p[:, which].sum(axis=1), 1.0)
