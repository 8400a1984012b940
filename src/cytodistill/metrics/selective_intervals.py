"""Intervals of the figures of `metrics.selective`, groups resampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytodistill.metrics.group_resampling import GroupResampling, quotient, steps
from cytodistill.metrics.intervals import TIE, Interval
from cytodistill.metrics.selective import aurc, coverage_at, e_aurc, failure_auroc


def failure_intervals(
    draws: GroupResampling, doubts: NDArray, right: NDArray, risk: float = 0.05
) -> dict[str, Interval | None]:
    """Of "auroc", "aurc", "e_aurc" and "coverage", the last at this risk; None as `GroupResampling.interval`.

    Within a step of `steps` the order is left open, as among equal doubts. The coverage is that of whole steps.

    Args:
        draws: of the groups of the N cells.
        doubts: (N,) larger is less sure.
        right: (N,) whether each answer is right.
        risk: from 0 to 1.
    """
    step, count = steps(doubts)
    size, bad = draws.sums_by(step, count), draws.sums_by(step, count, (~right).astype(float))
    answered, cells, wrong = np.cumsum(size, axis=1), size.sum(axis=1), bad.sum(axis=1)
    risks = quotient(np.cumsum(bad, axis=1), answered)
    covered = np.where(risks <= risk + TIE, answered, 0).max(axis=1) / cells
    area = _area(size, bad)
    # The best order, all right answers first, is a curve of two steps.
    best = _area(np.stack([cells - wrong, wrong], axis=1), np.stack([np.zeros_like(wrong), wrong], axis=1))
    excess = np.maximum(0, area - best)
    return {
        "auroc": draws.interval(failure_auroc(doubts, right), draws.area(doubts, ~right)),
        "aurc": draws.interval(aurc(doubts, right), area),
        "e_aurc": draws.interval(e_aurc(doubts, right), excess),
        "coverage": draws.interval(coverage_at(doubts, right, risk), covered),
    }


def _area(size: NDArray[np.float64], bad: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) AURC of (R, steps) cells and wrong answers from the least doubt up.

    Of the cells n₀ + 1 … n₁ of a step with a share a of wrong answers, and w₀ wrong ones before it, the risks are
    (w₀ + a (k − n₀))/k, whose sum is a (n₁ − n₀) + (w₀ − a n₀)(H_{n₁} − H_{n₀}).
    """
    upto, wrong = np.cumsum(size, axis=1), np.cumsum(bad, axis=1)
    before, share = upto - size, np.divide(bad, size, out=np.zeros_like(bad), where=size > 0)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(upto[:, -1].max()) + 1))])
    grown = harmonic[upto.astype(np.intp)] - harmonic[before.astype(np.intp)]
    return (share * size + (wrong - bad - share * before) * grown).sum(axis=1) / upto[:, -1]
