"""Interval ends from a bootstrap's spread and Student's t.

Percentiles of the resamples are the usual ends, and too narrow here: with 60 groups of uneven sizes they hold the truth
90 to 94 times of 100. A resample's spread is that of G groups about their own mean, which is √((G − 1)/G) of the spread
asked for; the spread is itself known from G groups only; and near 1 a figure's errors are skewed to one side. So

- the standard error is widened by √(G/(G − 1)) and the ends are t quantiles with G − 1 degrees of freedom (Hesterberg,
  What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015, sections 3 and 4);
- a share is taken on the scale of its logit, on which its errors are near to even and no end leaves 0 to 1;
- G is the effective number of groups, (Σ n)²/Σ n² of their sizes n (Kish, Survey Sampling, 1965; Carter, Schnepel &
  Steigerwald, Review of Economics and Statistics 99, 2017): a few large fields among many small ones are few;
- over several seeds the degrees are groups less seeds, as in surveys that draw within strata (Korn & Graubard, Analysis
  of Health Surveys, 1999).

``benchmarks/interval_coverage.py`` measures what comes of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t

from cytodistill.errors import CytodistillError

# Two figures that are the same fraction by different sums differ by rounding alone: that is a tie.
TIE = 1e-12


def effective_groups(sizes: NDArray[np.integer]) -> float:
    """(Σ n)²/Σ n² of the groups' sizes n: their number where all are alike, fewer where a few hold most cells, and at
    least 2, below which there are no degrees of freedom.

    Example:
        >>> effective_groups(np.array([10, 10, 10])), round(effective_groups(np.array([28, 1, 1, 1, 1])), 2)
        (3.0, 2.0)
    """
    n = np.asarray(sizes, np.float64)
    return max(2.0, float(n.sum() ** 2 / (n**2).sum()))


def share_ends(
    value: float, drawn: NDArray[np.float64], groups: float, strata: int = 1, level: float = 0.95
) -> tuple[float, float]:
    """Ends of the interval of a figure between 0 and 1: logit(value) ± t · s, taken back.

    s is the standard deviation of the resamples' logits. A resample that reaches 0 or 1 has no logit, and is set half
    as far from that end as the nearest one that does not reach it.

    Where the figure and all its resamples are 1 there is no spread to go by, and no proof that nothing ever goes wrong:
    the lower end is then (α/2)^(1/G), Clopper and Pearson's for G groups without a fault (Biometrika 26, 1934); at 0
    the upper end mirrors it. That holds however alike the cells of a group are.

    Args:
        value: the figure of all cells.
        drawn: (R,) the figure of each resample, NaN where it is undefined.
        groups: how many were drawn from, over all strata, by `effective_groups` where their sizes differ.
        strata: seeds, or other sets within which groups were drawn.
        level: of the interval, between 0 and 1.

    Raises:
        CytodistillError: most resamples leave the figure undefined, or it is outside 0 to 1.

    Example:
        >>> low, high = share_ends(0.9, np.array([0.85, 0.9, 0.95]), groups=30)
        >>> round(low, 3), round(high, 3)
        (0.717, 0.97)
    """
    known = np.append(defined(drawn), value)
    if known.min() < -TIE or known.max() > 1 + TIE:
        raise CytodistillError(
            f"intervals: a figure of {known[np.abs(known - 0.5).argmax()]:.6g} is outside 0 to 1; use scale='plain'"
        )
    between = known[(known > TIE) & (known < 1 - TIE)]
    if not len(between):
        return _ends_without_spread(known, groups / strata, level)
    margin = np.minimum(between, 1 - between).min() / 2
    logits = logit(np.clip(known, margin, 1 - margin))
    reach = _reach(logits[:-1], groups, strata, level)
    return min(float(expit(logits[-1] - reach)), value), max(float(expit(logits[-1] + reach)), value)


def plain_ends(
    value: float, drawn: NDArray[np.float64], groups: float, strata: int = 1, level: float = 0.95
) -> tuple[float, float]:
    """Ends of the interval of a difference, or of any figure without bounds: value ± t · s, s the standard deviation of
    the resamples.

    Args and Raises: as `share_ends`; any value will do.
    """
    reach = _reach(defined(drawn), groups, strata, level)
    return value - reach, value + reach


def positive_ends(
    value: float, drawn: NDArray[np.float64], groups: float, strata: int = 1, level: float = 0.95
) -> tuple[float, float]:
    """Ends of the interval of a figure that is never below 0 and has no upper bound, a mean loss: value · exp(±t · s),
    s the standard deviation of the resamples' logarithms. A few very wrong cells make such a mean skewed to the right.

    A resample of 0 is set to half of the least that is above it; where there is none both ends are the figure.

    Args and Raises: as `share_ends`; the figure may be above 1.
    """
    known = np.append(defined(drawn), value)
    if known.min() < 0:
        raise CytodistillError(f"intervals: a figure of {known.min():.6g} is below 0; use scale='plain'")
    above = known[known > 0]
    if not len(above):
        return value, value
    logs = np.log(np.maximum(known, above.min() / 2))
    reach = _reach(logs[:-1], groups, strata, level)
    return min(float(np.exp(logs[-1] - reach)), value), max(float(np.exp(logs[-1] + reach)), value)


def p_of_no_difference(value: float, drawn: NDArray[np.float64], groups: float, strata: int = 1) -> float:
    """Two-sided p-value that goes with `plain_ends`: below 0.05 where the interval of 95 % leaves 0 out.

    At least 2/(R + 1), which is as fine as R resamples tell; 1 where the difference is 0.
    """
    known = defined(drawn)
    error = _standard_error(known, groups, strata)
    if abs(value) < TIE:
        return 1.0
    tail = 2 * float(t.sf(abs(value) / error, groups - strata)) if error > TIE else 0.0
    return min(1.0, max(tail, 2 / (len(known) + 1)))


def defined(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """The resamples that define the figure.

    Raises:
        CytodistillError: they are less than half.
    """
    known = drawn[np.isfinite(drawn)]
    if not mostly_defined(drawn):
        raise CytodistillError(
            f"intervals: the figure is undefined for {len(drawn) - len(known)} of {len(drawn)} resamples; there are "
            "too few groups of some class for an interval"
        )
    return known


def mostly_defined(drawn: NDArray[np.float64]) -> bool:
    """Whether at least half of the resamples define the figure."""
    return 2 * int(np.isfinite(drawn).sum()) >= len(drawn)


def _standard_error(known: NDArray[np.float64], groups: float, strata: int) -> float:
    if groups <= strata:
        raise CytodistillError(f"intervals: {groups:g} groups in {strata} sets; an interval needs two groups in each")
    return float(known.std(ddof=1) * np.sqrt(groups / (groups - strata)))


def _reach(known: NDArray[np.float64], groups: float, strata: int, level: float) -> float:
    return float(t.ppf((1 + level) / 2, groups - strata)) * _standard_error(known, groups, strata)


def _ends_without_spread(known: NDArray[np.float64], groups: float, level: float) -> tuple[float, float]:
    far = float(((1 - level) / 2) ** (1 / groups))
    return (far if known.min() > 0.5 else 0.0), (1 - far if known.max() < 0.5 else 1.0)
