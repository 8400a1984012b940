"""Scores, and what they come to when they are counted one by one."""

from __future__ import annotations

import numpy as np


def case(seed: int, cells: int = 60, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores that lean to the label, both classes present; rounded to a few levels they hold ties."""
    random = np.random.default_rng(seed)
    y = random.random(cells) < 0.4
    y[:2] = [True, False]
    s = 1 / (1 + np.exp(-random.normal(y * 1.2)))
    return (s if levels is None else np.round(s * levels) / levels), y


def counted(s: np.ndarray, y: np.ndarray) -> list[tuple[float, float, float]]:
    """(threshold, sensitivity, specificity) of every distinct score and of +∞, counted one by one."""
    return [
        (t, sum(s[y] >= t) / sum(y), sum(s[~y] < t) / sum(~y)) for t in [np.inf, *sorted(set(s.tolist()), reverse=True)]
    ]
