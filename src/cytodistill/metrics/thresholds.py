"""What every threshold calls abnormal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def counts_at_thresholds(
    s: NDArray[np.float64], y: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """(T + 1,) thresholds falling from +∞ over the T distinct scores, and how many abnormal and normal cells are at or
    above each.

    Counts and not rates: 1 − FP / N is not always the float nearest to TN / N, and a target may be just that.

    Args:
        s: (N,) scores.
        y: (N,) whether each cell is abnormal.
    """
    thresholds = np.append(np.inf, np.unique(s)[::-1])
    hits, alarms = (len(of) - np.searchsorted(np.sort(of), thresholds) for of in (s[y], s[~y]))
    return thresholds, hits, alarms
