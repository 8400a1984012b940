"""Early exit by confidence thresholds, as SCAN answers (Zhang et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytodistill.errors import CytodistillError

CONFIDENCE_THRESHOLDS = (0.98, 0.97, 0.98, 0.95)
"""SCAN's own, of four exits, shallow → deep."""


def scan_answer(
    probabilities: np.ndarray, thresholds: Sequence[float] = CONFIDENCE_THRESHOLDS
) -> tuple[np.ndarray, np.ndarray]:
    """The first exit whose largest probability exceeds its threshold answers; where none does, their mean, eq. 7.

    Example:
        >>> answers, used = scan_answer(np.array([[[0.6, 0.4], [0.9, 0.1]], [[0.6, 0.4], [0.5, 0.5]]]), (0.7, 0.8))
        >>> answers.tolist(), used.tolist()
        ([[0.9, 0.1], [0.55, 0.45]], [1, 2])

    Args:
        probabilities: (N, E, C) of the exits, shallow → deep.
        thresholds: E confidences from 0 to 1. No probability exceeds 1, so such an exit never answers alone.

    Returns:
        Answers (N, C) in the probabilities' own type, and the exit used (N,), from 0; E where it is the ensemble.

    Raises:
        CytodistillError: not one threshold an exit, or one that is no confidence.
    """
    exits = probabilities.shape[1]
    if len(thresholds) != exits:
        raise CytodistillError(f"thresholds={tuple(thresholds)}: the network has {exits} exits; give {exits} of them")
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise CytodistillError(f"thresholds={tuple(thresholds)}: {threshold} is no confidence; give 0 to 1")
    limits = np.asarray(thresholds, dtype=probabilities.dtype)
    confident = probabilities.max(axis=2) > limits
    used = np.where(confident.any(axis=1), confident.argmax(axis=1), exits)
    choices = np.concatenate([probabilities, probabilities.mean(axis=1, keepdims=True)], axis=1)
    return choices[np.arange(len(used)), used], used
