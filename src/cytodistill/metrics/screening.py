"""The abnormal-against-normal view: scores, and the curves over all thresholds.

A cell's score is the probability that it is abnormal, and it is called abnormal where score ≥ threshold. Thresholds are
the distinct scores themselves and +∞ (nothing is abnormal), so cells of equal score always fall on the same side, and
no figure is interpolated between two thresholds. Sensitivity TP / (TP + FN) falls and specificity TN / (TN + FP) rises
with the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from cytodistill.metrics.checks import check_target, checked_scores
from cytodistill.metrics.thresholds import counts_at_thresholds


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


def roc(scores: ArrayLike, labels: ArrayLike) -> Roc:
    """The ROC curve at every distinct score, and the area under it.

    Args:
        scores: (N,) finite; larger is more abnormal.
        labels: (N,) bool (or 0 and 1), True where abnormal.

    Raises:
        CytodistillError: shapes disagree, scores are not finite, labels are no truth values, or all are of one class.
    """
    s, y = checked_scores(scores, labels)
    thresholds, hits, alarms = counts_at_thresholds(s, y)
    abnormal, normal = hits[-1], alarms[-1]
    return Roc(thresholds, hits / abnormal, (normal - alarms) / normal, float(roc_auc_score(y, s)))


def precision_recall(scores: ArrayLike, labels: ArrayLike) -> PrecisionRecall:
    """The precision–recall curve at every distinct score, and its average precision.

    Args and Raises: as `roc`.
    """
    s, y = checked_scores(scores, labels)
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
    check_target("specificity", specificity)
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
    check_target("sensitivity", sensitivity)
    curve = roc(scores, labels)
    return float(curve.specificity[curve.sensitivity >= sensitivity].max())
