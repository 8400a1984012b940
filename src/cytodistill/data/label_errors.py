"""Likely label errors, by confident learning: cells whose label a model that has not seen them contradicts.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021. The
probabilities must be out of fold: a model that was trained on a wrong label has learnt to agree with it.

Own code and not cleanlab, the authors' library: the method is the forty lines below, as much as a wrapper round the
library would take, and needs NumPy alone. The tests compare it with the library where that is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytodistill.data.table import BOX, CellTable
from cytodistill.errors import CytodistillError

Rule = Literal["confident_joint", "class", "noise_rate", "both"]
Rank = Literal["self_confidence", "margin"]


@dataclass(frozen=True)
class LabelErrors:
    """Findings of ``find_label_errors``; labels are codes, C classes."""

    rows: NDArray[np.int64]
    """(n,) cells whose label is likely wrong, worst first."""
    suggested: NDArray[np.int64]
    """(n,) the class that the model thinks likeliest; never the label itself."""
    score: NDArray[np.float64]
    """(n,) what they are ranked by, lowest first."""
    thresholds: NDArray[np.float64]
    """(C,) t_j, the mean confidence in class j of the cells labelled j; NaN where there are none."""
    confident_joint: NDArray[np.int64]
    """(C, C) cells labelled i (row) that are confidently of class j (column)."""
    joint: NDArray[np.float64]
    """(C, C) estimated share of cells labelled i that truly are of class j; of sum one."""

    @property
    def noise(self) -> float:
        """Estimated share of wrong labels: what lies off the joint's diagonal."""
        return float(self.joint.sum() - np.trace(self.joint))

    def to_frame(self, table: CellTable, indices: NDArray[np.integer] | None = None) -> pd.DataFrame:
        """One row a finding, worst first: path, window (where the table has some), group, split, label, suggested,
        score. ``indices`` are the table's rows that the probabilities were of (default: all)."""
        positions = np.arange(len(table)) if indices is None else np.asarray(indices)
        rows = table.frame.iloc[positions[self.rows]].reset_index(drop=True)
        boxed = [column for column in BOX if rows[column].notna().any()]
        names = np.array(table.classes, dtype=object)
        chosen = rows[["path", *boxed, "group", "split", "label"]]
        return chosen.assign(suggested=names[self.suggested], score=self.score)


def find_label_errors(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    rule: Rule = "noise_rate",
    rank: Rank = "self_confidence",
) -> LabelErrors:
    """Cells whose label is likely wrong.

    With p(j; x) the probability of class j and X_i the cells labelled i:

    - t_j = mean of p(j; x) over X_j: how sure the model is of class j where it should be;
    - a cell is confidently of class j = argmax of p(l; x) over the classes with p(l; x) ≥ t_l, of none where there is
      no such class; C[i, j] counts the cells of X_i that are confidently of class j;
    - Q[i, j] ∝ C[i, j] / Σ_j C[i, j] · |X_i|, of sum one: the joint distribution of labels and true classes.

    Which cells are taken (``rule``):

    - ``confident_joint``: those counted off the diagonal of C;
    - ``class``: of each X_i the n · Σ_{j≠i} Q[i, j] cells of the lowest p(i; x);
    - ``noise_rate``: of each X_i and j ≠ i the n · Q[i, j] cells of the largest p(j; x) − p(i; x);
    - ``both``: those that ``class`` and ``noise_rate`` take.

    Numbers of cells are rounded to the nearest whole. A cell of which the label is the likeliest class is never taken:
    the thresholds differ between classes, so the rules as published can name such cells too, and there is nothing to
    put in the label's place. Ties go to the cell that stands first.

    Args:
        probabilities: (N, C) out-of-fold probabilities, rows of sum one.
        labels: (N,) codes; -1 where a label is not known: such cells play no part.
        rule: see above.
        rank: worst first by ``self_confidence``, p(label; x), or by ``margin``, p(label; x) less the highest other
            probability.

    Raises:
        CytodistillError: shapes that do not match, rows that are no probabilities, a label that has no column, no
            labels at all, or an unknown rule.
    """
    if rule not in get_args(Rule):
        raise CytodistillError(f"rule={rule!r}: not known; there are {', '.join(get_args(Rule))}")
    if rank not in get_args(Rank):
        raise CytodistillError(f"rank={rank!r}: not known; there are {', '.join(get_args(Rank))}")
    p, given = _checked(probabilities, labels)
    known = np.flatnonzero(given >= 0)
    p, given = p[known], given[known]
    classes = p.shape[1]
    of_class = given[:, None] == np.arange(classes)
    size = of_class.sum(axis=0)
    thresholds = np.array([p[of_class[:, j], j].mean() if size[j] else np.nan for j in range(classes)])
    # The mean of equal numbers can exceed them by a rounding; a class that no cell is labelled has no threshold.
    confident = p >= np.where(size > 0, thresholds - 1e-12, np.inf)
    true = np.where(confident.any(axis=1), np.where(confident, p, -1).argmax(axis=1), -1)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (given[true >= 0], true[true >= 0]), 1)
    joint = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * size[:, None]
    joint /= joint.sum()

    self_confidence = p[np.arange(len(p)), given]
    chosen = _chosen(rule, p, given, true, joint)
    highest = p.argmax(axis=1)
    chosen &= p[np.arange(len(p)), highest] > self_confidence
    score = self_confidence if rank == "self_confidence" else self_confidence - np.where(of_class, -1, p).max(axis=1)
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(score[rows], kind="stable")]
    return LabelErrors(known[rows], highest[rows], score[rows], thresholds, counts, joint)


def _chosen(rule: Rule, p: NDArray, given: NDArray, true: NDArray, joint: NDArray) -> NDArray[np.bool_]:
    """(N,) what the rule takes."""
    if rule == "confident_joint":
        return (true >= 0) & (true != given)
    wanted = _whole(joint * len(p))
    by_class, by_noise_rate = np.zeros(len(p), bool), np.zeros(len(p), bool)
    for i in range(len(joint)):
        cells = np.flatnonzero(given == i)
        least = np.argsort(p[cells, i], kind="stable")
        by_class[cells[least[: _whole(len(p) * (joint[i].sum() - joint[i, i]))]]] = True
        for j in range(len(joint)):
            if j != i:
                contradicted = np.argsort(p[cells, i] - p[cells, j], kind="stable")
                by_noise_rate[cells[contradicted[: wanted[i, j]]]] = True
    return {"class": by_class, "noise_rate": by_noise_rate, "both": by_class & by_noise_rate}[rule]


def _whole(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """The nearest whole numbers, halves upwards also where a rounding left them just below."""
    return np.floor(numbers + (0.5 + 1e-9)).astype(np.int64)


def _checked(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, given = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 2 or p.shape[1] < 2 or given.shape != (len(p),):
        raise CytodistillError(
            f"label errors: probabilities of shape {p.shape} for labels of shape {given.shape}; give (N, C) with 2 "
            "classes or more, and (N,)"
        )
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise CytodistillError(
            "label errors: the rows are no probabilities (from 0 to 1, of sum 1); give the softmax of every cell by "
            "the fold that has not seen it"
        )
    if not np.issubdtype(given.dtype, np.integer) or (given < -1).any() or (given >= p.shape[1]).any():
        raise CytodistillError(
            f"label errors: labels must be codes from 0 to {p.shape[1] - 1}, or -1 for none; give the table's labels"
        )
    if not (given >= 0).any():
        raise CytodistillError("label errors: no cell has a label; there is nothing to check")
    return p, given.astype(np.int64)
