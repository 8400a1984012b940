"""The abnormal-against-normal view of judged cells: curves, what the operating points do, and whole fields."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.applied import Screened
from cytodistill.evaluation.intervals import area_interval, share_interval
from cytodistill.metrics.group_decision import AGGREGATED, FEW, aggregate, group_labels
from cytodistill.metrics.screening import precision_recall, roc, sensitivity_at, specificity_at

CURVE_POINTS = 200
"""Points of a curve that are kept: a page of 20,000 cells stays small."""
FIXED = (0.9, 0.95)
"""Specificities at which the sensitivity is told, and the reverse."""


def screening_view(screened: Screened | None, groups: np.ndarray) -> dict[str, Any] | None:
    """JSON-able; None without a class map, or where the cells are all abnormal, or none is.

    Args:
        screened: the scores, the truth, and what the operating points call.
        groups: (N,) group of each cell.
    """
    if screened is None or screened.abnormal.all() or not screened.abnormal.any():
        return None
    scores, abnormal = np.clip(screened.scores, 0, 1), screened.abnormal
    curve, precision = roc(scores, abnormal), precision_recall(scores, abnormal)
    kept, also = spread(len(curve.sensitivity)), spread(len(precision.precision))
    return {
        "class_map": screened.class_map,
        "abnormal_classes": list(screened.abnormal_classes),
        "cells": len(abnormal),
        "abnormal": int(abnormal.sum()),
        "auc": curve.auc,
        "auc_interval": area_interval(scores, abnormal, groups),
        "average_precision": precision.average_precision,
        "sensitivity_at_specificity": {f"{s:g}": sensitivity_at(scores, abnormal, s) for s in FIXED},
        "specificity_at_sensitivity": {f"{s:g}": specificity_at(scores, abnormal, s) for s in FIXED},
        "roc": {"sensitivity": curve.sensitivity[kept].tolist(), "specificity": curve.specificity[kept].tolist()},
        "precision_recall": {
            "precision": precision.precision[also].tolist(),
            "sensitivity": precision.sensitivity[also].tolist(),
        },
        "operating_points": [
            {"name": name, **_chosen(screened.points[name]), **_done(called, abnormal, groups)}
            for name, called in screened.called.items()
        ],
        "fields": _fields(screened, scores, abnormal, groups),
    }


def spread(points: int) -> np.ndarray:
    """Indices of at most CURVE_POINTS points, the ends among them."""
    return np.unique(np.linspace(0, points - 1, min(points, CURVE_POINTS)).round().astype(int))


def _chosen(by_runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A point's threshold and what it did on the cells that chose it; over several folds, of each."""
    return by_runs[0] if len(by_runs) == 1 else {"folds": by_runs}


def _done(called: np.ndarray, abnormal: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """What a point does on the judged cells."""
    right = called == abnormal
    return {
        "sensitivity": float(right[abnormal].mean()),
        "sensitivity_interval": share_interval(right[abnormal], groups[abnormal]),
        "specificity": float(right[~abnormal].mean()),
        "specificity_interval": share_interval(right[~abnormal], groups[~abnormal]),
    }


def _fields(screened: Screened, scores: np.ndarray, abnormal: np.ndarray, groups: np.ndarray) -> dict[str, Any] | None:
    """Whole groups judged: areas, what the operating points of groups do, and "few" where there are too few groups of a
    kind to say much; None where all are abnormal, or none is."""
    names, truth = group_labels(abnormal, groups)
    if truth.all() or not truth.any():
        return None
    normal = int((~truth).sum())
    found: dict[str, Any] = {"groups": len(names), "abnormal": len(truth) - normal, "normal": normal}
    for _, how, k in AGGREGATED:
        found[how] = {"auc": roc(aggregate(scores, groups, how, k)[1], truth).auc}
    found["points"] = [
        {"name": name, **_chosen(by_runs), **_done(called, truth, names)}
        for name, by_runs in screened.group_points.items()
        if (called := _called(screened, name, scores, groups)) is not None
    ]
    few = [
        f"{count} of the {len(truth)} groups {'is' if count == 1 else 'are'} {kind}"
        for kind, count in (("abnormal", len(truth) - normal), ("normal", normal))
        if count < FEW
    ]
    found["few"] = f"only {few[0]}: a share of so few says next to nothing" if few else None
    return found


def _called(screened: Screened, name: str, scores: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """(G,) whether each group is called abnormal, names sorted; None where cells of one group are judged by several
    folds, whose thresholds differ."""
    first, of = np.unique(groups, return_index=True, return_inverse=True)[1:]
    thresholds = screened.group_thresholds[name]
    if (thresholds != thresholds[first][of]).any():
        return None
    how, k = (screened.group_points[name][0][key] for key in ("how", "k"))
    return aggregate(scores, groups, how, k)[1] >= thresholds[first]
