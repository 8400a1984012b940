"""The abnormal-against-normal view: curves, operating points, and the same for whole fields or patients.

A cell's score is the probability that it is abnormal, and it is called abnormal where score ≥ threshold. Thresholds are
the distinct scores themselves and +∞ (nothing is abnormal), so cells of equal score always fall on the same side, and
no figure is interpolated between two thresholds. Sensitivity TP / (TP + FN) falls and specificity TN / (TN + FP) rises
with the threshold.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from cytodistill.errors import CytodistillError, reason
from cytodistill.metrics.classification import SUM_TOLERANCE


@dataclass(frozen=True, eq=False)
class Roc:
    """The ROC curve, thresholds falling from +∞: each array is (T + 1,) for T distinct scores.

    ``auc`` is the chance that an abnormal cell scores higher than a normal one, ties counting one half (Hanley & McNeil
    1982).
    """

    thresholds: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    auc: float


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision against sensitivity (recall), thresholds falling from +∞: each array is (T + 1,).

    At +∞ nothing is called abnormal and precision, which is then undefined, is set to 1. ``average_precision`` is
    Σ (R_n − R_{n−1}) P_n over falling thresholds, without interpolation. Precision depends on the share of abnormal
    cells, so it holds only where that share is that of use.
    """

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    average_precision: float


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold that was chosen once and is then applied as it is, and what it did on the data that chose it.

    Its figures are those of the best of many thresholds on that data, so they are too good for any other. Choose it on
    validation cells; what it does is measured on test cells with `decide`.

    Args:
        name: what the point is called.
        threshold: scores from here up are abnormal; finite.
        rule: how it was chosen, in words ("sensitivity >= 0.95").
        sensitivity: on the data that chose it, 0 to 1.
        specificity: on the data that chose it, 0 to 1.
        n: number of cells (fields, patients) that chose it.

    Raises:
        CytodistillError: a value is of another kind or out of bounds.
    """

    name: str
    threshold: float
    rule: str
    sensitivity: float
    specificity: float
    n: int

    def __post_init__(self) -> None:
        for field in ("name", "rule"):
            if not isinstance(getattr(self, field), str):
                raise CytodistillError(f"operating point: {field}={getattr(self, field)!r} is no text")
        for field, low, high in (("threshold", -np.inf, np.inf), ("sensitivity", 0, 1), ("specificity", 0, 1)):
            value = getattr(self, field)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not np.isfinite(value) or not low <= value <= high:
                bounds = "a finite number" if field == "threshold" else "a number from 0 to 1"
                raise CytodistillError(f"operating point: {field}={value!r} is not {bounds}; choose the point again")
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 1:
            raise CytodistillError(f"operating point: n={self.n!r} is no count of at least 1; choose the point again")

    def to_json(self) -> str:
        """One JSON object; `from_json` gives the same point back, the threshold to the last bit."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> OperatingPoint:
        """The point written by `to_json`.

        Raises:
            CytodistillError: it is no JSON object with these fields and no others, or a value is out of bounds.
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            raise CytodistillError(f"operating point: not JSON ({reason(error)}); choose and save it again") from None
        wanted = {field.name for field in fields(cls)}
        if not isinstance(found, dict) or set(found) != wanted:
            raise CytodistillError(
                f"operating point: not an object with the fields {', '.join(sorted(wanted))}; choose and save it again"
            )
        return cls(**found)


def checked_rows(probabilities: ArrayLike, name: str, dimensions: int = 2) -> NDArray[np.float64]:
    """Probabilities of shape (N, …, C) as floats, whose last axis sums to 1 within 0.001.

    Args:
        probabilities: the array.
        name: what the error begins with.
        dimensions: number of its axes.

    Raises:
        CytodistillError: the shape is another, there are no cells, or a cell's values are not finite or not normalised.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != dimensions or not p.size:
        wanted = "(cells, classes)" if dimensions == 2 else "(cells, exits, classes)"
        raise CytodistillError(f"{name}: probabilities have shape {p.shape}; give {wanted}, with at least one of each")
    # NaN fails every comparison, so it counts as wrong here.
    right = (np.abs(p.sum(axis=-1) - 1) <= SUM_TOLERANCE) & (p >= 0).all(axis=-1)
    if not right.all():
        cell = int(np.argwhere(~right)[0, 0])
        raise CytodistillError(
            f"{name}: the probabilities of cell {cell} are not at least 0 with sum 1; apply softmax to logits"
        )
    return p


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


def roc(scores: ArrayLike, labels: ArrayLike) -> Roc:
    """The ROC curve at every distinct score, and the area under it.

    Args:
        scores: (N,) finite; larger is more abnormal.
        labels: (N,) bool (or 0 and 1), True where abnormal.

    Raises:
        CytodistillError: shapes disagree, scores are not finite, labels are no truth values, or all are of one class.
    """
    s, y = _checked(scores, labels)
    thresholds, hits, alarms = _counts(s, y)
    abnormal, normal = hits[-1], alarms[-1]
    return Roc(thresholds, hits / abnormal, (normal - alarms) / normal, float(roc_auc_score(y, s)))


def precision_recall(scores: ArrayLike, labels: ArrayLike) -> PrecisionRecall:
    """The precision–recall curve at every distinct score, and its average precision.

    Args and Raises: as `roc`.
    """
    s, y = _checked(scores, labels)
    precision, sensitivity, thresholds = precision_recall_curve(y, s)
    falling = np.append(thresholds, np.inf)[::-1]
    return PrecisionRecall(falling, precision[::-1], sensitivity[::-1], float(average_precision_score(y, s)))


def sensitivity_at(scores: ArrayLike, labels: ArrayLike, specificity: float) -> float:
    """The largest sensitivity of all thresholds whose specificity on these cells is at least the one given.

    It is that of the lowest such threshold. Where only +∞ reaches the specificity, the sensitivity is 0.

    Args:
        scores: as `roc`.
        labels: as `roc`.
        specificity: above 0, at most 1; compared with the exact fraction TN / (TN + FP).

    Raises:
        CytodistillError: as `roc`, or the specificity is out of bounds.

    Example:
        >>> sensitivity_at([0.1, 0.4, 0.4, 0.9], [False, False, True, True], specificity=0.9)
        0.5
    """
    _check_target("specificity", specificity)
    curve = roc(scores, labels)
    return float(curve.sensitivity[curve.specificity >= specificity].max())


def specificity_at(scores: ArrayLike, labels: ArrayLike, sensitivity: float) -> float:
    """The largest specificity of all thresholds whose sensitivity on these cells is at least the one given.

    It is that of the highest such threshold, which is always the score of an abnormal cell.

    Args:
        scores: as `roc`.
        labels: as `roc`.
        sensitivity: above 0, at most 1; compared with the exact fraction TP / (TP + FN).

    Raises:
        CytodistillError: as `roc`, or the sensitivity is out of bounds.
    """
    _check_target("sensitivity", sensitivity)
    curve = roc(scores, labels)
    return float(curve.specificity[curve.sensitivity >= sensitivity].max())


def choose_operating_point(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
    youden: bool = False,
    name: str | None = None,
) -> OperatingPoint:
    """The threshold that one rule picks on these cells, which must be validation cells, never the test's.

    - ``sensitivity=s``: of the thresholds with sensitivity ≥ s the highest, so the one with the largest specificity.
    - ``specificity=s``: of the thresholds with specificity ≥ s those with the largest sensitivity, and of these the
      highest.
    - ``youden=True``: the largest sensitivity + specificity − 1 (Youden, Cancer 3, 1950). Of equal ones the lowest
      threshold, the most sensitive: in screening a missed cell costs more than one looked at twice.

    The threshold is a score of these cells, and for the first two rules that of an abnormal cell.

    Args:
        scores: as `roc`.
        labels: as `roc`.
        sensitivity: above 0, at most 1.
        specificity: above 0, at most 1.
        youden: True takes that rule.
        name: of the point; by default the rule's ("sensitivity", "specificity", "youden").

    Raises:
        CytodistillError: as `roc`, not exactly one rule, a target out of bounds, or a specificity that is reached only
            where no abnormal cell is found.

    Example:
        >>> point = choose_operating_point([0.1, 0.6, 0.4, 0.9], [False, False, True, True], sensitivity=0.95)
        >>> point.threshold, point.sensitivity, point.specificity, point.rule
        (0.4, 1.0, 0.5, 'sensitivity >= 0.95')
    """
    if (sensitivity is not None) + (specificity is not None) + bool(youden) != 1:
        raise CytodistillError("operating point: give exactly one of sensitivity=…, specificity=… and youden=True")
    thresholds, hits, alarms = _counts(*_checked(scores, labels))
    abnormal, normal = hits[-1], alarms[-1]
    if sensitivity is not None:
        _check_target("sensitivity", sensitivity)
        kind, rule = "sensitivity", f"sensitivity >= {sensitivity:.12g}"
        at = int(np.argmax(hits / abnormal >= sensitivity))
    elif specificity is not None:
        _check_target("specificity", specificity)
        kind, rule = "specificity", f"specificity >= {specificity:.12g}"
        best = hits[(normal - alarms) / normal >= specificity].max()
        if not best:
            raise CytodistillError(
                f"operating point: specificity {specificity:g} is reached only where no abnormal cell is found; lower "
                "it or choose on more cells"
            )
        at = int(np.argmax(hits == best))
    else:
        kind, rule = "youden", "largest sensitivity + specificity - 1"
        # In whole numbers, so that equal ones are equal.
        gain = hits * normal - alarms * abnormal
        at = int(np.flatnonzero(gain == gain.max())[-1])
    return OperatingPoint(
        name=kind if name is None else name,
        threshold=float(thresholds[at]),
        rule=rule,
        sensitivity=float(hits[at] / abnormal),
        specificity=float((normal - alarms[at]) / normal),
        n=int(abnormal + normal),
    )


def decide(scores: ArrayLike, point: OperatingPoint) -> NDArray[np.bool_]:
    """(N,) True where the score is at or above the point's threshold: abnormal.

    Raises:
        CytodistillError: a score is not finite (a NaN would pass for normal), or they are not (N,).
    """
    return _finite(scores) >= point.threshold


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
    s = _finite(scores)
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


def truth_values(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """(N,) booleans, or the numbers 0 and 1, as booleans.

    Raises:
        CytodistillError: they are of another kind or shape, or there are none.
    """
    found = np.asarray(values)
    if found.ndim != 1 or not len(found):
        raise CytodistillError(f"{name} have shape {found.shape}; give one for each cell, and at least one cell")
    if found.dtype.kind not in "biu" or found.min() < 0 or found.max() > 1:
        raise CytodistillError(f"{name} are not all True or False (1 or 0); give one truth value for each cell")
    return found.astype(bool)


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


def _counts(
    s: NDArray[np.float64], y: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """(T + 1,) thresholds falling from +∞, and the abnormal and the normal cells at or above each."""
    false_rate, true_rate, thresholds = roc_curve(y, s, drop_intermediate=False)
    abnormal = y.sum()
    # Counts and not rates: 1 − FP / N is not always the float nearest to TN / N, and a target may be just that.
    hits, alarms = np.rint(true_rate * abnormal), np.rint(false_rate * (len(y) - abnormal))
    return thresholds, hits.astype(np.int64), alarms.astype(np.int64)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    s, y = _finite(scores), truth_values(labels, "screening: labels")
    if s.shape != y.shape:
        raise CytodistillError(f"screening: {len(s)} scores and {len(y)} labels do not fit; give one of each a cell")
    if y.all() or not y.any():
        raise CytodistillError(
            f"screening: all {len(y)} are {'abnormal' if y.all() else 'normal'}; sensitivity and specificity need both"
        )
    return s, y


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 1 or not np.isfinite(s).all():
        raise CytodistillError(f"screening: scores of shape {s.shape} are not one finite number for each cell")
    return s


def _grouped(groups: ArrayLike, cells: int) -> tuple[NDArray, NDArray[np.int64]]:
    found = np.asarray(groups)
    if found.shape != (cells,) or not cells:
        raise CytodistillError(
            f"screening: groups of shape {found.shape} do not fit {cells} cells; give one for each of at least one cell"
        )
    names, g = np.unique(found, return_inverse=True)
    return names, g


def _check_target(name: str, target: float) -> None:
    if not 0 < target <= 1:
        raise CytodistillError(f"screening: {name} {target} is outside 0 to 1; 0.95 is usual")
