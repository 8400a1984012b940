"""One score, one label and one decision for a field, slide or patient from those of its cells."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.errors import CytodistillError
from cytodistill.metrics.checks import finite_scores, truth_values
from cytodistill.metrics.operating_point import OperatingPoint, choose_operating_point

AGGREGATED = (("max", "max", None), ("top-3-mean", "top_k_mean", 3), ("noisy-or", "noisy_or", None))
"""Scores of a group that are told and decided by: their name, and ``how`` and ``k`` of `aggregate`."""
SENSITIVITIES = (0.95,)
SPECIFICITIES = (0.9,)
"""Of groups, at which thresholds are chosen."""
FEW = 5
"""Groups of a kind below which a share of them says next to nothing."""


@dataclass(frozen=True)
class GroupPoint:
    """An operating point of whole groups: how a group's score is made of its cells', the threshold, and how many of the
    ``point.n`` groups that chose it were ``normal``."""

    how: str
    k: int | None
    point: OperatingPoint
    normal: int

    @property
    def name(self) -> str:
        """Of the point, such as "max-sensitivity-0.95"."""
        return self.point.name


def aggregate(
    scores: ArrayLike, groups: ArrayLike, how: str = "max", k: int | None = None
) -> tuple[NDArray, NDArray[np.float64]]:
    """One score a group (field, slide, patient) from the scores of its cells.

    - ``"max"``: the most abnormal cell. One wrong cell is enough for a false alarm.
    - ``"top_k_mean"``: the mean of the k highest cells, or of all where the group has fewer.
    - ``"noisy_or"``: 1 − Π (1 − s), the chance that at least one cell is abnormal if cells were independent (Pearl,
      Probabilistic Reasoning in Intelligent Systems, 1988). They are not, and it rises with the number of cells: its
      threshold holds only for groups of about the size that chose it. Taken as −expm1(Σ log1p(−s)), so that small
      scores are not lost beside 1.

    Args:
        scores: (N,) finite; for the noisy-or from 0 to 1.
        groups: (N,) group of each cell.
        how: one of the three.
        k: number of cells, at least 1; for ``"top_k_mean"`` and no other.

    Returns:
        (G,) names of the groups, sorted, and (G,) their scores.

    Raises:
        CytodistillError: shapes disagree, a score is out of bounds, or ``how`` and ``k`` do not fit.

    Example:
        >>> names, found = aggregate([0.5, 0.5, 0.2], ["a", "a", "b"], "noisy_or")
        >>> names.tolist(), found.round(6).tolist()
        (['a', 'b'], [0.75, 0.2])
    """
    if how not in AGGREGATES:
        raise CytodistillError(f"aggregate: how={how!r} is unknown; give one of {', '.join(AGGREGATES)}")
    fits = k is None if how != "top_k_mean" else isinstance(k, int | np.integer) and k >= 1
    if not fits:
        raise CytodistillError(
            f"aggregate: k={k} does not fit how={how}; give a whole k of at least 1 to top_k_mean only"
        )
    s = finite_scores(scores)
    names, g = _grouped(groups, len(s))
    # Cells by group, and in each from the highest score down.
    order = np.lexsort((-s, g))
    starts = np.concatenate([[0], np.cumsum(np.bincount(g))[:-1]])
    return names, AGGREGATES[how](s[order], g[order], starts, k)


def group_labels(labels: ArrayLike, groups: ArrayLike) -> tuple[NDArray, NDArray[np.bool_]]:
    """A group is abnormal where any of its cells is.

    Args:
        labels: (N,) bool (or 0 and 1), True where the cell is abnormal.
        groups: (N,) group of each cell.

    Returns:
        (G,) names of the groups, sorted as by `aggregate`, and (G,) True where abnormal.

    Raises:
        CytodistillError: shapes disagree, there are no cells, or labels are no truth values.
    """
    y = truth_values(labels, "screening: labels")
    names, g = _grouped(groups, len(y))
    return names, np.bincount(g, weights=y) > 0


def choose_group_points(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> tuple[GroupPoint, ...]:
    """For every score of a group, the thresholds that find 95 % of the abnormal groups and that leave 90 % of the
    normal ones alone, named as in "max-sensitivity-0.95" and "noisy-or-specificity-0.9".

    None where all groups are abnormal, or none is; a specificity that is reached only where no abnormal group is found
    has no point.

    Args:
        scores: (N,) of the cells of validation groups, from 0 to 1.
        labels: (N,) True where a cell is abnormal.
        groups: (N,) group of each cell.

    Raises:
        CytodistillError: as `aggregate` and `group_labels`.
    """
    truth = group_labels(labels, groups)[1]
    if truth.all() or not truth.any():
        return ()
    found: list[GroupPoint] = []
    for name, how, k in AGGREGATED:
        of_groups = aggregate(scores, groups, how, k)[1]
        points = [
            choose_operating_point(of_groups, truth, sensitivity=wanted, name=f"{name}-sensitivity-{wanted:g}")
            for wanted in SENSITIVITIES
        ]
        for wanted in SPECIFICITIES:
            with suppress(CytodistillError):  # where it is reached only with no abnormal group found
                points.append(
                    choose_operating_point(of_groups, truth, specificity=wanted, name=f"{name}-specificity-{wanted:g}")
                )
        found += [GroupPoint(how, k, point, int((~truth).sum())) for point in points]
    return tuple(found)


def _max(s: NDArray, g: NDArray, starts: NDArray, k: int | None) -> NDArray[np.float64]:
    return s[starts]


def _top_k_mean(s: NDArray, g: NDArray, starts: NDArray, k: int | None) -> NDArray[np.float64]:
    assert k is not None
    top = np.arange(len(s)) - starts[g] < k
    return np.bincount(g[top], weights=s[top]) / np.bincount(g[top])


def _noisy_or(s: NDArray, g: NDArray, starts: NDArray, k: int | None) -> NDArray[np.float64]:
    if s.min() < 0 or s.max() > 1:
        raise CytodistillError("aggregate: a noisy-or takes probabilities, and scores are outside 0 to 1; take max")
    # A score of 1 has the logarithm −∞, and its group the score 1.
    with np.errstate(divide="ignore"):
        return -np.expm1(np.bincount(g, weights=np.log1p(-s)))


AGGREGATES: dict[str, Callable[[NDArray, NDArray, NDArray, int | None], NDArray[np.float64]]] = {
    "max": _max,
    "top_k_mean": _top_k_mean,
    "noisy_or": _noisy_or,
}


def _grouped(groups: ArrayLike, cells: int) -> tuple[NDArray, NDArray[np.int64]]:
    found = np.asarray(groups)
    if found.shape != (cells,) or not cells:
        raise CytodistillError(
            f"screening: groups of shape {found.shape} do not fit {cells} cells; give one for each of at least one cell"
        )
    names, g = np.unique(found, return_inverse=True)
    return names, g
