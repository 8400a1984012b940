"""Intervals of figures that are made of sums over cells, by resampling groups: one matrix product for all of them.

What `metrics.intervals` does for the counted figures is done here, by the same method and the same draws, for whatever
a report tells beside them: every column is summed over the cells of each group, and a resample's sums are those of the
groups that it drew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytodistill.metrics.intervals import ENDS, LEVEL, RESAMPLES, Interval, Scale, draw_groups
from cytodistill.metrics.standard_error import effective_groups, mostly_defined

FEWEST = 200
MOST_DRAWN = 40_000_000
"""Groups times resamples that are held; with more groups there are fewer resamples."""
MOST_PRODUCTS = 2_000_000_000
"""Groups times resamples times columns that are multiplied; with more columns there are fewer resamples."""
AT_ONCE = 2_000_000
"""Of these, how many are multiplied at a time."""
STEPS = 400
"""Steps that the scores of a curve are ranked into."""

Sums = NDArray[np.float64]
Mask = NDArray[np.bool_]


class GroupResampling:
    """Resamples the groups of N cells, the same draws for every figure; ``of`` has the (N,) code of each cell's group.

    Args:
        groups: (N,) group of each cell.
        resamples: how many, fewer where there are very many groups.
    """

    def __init__(self, groups: NDArray, resamples: int = RESAMPLES) -> None:
        names, self.of = np.unique(groups, return_inverse=True)
        self.groups = len(names)
        self._sizes = np.bincount(self.of)
        held = max(FEWEST, MOST_DRAWN // self.groups)
        self._counts = draw_groups(self.groups, min(resamples, held)).astype(np.uint16)
        self._cells = self._counts.astype(float) @ self._sizes

    def sums(self, columns: NDArray) -> Sums:
        """(N, K) columns → (R, K) sums over the cells of each resample."""
        of_groups = [np.bincount(self.of, column, self.groups) for column in columns.T]
        return self._drawn(np.stack(of_groups, axis=1))

    def sums_by(self, codes: NDArray[np.integer], count: int, weights: NDArray | None = None) -> Sums:
        """(R, count) sums of the weights (1 by default) of the cells of each code."""
        return self._drawn(self._by(codes, count, weights))

    def mean(self, values: NDArray, cells: Mask | None = None, scale: Scale = "share") -> Interval | None:
        """Interval of the mean of (N,) values over the ``cells``, all by default; None as in ``interval``."""
        chosen = np.ones(len(values), bool) if cells is None else cells
        if not chosen.any():
            return None
        drawn = self.sums(np.stack([np.where(chosen, values, 0), chosen], axis=1).astype(float))
        return self.interval(float(values[chosen].mean()), quotient(drawn[:, 0], drawn[:, 1]), chosen, scale)

    def means_by(
        self, codes: NDArray[np.integer], count: int, values: NDArray, scale: Scale = "share"
    ) -> list[Interval | None]:
        """``mean`` over the cells of each of ``count`` codes."""
        drawn = quotient(self.sums_by(codes, count, values.astype(float)), self.sums_by(codes, count))
        found: list[Interval | None] = []
        for code in range(count):
            own = codes == code
            value = float(values[own].mean()) if own.any() else None
            found.append(self.interval(value, drawn[:, code], own, scale))
        return found

    def mean_of_groups(self, values: NDArray) -> Interval | None:
        """Interval of the mean over groups of each group's mean of (N,) shares: a group counts once, however large."""
        means = np.bincount(self.of, values) / self._sizes
        if self.groups < 2:
            return None
        drawn = self._drawn(means[:, None])[:, 0] / self.groups
        return Interval(float(means.mean()), *ENDS["share"](float(means.mean()), drawn, float(self.groups)))

    def area(self, scores: NDArray, own: Mask) -> NDArray[np.float64]:
        """(R,) areas under the ROC curve of the scores of the cells that are ``own`` against the rest; within a step of
        ``steps`` no order counts, as among equal scores."""
        mine, rest = self._steps_of(scores, own)
        below = np.cumsum(rest, axis=1) - rest
        return quotient((mine * (below + rest / 2)).sum(axis=1), mine.sum(axis=1) * rest.sum(axis=1))

    def average_precision(self, scores: NDArray, own: Mask) -> NDArray[np.float64]:
        """(R,) average precisions, Σ over steps from the top of the gain in recall times the precision there."""
        mine, rest = self._steps_of(scores, own)
        found, alarms = _from_the_top(mine), _from_the_top(rest)
        gain = quotient(mine, mine.sum(axis=1, keepdims=True))
        return (gain * np.nan_to_num(quotient(found, found + alarms))).sum(axis=1) + 0 * gain[:, 0]

    def best_rate(self, scores: NDArray, own: Mask, of_rest: float) -> NDArray[np.float64]:
        """(R,) the largest share of the ``own`` cells at or above a step for which at least ``of_rest`` of the others
        are below it: the sensitivity at a specificity."""
        mine, rest = self._steps_of(scores, own)
        found = quotient(_from_the_top(mine), mine.sum(axis=1, keepdims=True))
        spared = 1 - quotient(_from_the_top(rest), rest.sum(axis=1, keepdims=True))
        reached = np.where(spared >= of_rest - 1e-12, found, 0).max(axis=1)
        return np.where(np.isnan(found[:, 0]) | np.isnan(spared[:, 0]), np.nan, reached)

    def error_if_calibrated(self, codes: NDArray[np.integer], count: int, residuals: NDArray) -> float | None:
        """The upper end, 95 times of 100, of Σ over codes of |Σ residuals| / N where each code's residuals are 0 in
        expectation: what a calibration error is of probabilities that are right. None of one group.

        The ECE is a sum of absolute values. It is above 0 for perfect probabilities, a resample has chance on top of
        chance, and no interval from resamples holds the truth both where that is 0 and where it is large
        (``benchmarks/interval_coverage.py``). Here the bins' sums are centred, so that only the chance is left, that of
        whole groups: labels drawn anew cell by cell from the probabilities would take cells of a field for unlike.

        Args:
            codes: (N,) or (N, K) bin of each cell, all K in one numbering.
            count: how many bins there are.
            residuals: of the shape of ``codes``, what came true less what was said.
        """
        if self.groups < 2:
            return None
        of = self.of if codes.ndim == 1 else np.broadcast_to(self.of[:, None], codes.shape)
        flat = np.bincount((of * count + codes).ravel(), residuals.ravel().astype(float), self.groups * count)
        of_groups = flat.reshape(self.groups, count).astype(float)
        drawn = self._drawn(of_groups)
        share = self._cells[: len(drawn), None] / len(self.of)
        chance = np.abs(drawn - share * of_groups.sum(axis=0)).sum(axis=1) / len(self.of)
        groups = effective_groups(self._sizes)
        return float(np.quantile(chance, LEVEL) * np.sqrt(groups / (groups - 1)))

    def interval(
        self, value: float | None, drawn: NDArray[np.float64], cells: Mask | None = None, scale: Scale = "share"
    ) -> Interval | None:
        """Interval of a figure of the ``cells`` (all by default) from its (R,) resamples. None where the figure is
        undefined, in most resamples too, or where its cells are of one group, of which nothing can be resampled."""
        sizes = self._sizes if cells is None else np.bincount(self.of[cells])
        if value is None or (sizes > 0).sum() < 2 or not mostly_defined(drawn):
            return None
        return Interval(value, *ENDS[scale](value, drawn, effective_groups(sizes)))

    def _by(self, codes: NDArray[np.integer], count: int, weights: NDArray | None = None) -> Sums:
        flat = np.bincount(self.of * count + codes, weights, self.groups * count)
        return flat.reshape(self.groups, count).astype(float)

    def _steps_of(self, scores: NDArray, own: Mask) -> tuple[Sums, Sums]:
        """(R, steps) cells that are ``own`` and others, by the steps of their scores from low to high."""
        codes, count = steps(scores)
        drawn = self._drawn(np.concatenate([self._by(codes, count, own), self._by(codes, count, ~own)], axis=1))
        return drawn[:, :count], drawn[:, count:]

    def _drawn(self, of_groups: Sums) -> Sums:
        step = max(1, AT_ONCE // self.groups)
        most = max(FEWEST, MOST_PRODUCTS // max(1, of_groups.size))
        counts = self._counts[:most]
        pieces = np.split(counts, range(step, len(counts), step))
        return np.concatenate([piece.astype(float) @ of_groups for piece in pieces])


def steps(scores: NDArray) -> tuple[NDArray[np.intp], int]:
    """(N,) ranks of scores, from low to high, in at most ``STEPS`` + 1 steps, and how many steps there are. Equal
    scores share one; so do neighbours where there are more scores than steps."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, STEPS + 1)) if len(scores) > STEPS else scores)
    return np.searchsorted(edges, scores), len(edges) + 1


def quotient(above: NDArray, below: NDArray) -> NDArray[np.float64]:
    """Elementwise quotient, NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)


def ends(of: Interval | None) -> list[float] | None:
    """[low, high] as metrics.json has an interval."""
    return None if of is None else [of.low, of.high]


def _from_the_top(counts: Sums) -> Sums:
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
