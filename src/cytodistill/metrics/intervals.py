"""Intervals of metrics, and of the difference of two models, by resampling groups of cells.

Cells of one field, cluster or acquisition are alike, so that cells drawn one by one give intervals that are too narrow.
Here whole groups are drawn, as many as there are, with replacement (the cluster bootstrap; Davison & Hinkley, Bootstrap
Methods and their Application, 1997, section 3.8). The ends of an interval are Student's t times the spread of the
resampled figures, shares on the scale of their logit (`cytodistill.metrics.standard_error` says why not percentiles).

Over several seeds, each with a split and test cells of its own, groups are drawn within every seed, and the figure is
the mean over the seeds. What the intervals do not hold: another training of the same model would differ too (seeds show
that), and a field that is a test field of two seeds is drawn in each on its own.

Accuracy and the macro averages but AUC's need three counts a class, which add up over groups (`group_tallies`):
all their resamples are one matrix product. Any other figure is a function of row numbers (`group_bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.errors import CytodistillError
from cytodistill.metrics.macro_groups import macro_groups
from cytodistill.metrics.standard_error import (
    TIE,
    defined,
    effective_groups,
    mostly_defined,
    p_of_no_difference,
    plain_ends,
    positive_ends,
    share_ends,
)

RESAMPLES = 2000
LEVEL = 0.95
FEWEST_RESAMPLES = 100
# Counts held at a time while resampling, so that ten thousand groups need tens of megabytes and not hundreds.
DRAWN_AT_ONCE = 4_000_000
METHOD = "group bootstrap: logit of the figure ± Student's t times the standard error of the resamples"
"""What reports say of the intervals of figures."""

Scale = Literal["share", "plain", "positive"]
ENDS = {"share": share_ends, "plain": plain_ends, "positive": positive_ends}
"""How the ends of a figure's interval are made, by its scale."""
Statistic = Callable[[NDArray[np.int64]], float | None]


@dataclass(frozen=True)
class Interval:
    """A figure of all cells and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A figure of one model less that of another, its interval, and the two-sided p-value of no difference."""

    p: float


def draw_groups(groups: int, resamples: int = RESAMPLES, seed: int = 0, stratum: int = 0) -> NDArray[np.int64]:
    """(resamples, groups) counts of how often each resample draws each group; every row sums to ``groups``.

    Args:
        groups: number of groups to draw from.
        resamples: number of resamples.
        seed: of the draw; the same numbers give the same draw, whatever is computed from it.
        stratum: which of several independent draws of this seed.
    """
    return np.concatenate(list(_drawn(groups, resamples, seed, stratum)))


def group_bootstrap(
    statistic: Statistic,
    groups: ArrayLike,
    *,
    scale: Scale = "share",
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Interval of any figure of the cells, groups resampled.

    Resamples for which the statistic is undefined (None or NaN: an AUC with one class left) are left out.

    Args:
        statistic: takes (n,) row numbers, where a row stands as often as its group was drawn, and gives the figure.
        groups: (N,) group of each row.
        scale: "share" of a figure that lies between 0 and 1, "positive" of one without an upper bound (a loss), "plain"
            of any other (a difference).
        resamples: how many.
        seed: of the draw.
        level: of the interval, between 0 and 1.

    Raises:
        CytodistillError: there are fewer than two groups, a setting is out of bounds, the statistic is undefined for
            all rows or for most of the resamples, or it is no share.

    Example:
        >>> right = np.tile([1, 1, 1, 0, 0, 1], 10)
        >>> interval = group_bootstrap(lambda rows: right[rows].mean(), np.repeat(np.arange(30), 2))
        >>> [round(number, 2) for number in (interval.value, interval.low, interval.high)]
        [0.67, 0.57, 0.75]
    """
    _check(resamples, level)
    (value,), (drawn,) = _resampled([statistic], groups, resamples, seed, 0)
    return Interval(_defined(value), *ENDS[scale](value, drawn, _effective(groups), level=level))


def paired_group_bootstrap(
    first: Statistic,
    second: Statistic,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """``first`` − ``second`` on the same cells, the same groups drawn for both: what is hard for both cancels.

    The p-value is that of t = d / s, which the interval is made of too, so that it is below 0.05 where the interval of
    95 % leaves 0 out. It is never 0, and equal predictions have p = 1.

    Args: as `group_bootstrap`, with a statistic for each of the two models.

    Raises:
        CytodistillError: as `group_bootstrap`.
    """
    return paired_over_seeds([first], [second], [groups], resamples=resamples, seed=seed, level=level)


def paired_over_seeds(
    first: Sequence[Statistic],
    second: Sequence[Statistic],
    groups: Sequence[ArrayLike],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """`paired_group_bootstrap` of the mean over seeds: every resample draws groups within every seed.

    Args:
        first: one statistic for each seed, of its own rows.
        second: the other model's, seed by seed on the same cells.
        groups: for each seed, the (N_s,) group of each row.
        resamples: how many.
        seed: of the draw (not one of the seeds averaged over).
        level: of the interval.

    Raises:
        CytodistillError: as `group_bootstrap`, or the two have not as many seeds.
    """
    _check(resamples, level)
    _check_seeds(len(first), len(second), len(groups))
    found = [
        _resampled([one, other], of, resamples, seed, stratum)
        for stratum, (one, other, of) in enumerate(zip(first, second, groups, strict=True))
    ]
    value, drawn = (np.mean([seeded[part] for seeded in found], axis=0) for part in (0, 1))
    count = sum(map(_effective, groups))
    return _difference(_defined(value[0] - value[1]), drawn[0] - drawn[1], count, len(first), level)


def group_tallies(
    labels: ArrayLike, predicted: ArrayLike, groups: ArrayLike, classes: int, cells: ArrayLike | None = None
) -> NDArray[np.int64]:
    """(G, 3, C) counts for each group and class: cells predicted right, cells of the class, cells predicted as it.

    They are the diagonal, row sums and column sums of the group's confusion matrix. The figures here need no more, and
    with a hundred classes and each image a group of its own the matrices would be a hundred million numbers. Groups are
    sorted, so two models on the same cells have them in the same order.

    Args:
        labels: (N,) integer codes below ``classes``.
        predicted: (N,) codes of the predicted classes.
        groups: (N,) group of each cell.
        classes: C.
        cells: (N,) how many cells each entry stands for, where equal ones were counted together; 1 by default.

    Raises:
        CytodistillError: shapes disagree, there are no cells, or a code or count is no integer or out of bounds.
    """
    y, p, groups = np.asarray(labels), np.asarray(predicted), np.asarray(groups)
    n = np.ones(len(groups), np.int64) if cells is None else np.asarray(cells)
    if y.ndim != 1 or not len(y) or not y.shape == p.shape == groups.shape == n.shape:
        raise CytodistillError(
            f"intervals: labels {y.shape}, predictions {p.shape} and groups {groups.shape} do not fit; all must be "
            "(cells,), with at least one cell"
        )
    for name, codes in (("labels", y), ("predictions", p)):
        if codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= classes:
            raise CytodistillError(f"intervals: {name} are not all integers from 0 to {classes - 1}; give class codes")
    if n.dtype.kind not in "iu" or n.min() < 1:
        raise CytodistillError("intervals: counts of cells are not all integers of at least 1; leave empty entries out")
    names, g = np.unique(groups, return_inverse=True)
    tallies = np.zeros((len(names), 3, classes), np.int64)
    right = y == p
    np.add.at(tallies[:, 0], (g[right], y[right]), n[right])
    np.add.at(tallies[:, 1], (g, y), n)
    np.add.at(tallies[:, 2], (g, p), n)
    return tallies


def figure_intervals(
    tallies: Sequence[NDArray[np.int64]], *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> dict[str, Interval]:
    """Intervals of accuracy, balanced accuracy, sensitivity, specificity, precision and F-measure ("f1"), all but the
    first macro averages, each the mean over seeds. A figure that most resamples leave undefined (specificity, where
    they hold one class) is left out.

    The figures are those of `classification_metrics`, resample by resample: a class without cells in a resample stays
    out of its averages, and cells wrongly predicted as it count as errors of their own class. So a resample averages
    over the classes it holds, and a rare class of few groups widens the interval but does not pull it down, as a 0
    for it would. The degrees of freedom are those of the groups behind each figure (`macro_groups`).

    Args:
        tallies: for each seed, (G_s, 3, C) from `group_tallies`.
        resamples: how many.
        seed: of the draw (not one of the seeds averaged over).
        level: of the interval.

    Raises:
        CytodistillError: no seeds, a seed has fewer than two groups, or a setting is out of bounds.
    """
    _check(resamples, level)
    _check_seeds(len(tallies))
    value, drawn = resampled_figures([tallies], resamples, seed)
    groups = _groups_behind([macro_groups([of_seed]) for of_seed in tallies])
    return {
        name: Interval(of, *share_ends(of, drawn[name][0], groups[name], len(tallies), level))
        for name, of in ((name, float(values[0])) for name, values in value.items())
        if mostly_defined(drawn[name][0])
    }


def figure_differences(
    first: Sequence[NDArray[np.int64]],
    second: Sequence[NDArray[np.int64]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """``first`` − ``second`` in the figures of `figure_intervals`, the same groups drawn for both in every seed.

    Args: as `figure_intervals`, with the tallies of each of the two models on the same cells.

    Raises:
        CytodistillError: as `figure_intervals`, or the two models were not tested on the same cells.
    """
    _check(resamples, level)
    _check_seeds(len(first), len(second))
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        # Cells of each class in each group: all that can be seen of the cells here.
        if one.shape != other.shape or (one[:, 1] != other[:, 1]).any():
            raise CytodistillError(
                f"intervals: the two models were tested on different cells (set {number + 1}); a paired comparison "
                "needs the same split"
            )
    value, drawn = resampled_figures([first, second], resamples, seed)
    groups = _groups_behind([macro_groups(of_seed) for of_seed in zip(first, second, strict=True)])
    less = {name: (float(of[0] - of[1]), drawn[name][0] - drawn[name][1]) for name, of in value.items()}
    found = {
        name: _difference(*of, groups[name], len(first), level) for name, of in less.items() if mostly_defined(of[1])
    }
    return {name: Difference(d.value, max(d.low, -1.0), min(d.high, 1.0), d.p) for name, d in found.items()}


def resampled_figures(
    models: Sequence[Sequence[NDArray[np.int64]]], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """The figures of some models by name, and those of their resamples: what intervals and differences are made of.

    Args:
        models: of each model and seed, the tallies; the same groups are drawn for all models.
        resamples: how many.
        seed: of the draw.

    Returns:
        By name, (models,) figures and (models, resamples) resampled ones, both means over the seeds.

    Raises:
        CytodistillError: a seed has fewer than two groups.
    """
    values, drawn = [], []
    for stratum, tallies in enumerate(zip(*models, strict=True)):
        table = np.stack(tallies)
        count, groups, _, classes = table.shape
        check_groups(groups)
        values.append(_figures(table.sum(axis=1)))
        # Sums of counts are exact in floats, and only floats go through the fast matrix product.
        columns = table.astype(np.float64).transpose(1, 0, 2, 3).reshape(groups, -1)
        parts = [
            _figures((counts @ columns).reshape(-1, count, 3, classes))
            for counts in _drawn(groups, resamples, seed, stratum)
        ]
        drawn.append({name: np.concatenate([part[name] for part in parts]).T for name in parts[0]})
    means = [{name: np.mean([seeded[name] for seeded in of], axis=0) for name in of[0]} for of in (values, drawn)]
    return means[0], means[1]


def _figures(tallies: NDArray[np.number]) -> dict[str, NDArray[np.float64]]:
    """Accuracy and the macro figures of (…, 3, C) counts, as `classification_metrics` defines them."""
    hits, count, predicted = (tallies[..., kind, :].astype(np.float64) for kind in range(3))
    present = count > 0
    rest = count.sum(axis=-1, keepdims=True) - count

    def macro(
        numerator: NDArray[np.float64], denominator: NDArray[np.float64], empty: float = 0
    ) -> NDArray[np.float64]:
        each = np.divide(numerator, denominator, out=np.full_like(numerator, empty), where=denominator > 0)
        return np.where(present, each, 0).sum(axis=-1) / present.sum(axis=-1)

    return {
        "accuracy": hits.sum(axis=-1) / count.sum(axis=-1),
        "balanced_accuracy": macro(hits, count),
        "sensitivity": macro(hits, count),
        "specificity": macro(rest - (predicted - hits), rest, empty=np.nan),  # one class alone has no rest
        "precision": macro(hits, predicted),
        "f1": macro(2 * hits, count + predicted),
    }


def _drawn(groups: int, resamples: int, seed: int, stratum: int) -> Iterator[NDArray[np.int64]]:
    """Pieces of `draw_groups`, few enough rows at a time; the pieces together are the same however they are cut."""
    random = np.random.default_rng([seed, stratum])
    share = np.full(groups, 1 / groups)
    at_once = max(1, DRAWN_AT_ONCE // groups)
    for start in range(0, resamples, at_once):
        yield random.multinomial(groups, share, size=min(at_once, resamples - start))


def _resampled(
    statistics: Sequence[Statistic], groups: ArrayLike, resamples: int, seed: int, stratum: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each statistic of all rows, (statistics,), and of each resample, (statistics, resamples)."""
    names, g = np.unique(np.asarray(groups), return_inverse=True)
    check_groups(len(names))
    rows = np.arange(len(g))
    values = np.array([statistic(rows) for statistic in statistics], dtype=float)
    drawn = np.empty((len(statistics), resamples))
    resample = 0
    for counts in _drawn(len(names), resamples, seed, stratum):
        for count in counts:
            chosen = np.repeat(rows, count[g])
            drawn[:, resample] = [np.nan if (found := statistic(chosen)) is None else found for statistic in statistics]
            resample += 1
    return values, drawn


def _difference(value: float, drawn: NDArray[np.float64], groups: float, strata: int, level: float) -> Difference:
    value, drawn = (0.0 if abs(value) < TIE else value), np.where(np.abs(drawn) < TIE, 0.0, drawn)
    p = p_of_no_difference(value, drawn, groups, strata)
    return Difference(value, *plain_ends(value, drawn, groups, strata, level), p)


def interval_ends(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Percentiles of the resamples that define the figure.

    Raises:
        CytodistillError: most of them do not.
    """
    low, high = np.quantile(defined(drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _groups_behind(seeds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(of_seed[name] for of_seed in seeds) for name in seeds[0]}


def _effective(groups: ArrayLike) -> float:
    return effective_groups(np.unique(np.asarray(groups), return_counts=True)[1])


def _defined(value: float) -> float:
    if not np.isfinite(value):
        raise CytodistillError("intervals: the figure is undefined for these cells; it has no interval")
    return float(value)


def _check(resamples: int, level: float) -> None:
    if resamples < FEWEST_RESAMPLES:
        raise CytodistillError(f"intervals: {resamples} resamples are too few; take at least {FEWEST_RESAMPLES}")
    if not 0 < level < 1:
        raise CytodistillError(f"intervals: level {level} is outside 0 to 1; 0.95 is usual")


def _check_seeds(*counts: int) -> None:
    if not counts[0] or len(set(counts)) > 1:
        raise CytodistillError(
            f"intervals: seeds of the two models and their groups are {', '.join(map(str, counts))}; give as many of "
            "each, and at least one"
        )


def check_groups(groups: int) -> None:
    """Raise CytodistillError where there are fewer than two groups to resample."""
    if groups < 2:
        raise CytodistillError(
            f"intervals: the test cells are of {groups} group; an interval needs at least two fields, clusters or "
            "acquisitions to resample"
        )
