"""Risk control: the boldest of several ways to decide whose risk is shown to be small, without assumptions about the
model.

Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei, Learn then Test: Calibrating Predictive Algorithms to
Achieve Risk Control, 2021; Annals of Applied Statistics 19, 2025): each way is a hypothesis "its risk is above α",
tested on cells that did not shape it. The ways stand in an order that was fixed before these cells were looked at, from
cautious to bold, and are tested in that order at level δ until the first that is not rejected (fixed-sequence testing).
With probability at least 1 − δ over the draw of the cells, all that were rejected have a risk of at most α. The
p-values are valid for any number of cells (Bates, Angelopoulos, Lei, Malik & Jordan, Distribution-Free, Risk-
Controlling Prediction Sets, Journal of the ACM 68, 2021, for Hoeffding–Bentkus).

**Cells of one group (field, slide, patient) are alike**, and a p-value that counts them one by one is too small. With
groups the risk is that of a cell drawn from a newly drawn group, a group is one observation, its loss the mean over its
cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from cytodistill.errors import CytodistillError

# n times a mean of n numbers may be off a whole number by rounding, and must not be rounded up for it.
ROUNDING = 1e-9


def risk_p_value(losses: ArrayLike, risk: float, groups: ArrayLike | None = None) -> float:
    """A p-value of "the mean loss is above ``risk``": the chance of losses as small as these if it were.

    Of cells one by one it is the binomial's, P(Bin(n, α) ≤ Σ losses), which is exact. Of n groups that hold several
    cells, whose losses may be any share R_g, it is Hoeffding and Bentkus's: with R their mean,
    min(exp(−n · KL(min(R, α) ‖ α)), e · P(Bin(n, α) ≤ ⌈n R⌉), 1).

    Args:
        losses: (N,) bool, whether a cell counts as a loss.
        risk: α, between 0 and 1.
        groups: (N,) group of each cell; without, cells are taken one by one.

    Raises:
        CytodistillError: there are no cells, the risk is out of bounds, or the groups do not fit.

    Example:
        >>> round(risk_p_value([False] * 299, 0.01), 4), round(risk_p_value([False] * 298, 0.01), 4)
        (0.0495, 0.05)
    """
    _check(risk, "risk")
    lost = np.asarray(losses, dtype=np.float64)
    if lost.ndim != 1 or not len(lost):
        raise CytodistillError(f"risk: losses of shape {lost.shape}; give one for each of at least one cell")
    if groups is not None:
        of = np.unique(np.asarray(groups), return_inverse=True)[1]
        if of.shape != lost.shape:
            raise CytodistillError(f"risk: {len(lost)} losses and {of.size} groups; give the group of each cell")
        sizes = np.bincount(of)
        if sizes.max() > 1:
            return _hoeffding_bentkus(float((np.bincount(of, lost) / sizes).mean()), len(sizes), risk)
    return float(binom.cdf(lost.sum(), len(lost), risk))


def least_observations(risk: float, confidence: float) -> int:
    """Fewest cells (or groups) that can show a risk, not one of them with a loss: ⌈ln δ / ln(1 − α)⌉.

    Example:
        >>> least_observations(0.01, 0.95), least_observations(0.05, 0.95)
        (299, 59)
    """
    _check(risk, "risk")
    _check(confidence, "confidence")
    return math.ceil(math.log(1 - confidence) / math.log1p(-risk))


def fixed_sequence(p_values: Iterable[float], confidence: float) -> int:
    """How many hypotheses are rejected: those before the first p-value above δ = 1 − confidence; later ones are not
    looked at."""
    _check(confidence, "confidence")
    rejected = 0
    for p_value in p_values:
        if p_value > 1 - confidence:
            break
        rejected += 1
    return rejected


def _hoeffding_bentkus(mean: float, count: int, risk: float) -> float:
    if mean >= risk:
        return 1.0
    divergence = (1 - mean) * math.log((1 - mean) / (1 - risk)) + (mean * math.log(mean / risk) if mean else 0.0)
    bentkus = math.e * float(binom.cdf(math.ceil(count * mean - ROUNDING), count, risk))
    return min(math.exp(-count * divergence), bentkus, 1.0)


def _check(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise CytodistillError(f"{name} {value:g}: give a number between 0 and 1")
