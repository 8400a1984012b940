"""Intervals of figures that are made of sums over cells, by resampling groups: one matrix product for all of them.

What `metrics.intervals` does for the counted figures is done here, by the same method, for whatever a page shows beside
them: every column is summed over the cells of each group, and a resample's sums are those of the groups that it drew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytodistill.metrics.intervals import RESAMPLES, Interval, Scale, draw_groups
from cytodistill.metrics.standard_error import effective_groups, mostly_defined, plain_ends, share_ends

FEWEST = 200
MOST_DRAWN = 40_000_000
"""Groups times resamples that are held; with more groups there are fewer resamples."""
AT_ONCE = 2_000_000
"""Of these, how many are multiplied at a time."""
STEPS = 400
"""Steps that the scores of a curve are ranked into."""

Sums = NDArray[np.float64]
Mask = NDArray[np.bool_]


class GroupResampling:
    """Resamples the groups of N cells, the same draws for every figure.

    Args:
        groups: (N,) group of each cell.
    """

    def __init__(self, groups: NDArray) -> None:
        names, self._of = np.unique(groups, return_inverse=True)
        self.groups = len(names)
        resamples = max(FEWEST, min(RESAMPLES, MOST_DRAWN // self.groups))
        self._counts = draw_groups(self.groups, resamples).astype(np.uint16)

    def sums(self, columns: NDArray) -> Sums:
        """(N, K) columns → (R, K) sums over the cells of each resample."""
        of_groups = np.zeros((self.groups, columns.shape[1]))
        np.add.at(of_groups, self._of, columns)
        return self._drawn(of_groups)

    def sums_by(self, codes: NDArray[np.integer], count: int, weights: NDArray | None = None) -> Sums:
        """(R, count) sums of the weights (1 by default) of the cells of each code."""
        flat = np.bincount(self._of * count + codes, weights, self.groups * count)
        return self._drawn(flat.reshape(self.groups, count).astype(float))

    def mean(self, values: NDArray, cells: Mask | None = None, scale: Scale = "share") -> Interval | None:
        """Interval of the mean of (N,) values over the ``cells``, all by default; None as in ``interval``."""
        chosen = np.ones(len(values), bool) if cells is None else cells
        if not chosen.any():
            return None
        drawn = self.sums(np.stack([np.where(chosen, values, 0), chosen], axis=1).astype(float))
        return self.interval(float(values[chosen].mean()), quotient(drawn[:, 0], drawn[:, 1]), chosen, scale)

    def area(self, scores: NDArray, own: Mask) -> NDArray[np.float64]:
        """(R,) areas under the ROC curve of the scores of the cells that are ``own`` against the rest; within a step of
        ``steps`` no order counts, as among equal scores."""
        codes, count = steps(scores)
        mine, rest = (self.sums_by(codes, count, chosen.astype(float)) for chosen in (own, ~own))
        below = np.cumsum(rest, axis=1) - rest
        return quotient((mine * (below + rest / 2)).sum(axis=1), mine.sum(axis=1) * rest.sum(axis=1))

    def interval(
        self, value: float | None, drawn: NDArray[np.float64], cells: Mask | None = None, scale: Scale = "share"
    ) -> Interval | None:
        """Interval of a figure of the ``cells`` (all by default) from its (R,) resamples. None where the figure is
        undefined, in most resamples too, or where its cells are of one group, of which nothing can be resampled."""
        sizes = np.bincount(self._of if cells is None else self._of[cells])
        if value is None or (sizes > 0).sum() < 2 or not mostly_defined(drawn):
            return None
        ends = share_ends if scale == "share" else plain_ends
        return Interval(value, *ends(value, drawn, effective_groups(sizes)))

    def _drawn(self, of_groups: Sums) -> Sums:
        step = max(1, AT_ONCE // self.groups)
        pieces = np.split(self._counts, range(step, len(self._counts), step))
        return np.concatenate([piece.astype(float) @ of_groups for piece in pieces])


def steps(scores: NDArray) -> tuple[NDArray[np.intp], int]:
    """(N,) ranks of scores, from low to high, in at most ``STEPS`` + 1 steps, and how many steps there are. Equal
    scores share one; so do neighbours where there are more scores than steps."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, STEPS + 1)) if len(scores) > STEPS else scores)
    return np.searchsorted(edges, scores), len(edges) + 1


def quotient(above: NDArray, below: NDArray) -> NDArray[np.float64]:
    """Elementwise quotient, NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)
