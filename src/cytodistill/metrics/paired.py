"""Tests of two models on the same cells, or over the same folds, and the correction for several tests at once.

Which one: `grouped_mcnemar` where cells come in fields, clusters or patients, which is nearly always; `mcnemar` where
each cell stands alone; `nadeau_bengio` for the folds of a cross-validation, whose training cells overlap. Intervals of
a difference are in `cytodistill.metrics.intervals`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from cytodistill.errors import CytodistillError
from cytodistill.metrics.checks import truth_values
from cytodistill.metrics.intervals import LEVEL, TIE, Difference

FEWEST_DISCORDANT = 25
"""Cells that one model alone has right, below which the chi-square is too rough and the binomial is exact and cheap."""
EXACT_GROUPS = 1000
"""Groups up to which all sign flips are counted; above, the smallest p would leave the range of floats."""
PERMUTATIONS = 10_000
FEWEST_PERMUTATIONS = 100
# Numbers held at a time while drawing signs.
DRAWN_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class McNemar:
    """Cells that only the one and only the other model has right, and the two-sided p-value of no difference.

    ``statistic`` is the chi-square with one degree of freedom, None where the test was exact.
    """

    only_a: int
    only_b: int
    statistic: float | None
    p: float


@dataclass(frozen=True)
class GroupedMcNemar:
    """``difference`` of the accuracies, first − second, and the two-sided p-value of none, groups flipped as a whole.

    ``differing`` of the ``groups`` have more right answers by one of the models; only these bear on p, which cannot be
    below 2^(1 − differing). ``exact``: all flips were counted and none drawn.
    """

    difference: float
    groups: int
    differing: int
    exact: bool
    p: float


@dataclass(frozen=True)
class CorrectedT(Difference):
    """The mean difference over the folds, its interval and p-value, with t and its degrees of freedom."""

    t: float
    degrees: int


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike, exact: bool | None = None) -> McNemar:
    """McNemar's test that two models are right equally often (McNemar, Psychometrika 12, 1947).

    With b cells that only the first has right and c that only the second has: exact, 2 · P(X ≤ min(b, c)), at most 1,
    with X binomial (b + c, ½); else the chi-square (|b − c| − 1)² / (b + c) with one degree of freedom and Edwards'
    continuity correction (Psychometrika 13, 1948), 0 where b = c. No discordant cell: p = 1.

    It takes cells for independent. Cells of one field are not, and p is then too small: take `grouped_mcnemar`.

    Args:
        correct_a: (N,) bool (or 0 and 1), True where the first model is right.
        correct_b: (N,) the same of the second, cell by cell.
        exact: by default below 25 discordant cells.

    Raises:
        CytodistillError: shapes disagree, there are no cells, or values are no truth values.

    Example:
        >>> test = mcnemar([1, 1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1])
        >>> test.only_a, test.only_b, test.p
        (6, 0, 0.03125)
    """
    a, b = _pair(correct_a, correct_b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    if exact is None:
        exact = discordant < FEWEST_DISCORDANT
    if exact:
        p = float(stats.binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
        return McNemar(only_a, only_b, None, p)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / discordant if discordant else 0.0
    return McNemar(only_a, only_b, statistic, float(stats.chi2.sf(statistic, 1)))


def grouped_mcnemar(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    groups: ArrayLike,
    *,
    exact: bool | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> GroupedMcNemar:
    """A permutation test that two models are right equally often, where cells of one group are alike.

    If the models are alike, then in each group which of them is called the first is a coin's toss, for all its cells at
    once. With d_g the cells of group g that only the first has right less those that only the second has, the statistic
    is |Σ ±d_g|, and p the share of the 2^G choices of signs that give at least the observed |Σ d_g| (Fisher, The Design
    of Experiments, 1935, section 21). With each cell a group of its own it is the exact McNemar test.

    The sums are whole numbers, so all choices are counted by adding one group at a time to the distribution of the sum
    (Pagano & Tritchler, JASA 78, 1983), up to 1000 groups that differ. Above, signs are drawn, and p is
    (1 + as large) / (1 + drawn), never 0 (Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010).

    Args:
        correct_a: (N,) bool (or 0 and 1), True where the first model is right.
        correct_b: (N,) the same of the second, cell by cell.
        groups: (N,) group of each cell.
        exact: by default up to 1000 groups that differ; False draws.
        permutations: how many choices of signs are drawn, where not exact.
        seed: of the draw.

    Raises:
        CytodistillError: shapes disagree, there are fewer than two groups, there are too many for ``exact``, or too few
            permutations.

    Example:
        >>> test = grouped_mcnemar([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])
        >>> round(test.difference, 4), test.differing, test.p
        (0.8333, 3, 0.25)
    """
    a, b = _pair(correct_a, correct_b)
    found = np.asarray(groups)
    if found.shape != a.shape:
        raise CytodistillError(f"paired: groups of shape {found.shape} do not fit {len(a)} cells; give one for each")
    if permutations < FEWEST_PERMUTATIONS:
        raise CytodistillError(f"paired: {permutations} permutations are too few; take at least {FEWEST_PERMUTATIONS}")
    names, g = np.unique(found, return_inverse=True)
    if len(names) < 2:
        raise CytodistillError(
            f"paired: the cells are of {len(names)} group; a test needs at least two fields, clusters "
            "or patients to flip"
        )
    each = np.bincount(g, weights=a.astype(int) - b.astype(int)).astype(np.int64)
    differing = each[each != 0]
    if exact is None:
        exact = len(differing) <= EXACT_GROUPS
    if exact and len(differing) > EXACT_GROUPS:
        raise CytodistillError(f"paired: {len(differing)} groups differ, too many for exact; leave exact out or False")
    p = _all_flips(differing) if exact else _drawn_flips(differing, permutations, seed)
    return GroupedMcNemar(float(each.sum() / len(a)), len(names), len(differing), exact, p)


def nadeau_bengio(differences: ArrayLike, n_train: float, n_test: float, *, level: float = LEVEL) -> CorrectedT:
    """The corrected resampled t-test over folds or random splits (Nadeau & Bengio, Machine Learning 52, 2003).

    Training sets of different folds share cells, so the J differences are not independent and the plain t-test finds
    too much. With their mean m and variance S² (divided by J − 1), t = m / √((1/J + n_test / n_train) · S²) with J − 1
    degrees of freedom; the interval is m ± its quantile times the same root. For k folds n_test / n_train is
    1 / (k − 1).

    Args:
        differences: (J,) first − second of one figure, fold by fold; J at least 2.
        n_train: cells (or their mean number) that a fold trains on.
        n_test: cells (or their mean number) that a fold tests on.
        level: of the interval, between 0 and 1.

    Returns:
        Mean, interval, two-sided p, t and degrees of freedom. Differences that are all 0 have p = 1.

    Raises:
        CytodistillError: fewer than two or not finite differences, counts that are not above 0, a level out of bounds,
            or differences that are all the same and not 0: without spread there is no t.

    Example:
        >>> test = nadeau_bengio([0.02, 0.01, 0.03, 0.02, 0.02], n_train=800, n_test=200)
        >>> round(test.t, 4), test.degrees, round(test.p, 4)
        (4.2164, 4, 0.0135)
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise CytodistillError(f"paired: differences of shape {d.shape} are not two or more finite numbers, one a fold")
    if not (0 < n_train < np.inf and 0 < n_test < np.inf):
        raise CytodistillError(f"paired: n_train={n_train} and n_test={n_test}; give the cells of a fold, above 0")
    if not 0 < level < 1:
        raise CytodistillError(f"paired: level {level} is outside 0 to 1; 0.95 is usual")
    mean, degrees = float(d.mean()), len(d) - 1
    if np.ptp(d) < TIE:
        if abs(mean) < TIE:
            return CorrectedT(0.0, 0.0, 0.0, 1.0, 0.0, degrees)
        raise CytodistillError(f"paired: all {len(d)} differences are {mean:.6g}; without spread there is no t-test")
    error = float(np.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1)))
    t, reach = mean / error, float(stats.t.ppf((1 + level) / 2, degrees)) * error
    return CorrectedT(mean, mean - reach, mean + reach, float(2 * stats.t.sf(abs(t), degrees)), t, degrees)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """(m,) p-values adjusted for m tests by Holm's step-down (Holm, Scand. J. Statist. 6, 1979), in the order given.

    The i-th smallest becomes the largest of (m − j + 1) · p_(j) over j ≤ i, at most 1. To call different what is at
    most α errs in any of the tests with a chance of at most α, however they depend on one another.

    Raises:
        CytodistillError: there are none, or one is not from 0 to 1.

    Example:
        >>> holm([0.01, 0.04, 0.03, 0.005]).tolist()
        [0.03, 0.06, 0.06, 0.02]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise CytodistillError(f"holm: p-values of shape {p.shape} are not one or more numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]), 1.0)
    return adjusted


def _all_flips(d: NDArray[np.int64]) -> float:
    """Share of all choices of signs whose sum is at least as far from 0 as that of ``d``."""
    total, observed = int(np.abs(d).sum()), abs(int(d.sum()))
    if not observed:
        return 1.0
    # chance[x]: that the groups with a plus hold x of the total; the sum is then 2 x − total.
    chance = np.ones(1)
    for size in np.sort(np.abs(d)):
        longer = np.zeros(len(chance) + size)
        longer[: len(chance)] = chance / 2
        longer[size:] += chance / 2
        chance = longer
    # Both ends are alike, and total and observed are both even or both odd.
    return min(1.0, 2 * float(chance[(total + observed) // 2 :].sum()))


def _drawn_flips(d: NDArray[np.int64], permutations: int, seed: int) -> float:
    random = np.random.default_rng(seed)
    # Sums of whole numbers are exact in floats, and only floats go through the fast matrix product.
    sizes, observed, as_large = d.astype(np.float64), abs(d.sum()), 0
    at_once = max(1, DRAWN_AT_ONCE // max(1, len(d)))
    for start in range(0, permutations, at_once):
        plus = random.random((min(at_once, permutations - start), len(d))) < 0.5
        as_large += int((np.abs(2 * (plus.astype(np.float64) @ sizes) - sizes.sum()) >= observed).sum())
    return (1 + as_large) / (1 + permutations)


def _pair(correct_a: ArrayLike, correct_b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = (truth_values(correct, "paired: correct answers") for correct in (correct_a, correct_b))
    if a.shape != b.shape:
        raise CytodistillError(
            f"paired: the models have {len(a)} and {len(b)} answers; both must be of the same cells, in the same order"
        )
    return a, b
