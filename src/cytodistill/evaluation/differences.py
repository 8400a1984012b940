"""How far one model is from another on the same cells, figure by figure: with intervals over groups, or over folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cytodistill.errors import CytodistillError
from cytodistill.evaluation.intervals import AUC_RESAMPLES
from cytodistill.metrics.auc_interval import resampled_areas
from cytodistill.metrics.calibration import clipped_log, nll
from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.intervals import (
    Difference,
    draw_groups,
    figure_differences,
    group_tallies,
    paired_group_bootstrap,
)
from cytodistill.metrics.paired import CorrectedT, nadeau_bengio
from cytodistill.metrics.standard_error import TIE, effective_groups, mostly_defined, p_of_no_difference, plain_ends

SHARES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "auc")
FIGURES = (*SHARES, "nll")
"""What is compared: shares, of which more is better, and the mean −ln p of the true class, of which less is."""

ROUNDING = 1e-5
"""Probabilities that are nowhere further apart are the same answers."""


@dataclass(frozen=True)
class Answered:
    """Answers to N cells: ``probabilities`` (N, C) of the ensemble, ``labels`` (N,) codes, ``groups`` (N,) names, and
    the number of cells that ``trained`` the model."""

    probabilities: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    trained: int

    @property
    def correct(self) -> np.ndarray:
        """(N,) whether the most probable class is the true one."""
        return self.probabilities.argmax(1) == self.labels


def figures_of(answered: Answered) -> dict[str, float | None]:
    """``FIGURES`` of a model; None for one that these cells do not define."""
    classes = [str(code) for code in range(answered.probabilities.shape[1])]
    found = classification_metrics(answered.probabilities, answered.labels, classes)
    return {**{name: found[name] for name in SHARES}, "nll": nll(answered.probabilities, answered.labels)}


def group_differences(first: Answered, second: Answered) -> dict[str, Difference]:
    """``first`` − ``second`` in the figures that both define, the same groups drawn for both.

    Args:
        first: a model's answers.
        second: the other's, cell by cell the same.

    Raises:
        CytodistillError: fewer than two groups, or the cells are not the same.
    """
    classes = first.probabilities.shape[1]
    ours, theirs = (group_tallies(of.labels, of.probabilities.argmax(1), of.groups, classes) for of in (first, second))
    found = figure_differences([ours], [theirs])
    if (area := auc_difference(first, second)) is not None:
        found["auc"] = area
    # Two runtimes of one network differ in the last digits, and ever the same way: a test would find that.
    same = np.allclose(first.probabilities, second.probabilities, rtol=0, atol=ROUNDING)
    models = (second, second) if same else (first, second)
    losses = [-clipped_log(of.probabilities[np.arange(len(of.labels)), of.labels]) for of in models]
    found["nll"] = paired_group_bootstrap(
        lambda rows: float(losses[0][rows].mean()),
        lambda rows: float(losses[1][rows].mean()),
        first.groups,
        resamples=AUC_RESAMPLES,
    )
    return {name: found[name] for name in FIGURES if name in found}


def auc_difference(first: Answered, second: Answered, seed: int = 0) -> Difference | None:
    """`paired_group_bootstrap` of the macro one-vs-rest AUC, by the weighted cumulative sums of `auc_interval`.

    None where one class alone has cells, or most resamples hold one class.
    """
    labels, drawn_from = first.labels, np.unique(first.groups, return_inverse=True)[1]
    values = [figures_of(of)["auc"] for of in (first, second)]
    if values[0] is None or values[1] is None:
        return None
    drawn = draw_groups(int(drawn_from.max()) + 1, AUC_RESAMPLES, seed)
    # A class of which a resample holds all cells or none has no area in either model.
    each = np.array(
        [
            [resampled_areas(of.probabilities[:, code], labels == code, drawn_from, drawn) for of in (first, second)]
            for code in np.unique(labels)
        ]
    )
    known = np.isfinite(each[:, 0]).sum(axis=0)
    total = np.nansum(each[:, 0] - each[:, 1], axis=0)
    less = np.divide(total, known, out=np.full(len(total), np.nan), where=known > 0)
    if not mostly_defined(less):
        return None
    less = np.where(np.abs(less) < TIE, 0.0, less)
    value = values[0] - values[1]
    value = 0.0 if abs(value) < TIE else value
    groups = effective_groups(np.bincount(drawn_from))
    low, high = plain_ends(value, less, groups)
    return Difference(value, max(low, -1.0), min(high, 1.0), p_of_no_difference(value, less, groups))


def fold_differences(first: Sequence[Answered], second: Sequence[Answered]) -> dict[str, CorrectedT]:
    """``first`` − ``second`` by the corrected resampled t-test over folds, in the figures that every fold defines.

    A figure whose differences are all the same and not 0 has no test and is left out.

    Args:
        first: a model's answers, fold by fold.
        second: the other's, on the same folds.
    """
    ours, theirs = ([figures_of(fold) for fold in of] for of in (first, second))
    n_train = float(np.mean([fold.trained for fold in first]))
    n_test = float(np.mean([len(fold.labels) for fold in first]))
    found = {}
    for name in FIGURES:
        pairs = [(one[name], other[name]) for one, other in zip(ours, theirs, strict=True)]
        less = [one - other for one, other in pairs if one is not None and other is not None]
        if len(less) == len(pairs):
            try:
                found[name] = nadeau_bengio(less, n_train, n_test)
            except CytodistillError:
                continue  # no spread over the folds
    return found
