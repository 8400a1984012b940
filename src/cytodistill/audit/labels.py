"""Labels that the grouped arm's networks contradict on cells they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytodistill.audit.arms import Tested
from cytodistill.data.label_errors import find_label_errors
from cytodistill.data.table import CellTable


@dataclass(frozen=True)
class Doubts:
    """Likely label errors: ``frame`` one row a cell, worst first (path, window, group, label, suggested, score, row,
    seeds); ``judged`` how many cells were test cells of some seed, ``right`` the share of them whose label the networks
    agree with; ``noise`` the estimated share of wrong labels."""

    frame: pd.DataFrame
    judged: int
    right: float
    noise: float


def doubtful_labels(table: CellTable, runs: Sequence[Tested]) -> Doubts:
    """Confident learning (``find_label_errors``) on the mean test probabilities of each cell over the runs given.

    Only the grouped arm may stand here: a network that was trained on other cells of the group, let alone on a copy,
    has learnt to agree with its labels. ``score`` is the mean probability of the given label; ``seeds`` counts the runs
    that tested the cell, ``row`` is its row in the table.
    """
    rows, probabilities, times = mean_probabilities(len(table), runs)
    found = find_label_errors(probabilities, table.labels[rows])
    frame = found.to_frame(table, rows).drop(columns="split")
    chosen = rows[found.rows]
    right = float((probabilities.argmax(1) == table.labels[rows]).mean())
    return Doubts(frame.assign(seeds=times[found.rows], row=chosen), len(rows), right, found.noise)


def mean_probabilities(
    cells: int, runs: Sequence[Tested]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Rows that some run tested (n,), their mean probabilities (n, C), and how many runs tested each (n,)."""
    sums = np.zeros((cells, runs[0].probabilities.shape[1]))
    times = np.zeros(cells, np.int64)
    for run in runs:
        sums[run.rows] += run.probabilities
        times[run.rows] += 1
    rows = np.flatnonzero(times)
    return rows, sums[rows] / times[rows, None], times[rows]
