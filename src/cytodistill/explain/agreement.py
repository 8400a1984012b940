"""Do a network's exits say the same, from which one on, and do they look at the same places?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class Agreement:
    """Of N cells: ``predicted`` (N, E) codes of what each exit says; ``settled`` (N,) the first exit, from 0, from
    which on all say what the deepest says; ``agreeing`` (N,) the share of the E exits that say what the deepest says.
    """

    predicted: np.ndarray
    settled: np.ndarray
    agreeing: np.ndarray


def exit_agreement(probabilities: np.ndarray) -> Agreement:
    """Agreement of (N, E, C) probabilities, exits shallow → deep.

    Example:
        >>> found = exit_agreement(np.array([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]]))
        >>> found.predicted.tolist(), found.settled.tolist(), found.agreeing.tolist()
        ([[0, 1, 0, 0]], [2], [0.75])
    """
    predicted = probabilities.argmax(axis=2)
    same = predicted == predicted[:, -1:]
    stays = np.logical_and.accumulate(same[:, ::-1], axis=1)[:, ::-1]
    return Agreement(predicted, stays.argmax(axis=1), same.mean(axis=1))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of maps (..., H, W) with their partners, (...): of ranks, ties at their mean; NaN where a
    map is the same everywhere."""
    ranks = []
    for maps in np.broadcast_arrays(first, second):
        flat = rankdata(maps.reshape(*maps.shape[:-2], -1), axis=-1)
        flat -= flat.mean(axis=-1, keepdims=True)
        ranks.append(flat)
    one, other = ranks
    length = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    return np.divide((one * other).sum(-1), length, out=np.full(length.shape, np.nan), where=length > 0)


def map_correlations(maps: np.ndarray) -> np.ndarray:
    """(N, E, H, W) maps → (N, E, E) rank correlations of each exit's map with each other's."""
    return rank_correlation(maps[:, :, None], maps[:, None, :])
