"""Split conformal prediction: for each cell a set of classes that holds the true one as often as was asked for.

A score says how strange a class is for a cell; the calibration cells' scores of their true classes give the threshold,
and a set holds the classes whose score is within it. With n calibration cells the threshold is the ⌈(n + 1)(1 − α)⌉-th
smallest score; where that is beyond n it is infinite, and every class is in every set. Then a new cell's set holds its
class with probability at least 1 − α, the coverage, whatever the model (Vovk, Gammerman & Shafer, Algorithmic Learning
in a Random World, 2005; Angelopoulos & Bates, Conformal Prediction: A Gentle Introduction, 2023).

That asks for cells that are exchangeable, calibration and new ones alike, and not used to train or to pick the model.
**Cells of one group (field, slide, patient) are not exchangeable one by one**: they are alike, so a thousand cells of
ten fields hold the evidence of ten fields rather than of a thousand cells, and cells of new fields may be covered less
often. Give `fit_conformal` the groups then: what must be exchangeable is the groups, and the promise is for a cell
drawn from a newly drawn group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom

from cytodistill.errors import CytodistillError
from cytodistill.metrics.calibration import checked_probabilities

Kind = Literal["lac", "aps"]
Unit = Literal["cells", "groups"]

COVERAGE = 0.9
LEVEL = 0.95
# Sums of weights that are whole numbers by arithmetic may be off by rounding; this share of them is forgiven.
ROUNDING = 1e-9


@dataclass(frozen=True)
class ConformalSets:
    """Thresholds that turn probabilities of C classes into sets of classes.

    With q_c the threshold of class c: "lac" takes the classes with 1 − p_c ≤ q_c, the smallest sets on average (Sadinle
    et al., Least Ambiguous Set-Valued Classifiers, JASA 114, 2019). "aps" goes from the likeliest class downward and
    takes classes until their probabilities add up to q, the class that reaches it included (Romano et al.,
    Classification with Valid and Adaptive Coverage, NeurIPS 2020): its sets grow where the model is unsure.

    Args:
        kind: the score, "lac" or "aps".
        coverage: 1 − α, asked for.
        per_class: whether each class has a threshold from its own cells.
        thresholds: q_c for each of the C classes, all the same unless ``per_class``; infinite where there are too few
            cells (or groups) for this coverage.
        counts: the calibration cells (or groups) behind each threshold.
        unit: what the counts are of, "cells" or "groups".

    Raises:
        CytodistillError: the fields do not fit one another.
    """

    kind: Kind
    coverage: float
    per_class: bool
    thresholds: tuple[float, ...]
    counts: tuple[int, ...]
    unit: Unit = "cells"

    def __post_init__(self) -> None:
        _check_settings(self.kind, self.coverage)
        if self.unit not in get_args(Unit):
            raise CytodistillError(f"conformal: unit {self.unit!r} is unknown; use {' or '.join(get_args(Unit))}")
        if not self.thresholds or len(self.thresholds) != len(self.counts) or np.isnan(self.thresholds).any():
            raise CytodistillError(
                f"conformal: {len(self.thresholds)} thresholds and {len(self.counts)} counts do not fit; there must be "
                "a number and a count for each class: fit them anew"
            )

    @property
    def always_included(self) -> tuple[int, ...]:
        """Codes of the classes in every set, for want of calibration cells (or groups)."""
        return tuple(np.flatnonzero(np.isposinf(self.thresholds)).tolist())

    def sets(self, probabilities: ArrayLike, fill_empty: bool = True) -> NDArray[np.bool_]:
        """(N, C): whether class c is in the set of cell i.

        A "lac" set is empty where no class is likely enough. Such a set gets the predicted class (the first of equal
        maxima), since a reader takes an empty set for a fault; coverage can only rise by it. ``fill_empty=False``
        leaves them, to see which cells are like none of the classes. An "aps" set is never empty. Sets that are not
        filled only grow with the coverage; filled ones too, but with a threshold a class the predicted class may give
        way to another.

        Args:
            probabilities: (N, C), each row summing to 1 within 0.001; calibrated by whatever calibrated those that the
                thresholds were fitted on.
            fill_empty: whether empty sets get the predicted class.

        Raises:
            CytodistillError: as `classification_metrics`, or the classes are not as many as the thresholds.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        p, _ = checked_probabilities(p, np.zeros(p.shape[:1], np.int64))
        if p.shape[1] != len(self.thresholds):
            raise CytodistillError(
                f"conformal: probabilities of {p.shape[1]} classes do not fit thresholds of {len(self.thresholds)}; "
                "use those that were fitted with this model"
            )
        thresholds = np.array(self.thresholds)
        if self.kind == "lac":
            chosen = 1 - p <= thresholds
        else:
            # The second for classes of probability 0 alone, which add nothing to a sum that is at the threshold.
            before, through = _steps(p)
            chosen = (before < thresholds) | (through <= thresholds)
        if fill_empty:
            empty = np.flatnonzero(~chosen.any(axis=1))
            chosen[empty, p[empty].argmax(axis=1)] = True
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary; an infinite threshold is None. `from_dict` gives equal thresholds."""
        return {
            "kind": self.kind,
            "coverage": self.coverage,
            "per_class": self.per_class,
            "thresholds": [None if np.isposinf(threshold) else threshold for threshold in self.thresholds],
            "counts": list(self.counts),
            "unit": self.unit,
            "always_included": list(self.always_included),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConformalSets:
        """The thresholds of a `to_dict`.

        Raises:
            CytodistillError: fields are missing, unknown or of another kind.
        """
        try:
            fields = {name: value for name, value in values.items() if name != "always_included"}
            fields["coverage"], fields["per_class"] = float(fields["coverage"]), bool(fields["per_class"])
            fields["thresholds"] = tuple(np.inf if q is None else float(q) for q in fields["thresholds"])
            fields["counts"] = tuple(map(int, fields["counts"]))
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CytodistillError(
                f"conformal: the stored thresholds are unreadable ({error!r}); fit them anew"
            ) from error


def fit_conformal(
    probabilities: ArrayLike,
    labels: ArrayLike,
    coverage: float = COVERAGE,
    kind: Kind = "lac",
    per_class: bool = False,
    groups: ArrayLike | None = None,
) -> ConformalSets:
    """Thresholds for which new sets hold the true class with probability ``coverage`` or more.

    Scores: "lac" 1 − p_y; "aps" the sum of the probabilities from the likeliest class down to y, not randomised. As the
    class that reaches the threshold is included in the set, "aps" covers more often than asked for, the more so the
    fewer the classes. Classes of equal probability count as one step: they enter a set together.

    ``per_class``: each class has the threshold of its own cells, and the coverage holds within each class (Mondrian
    conformal prediction; Vovk, ACML 2012). A class of n cells with ⌈(n + 1) · coverage⌉ > n has an infinite threshold:
    it is in every set (`ConformalSets.always_included`). At 0.9 that is fewer than 9 cells, at 0.95 fewer than 19.

    ``groups``: a cell weighs 1 / (cells of its group), so each of the K groups counts as one observation, and the
    threshold is the smallest score q for which the weights of scores up to q reach (K + 1) · coverage. That is
    hierarchical conformal prediction (Lee et al., Distribution-free inference with hierarchical data, 2023), and with
    one cell a group it is the plain threshold. It equals drawing one cell a group and averaging the p-values over all
    such draws (what repeated subsampling tends to; Dunn et al., Distribution-Free Prediction Sets for Two-Layer
    Hierarchical Models, JASA 118, 2023), so there is no draw and no seed. The coverage is that of a cell drawn from a
    newly drawn group, so the mean over groups of the share covered. With ``per_class`` too, the groups of a class are
    those that hold cells of it.

    Args:
        probabilities: (N, C) of the calibration cells, each row summing to 1.
        labels: (N,) integer codes of the classes.
        coverage: 1 − α, between 0 and 1.
        kind: "lac" or "aps".
        per_class: whether each class gets a threshold of its own.
        groups: (N,) group of each cell; without, cells are taken one by one.

    Raises:
        CytodistillError: as `classification_metrics`, groups do not fit, or a setting is out of bounds.

    Example:
        >>> p = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]
        >>> fitted = fit_conformal(p, [0, 0, 1, 1], coverage=0.8)
        >>> round(fitted.thresholds[0], 4), fitted.sets([[0.55, 0.45], [0.7, 0.3]]).tolist()
        (0.6, [[True, True], [True, False]])
    """
    _check_settings(kind, coverage)
    p, y = checked_probabilities(probabilities, labels)
    cells = np.arange(len(y))
    of = cells if groups is None else _group_codes(groups, len(y))
    scores = (1 - p if kind == "lac" else _steps(p)[1])[cells, y]
    classes = p.shape[1]
    if per_class:
        fitted = [_threshold(scores[y == c], of[y == c], coverage) for c in range(classes)]
    else:
        fitted = [_threshold(scores, of, coverage)] * classes
    thresholds, counts = zip(*fitted, strict=True)
    return ConformalSets(kind, float(coverage), per_class, thresholds, counts, "cells" if groups is None else "groups")


def coverage_report(sets: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None) -> dict[str, Any]:
    """How often the sets of test cells hold the true class, and how large they are.

    Args:
        sets: (N, C) of true and false, from `ConformalSets.sets`.
        labels: (N,) integer codes of the classes.
        groups: (N,) group of each cell.

    Returns:
        JSON-able dictionary: "n" in cells, "coverage", "mean_size" in classes, "singletons" and "empties" (shares of
        the cells whose set has one class, or none), and "per_class", for each class {"n", "coverage", "mean_size"} of
        the cells of that class, None where there are none. With groups also "groups", their number, and
        "group_coverage", the mean over groups of the share covered: what thresholds fitted with groups promise.

    Raises:
        CytodistillError: shapes disagree, there are no cells, or a label is outside 0..C-1.
    """
    chosen = np.asarray(sets)
    if chosen.dtype != np.bool_ or chosen.ndim != 2 or not chosen.shape[1]:
        raise CytodistillError(
            f"conformal: sets are {chosen.dtype} of shape {chosen.shape}; they must be true or false, (cells, classes)"
        )
    # Even probabilities stand in, so that labels meet the same checks as everywhere.
    _, y = checked_probabilities(np.full(chosen.shape, 1 / chosen.shape[1]), labels)
    held, size = chosen[np.arange(len(y)), y], chosen.sum(axis=1)
    report: dict[str, Any] = {
        "n": len(y),
        "coverage": float(held.mean()),
        "mean_size": float(size.mean()),
        "singletons": float((size == 1).mean()),
        "empties": float((size == 0).mean()),
        "per_class": [_class_report(held[y == c], size[y == c]) for c in range(chosen.shape[1])],
    }
    if groups is not None:
        of = _group_codes(groups, len(y))
        report["groups"] = int(of.max() + 1)
        report["group_coverage"] = float((np.bincount(of, weights=held) / np.bincount(of)).mean())
    return report


def theoretical_band(
    n_calibration: int, n_test: int, coverage: float = COVERAGE, level: float = LEVEL
) -> tuple[float, float]:
    """Ends of the band in which the measured coverage lies with probability ``level``, for exchangeable cells.

    With k = ⌈(n + 1)(1 − α)⌉ of n calibration cells, the coverage that a threshold has is Beta(k, n + 1 − k) over the
    draw of calibration cells, and the share covered among m test cells, times m, is beta-binomial (m, k, n + 1 − k)
    (Vovk 2012; Angelopoulos & Bates 2023, section 3.2). The ends are its quantiles (1 ± level)/2,
    divided by m. For k > n the threshold is infinite and both ends are 1.

    It holds for "lac" sets before empty ones are filled, and scores without ties. Filling, ties and "aps" only raise
    the coverage: then the lower end stands, and the upper does not. For one class of ``per_class`` thresholds, take
    that class's numbers. Cells of groups have no such band: theirs would be wider.

    Args:
        n_calibration: calibration cells, at least 1.
        n_test: test cells, at least 1.
        coverage: 1 − α, between 0 and 1.
        level: between 0 and 1.

    Raises:
        CytodistillError: a number is out of bounds.

    Example:
        >>> theoretical_band(1000, 1000, 0.9)
        (0.873, 0.925)
    """
    _check_settings("lac", coverage)
    if n_calibration < 1 or n_test < 1:
        raise CytodistillError(
            f"conformal: {n_calibration} calibration and {n_test} test cells have no band; there must be one of each"
        )
    if not 0 < level < 1:
        raise CytodistillError(f"conformal: level {level} is outside 0 to 1; 0.95 is usual")
    rank = int(np.ceil(_needed(n_calibration, coverage)))
    if rank > n_calibration:
        return 1.0, 1.0
    # Quantiles from one sum over all counts: SciPy's own search adds the probabilities up anew at every step.
    below = np.cumsum(betabinom.pmf(np.arange(n_test + 1), n_test, rank, n_calibration + 1 - rank))
    low, high = np.minimum(np.searchsorted(below, [(1 - level) / 2, (1 + level) / 2]), n_test)
    return float(low / n_test), float(high / n_test)


def _check_settings(kind: str, coverage: float) -> None:
    if kind not in get_args(Kind):
        raise CytodistillError(f"conformal: kind {kind!r} is unknown; use {' or '.join(get_args(Kind))}")
    if not 0 < coverage < 1:
        raise CytodistillError(f"conformal: coverage {coverage} is outside 0 to 1; 0.9 is usual")


def _group_codes(groups: ArrayLike, cells: int) -> NDArray[np.int64]:
    names = np.asarray(groups)
    if names.shape != (cells,):
        raise CytodistillError(f"conformal: groups of shape {names.shape} do not fit {cells} cells; give one a cell")
    return np.unique(names, return_inverse=True)[1]


def _needed(count: int, coverage: float) -> float:
    """(n + 1)(1 − α), less what rounding may have added to a whole number."""
    return (count + 1) * coverage * (1 - ROUNDING)


def _threshold(scores: NDArray[np.float64], of: NDArray[np.int64], coverage: float) -> tuple[float, int]:
    """The smallest score up to which the groups' weights are enough, infinite where there is none; number of groups."""
    names, index, size = np.unique(of, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.searchsorted(np.cumsum(1 / size[index[order]]), _needed(len(names), coverage))
    return (float(scores[order[reached]]) if reached < len(scores) else np.inf), len(names)


def _steps(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, C) sums of the probabilities greater than each class's own, and of those at least as great."""
    order = np.argsort(-p, axis=1, kind="stable")
    falling = np.take_along_axis(p, order, axis=1)
    # Divided by the last sum, so that all classes together make exactly 1 in every row.
    sums = np.cumsum(falling, axis=1)
    sums /= sums[:, -1:]
    parted = falling[:, 1:] != falling[:, :-1]
    edge = np.ones((len(p), 1), bool)
    # Of a run of equal probabilities, all take the sum before its first and the sum at its last.
    before = np.where(np.hstack([edge, parted]), np.hstack([np.zeros((len(p), 1)), sums[:, :-1]]), 0)
    before = np.maximum.accumulate(before, axis=1)
    through = np.where(np.hstack([parted, edge]), sums, np.inf)
    through = np.minimum.accumulate(through[:, ::-1], axis=1)[:, ::-1]
    back = np.argsort(order, axis=1, kind="stable")
    return np.take_along_axis(before, back, axis=1), np.take_along_axis(through, back, axis=1)


def _class_report(held: NDArray[np.bool_], size: NDArray[np.int64]) -> dict[str, Any]:
    some = len(held) > 0
    return {
        "n": len(held),
        "coverage": float(held.mean()) if some else None,
        "mean_size": float(size.mean()) if some else None,
    }
