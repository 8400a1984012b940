"""Intervals of the figures of `metrics.calibration`, groups resampled; and what calibration errors are by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytodistill.metrics.calibration import BINS, bin_codes, brier, clipped_log, nll, overconfidence
from cytodistill.metrics.group_resampling import GroupResampling, quotient
from cytodistill.metrics.intervals import Interval


def losses(probabilities: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """(N,) −ln p of the true class, whose mean is the NLL."""
    return -clipped_log(probabilities[np.arange(len(labels)), labels])


def calibration_intervals(
    draws: GroupResampling, probabilities: NDArray, labels: NDArray
) -> dict[str, Interval | None]:
    """Of "accuracy", "nll", "brier" and "overconfidence"; None as `GroupResampling.interval`.

    The ECEs have none: see `errors_if_calibrated`.

    Args:
        draws: of the groups of the N cells.
        probabilities: (N, C).
        labels: (N,) codes.
    """
    right, confidence = probabilities.argmax(axis=1) == labels, probabilities.max(axis=1)
    distance = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    columns = [right, losses(probabilities, labels), distance, confidence - right, np.ones(len(labels))]
    drawn = draws.sums(np.stack(columns, axis=1).astype(float))
    hits, loss, square, excess = (quotient(drawn[:, k], drawn[:, -1]) for k in range(4))
    return {
        "accuracy": draws.interval(float(right.mean()), hits),
        "nll": draws.interval(nll(probabilities, labels), loss, scale="positive"),
        "brier": draws.interval(brier(probabilities, labels), square, scale="positive"),
        "overconfidence": draws.interval(overconfidence(probabilities, labels), excess, scale="plain"),
    }


def errors_if_calibrated(
    draws: GroupResampling, probabilities: NDArray, labels: NDArray, bins: int = BINS
) -> dict[str, float | None]:
    """ "ece" and "classwise_ece": what these figures stay below 95 times of 100 where probabilities are right and only
    chance, of cells as alike within their groups as these are, keeps the bins from the diagonal.

    A figure above it shows that probabilities are off; one below it does not show that they are right. None of one
    group. Args as `calibration_intervals`.
    """
    right, confidence = probabilities.argmax(axis=1) == labels, probabilities.max(axis=1)
    classes = probabilities.shape[1]
    own = np.eye(classes)[labels]
    by_class = bin_codes(probabilities, bins)[1] + bins * np.arange(classes)
    classwise = draws.error_if_calibrated(by_class, bins * classes, own - probabilities)
    return {
        "ece": draws.error_if_calibrated(bin_codes(confidence, bins)[1], bins, right - confidence),
        "classwise_ece": None if classwise is None else classwise / classes,
    }
