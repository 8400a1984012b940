"""Intervals of the figures of `metrics.screening` beside the area under the ROC curve, groups resampled."""

from __future__ import annotations

from numpy.typing import NDArray

from cytodistill.metrics.group_resampling import GroupResampling
from cytodistill.metrics.intervals import Interval
from cytodistill.metrics.screening import precision_recall, roc, sensitivity_at, specificity_at


def average_precision_interval(draws: GroupResampling, scores: NDArray, own: NDArray) -> Interval | None:
    """Of the average precision of (N,) scores for the cells that are ``own``; None as `GroupResampling.interval`."""
    value = precision_recall(scores, own).average_precision
    return draws.interval(value, draws.average_precision(scores, own), own)


def area_interval(draws: GroupResampling, scores: NDArray, own: NDArray) -> Interval | None:
    """Of the area under the ROC curve, as `average_precision_interval`."""
    return draws.interval(roc(scores, own).auc, draws.area(scores, own), own)


def sensitivity_interval(
    draws: GroupResampling, scores: NDArray, abnormal: NDArray, specificity: float
) -> Interval | None:
    """Of the sensitivity at this specificity, where every resample finds a threshold of its own."""
    value = sensitivity_at(scores, abnormal, specificity)
    return draws.interval(value, draws.best_rate(scores, abnormal, specificity), abnormal)


def specificity_interval(
    draws: GroupResampling, scores: NDArray, abnormal: NDArray, sensitivity: float
) -> Interval | None:
    """Of the specificity at this sensitivity, as `sensitivity_interval`."""
    value = specificity_at(scores, abnormal, sensitivity)
    return draws.interval(value, draws.best_rate(-scores, ~abnormal, sensitivity), ~abnormal)
