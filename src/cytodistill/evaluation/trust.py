"""How far a model's probabilities can be trusted: calibration, sets of classes, doubt, and the screening view, measured
on test cells with what the validation cells decided."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.data.class_map import ClassMap
from cytodistill.infer.fitted import Fitted, abnormality, voices
from cytodistill.metrics.calibration import Calibrator, brier, classwise_ece, ece, nll, reliability
from cytodistill.metrics.conformal import coverage_report, theoretical_band
from cytodistill.metrics.screening import (
    aggregate,
    decide,
    group_labels,
    precision_recall,
    roc,
    sensitivity_at,
    specificity_at,
)
from cytodistill.metrics.selective import aurc, coverage_at, doubt, e_aurc, failure_auroc, risk_coverage

CURVE_POINTS = 200
"""Points of a curve that are kept: a page of 20,000 cells stays small."""


def trust_report(
    fitted: Fitted,
    exit_probabilities: np.ndarray,
    ensemble: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: tuple[str, ...],
    class_map: ClassMap | None,
) -> dict[str, Any]:
    """{"fitted_on", "calibration", "conformal", "doubt", "screening"}, JSON-able.

    Args:
        fitted: from the run's validation cells.
        exit_probabilities: (N, E, C) of the test cells.
        ensemble: (N, C).
        labels: (N,) codes.
        groups: (N,) group of each cell.
        classes: the C names.
        class_map: says which classes are abnormal; without one there is no screening view.
    """
    spoken = voices(exit_probabilities, ensemble)
    names = [*(f"exit {number}" for number in range(1, len(spoken))), "ensemble"]
    calibrated = fitted.temperature[-1].calibrated(spoken[-1])
    return {
        "fitted_on": {"split": "val", "cells": fitted.cells, "groups": fitted.groups},
        "calibration": {
            name: {
                "raw": _calibration(Calibrator(), voice, labels),
                "temperature": _calibration(fitted.temperature[place], voice, labels),
                "vector": _calibration(fitted.vector[place], voice, labels),
            }
            for place, (name, voice) in enumerate(zip(names, spoken, strict=True))
        },
        "reliability": {
            "raw": reliability(ensemble, labels),
            "temperature": reliability(calibrated, labels),
        },
        "conformal": {
            name: {
                "asked_for": sets.coverage,
                "band": theoretical_band(fitted.cells, len(labels), sets.coverage),
                "unit": sets.unit,
                "always_included": [classes[code] for code in sets.always_included],
                **coverage_report(sets.sets(calibrated), labels, groups),
            }
            for name, sets in fitted.conformal.items()
        },
        "doubt": _doubt(exit_probabilities, calibrated, labels),
        "screening": _screening(fitted, calibrated, labels, groups, classes, class_map),
    }


def _calibration(calibrator: Calibrator, log_probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    probabilities = calibrator.calibrated(log_probabilities)
    return {
        "temperature": calibrator.temperature,
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "nll": nll(probabilities, labels),
        "brier": brier(probabilities, labels),
        "ece": ece(probabilities, labels),
        "classwise_ece": classwise_ece(probabilities, labels),
    }


def _doubt(exits: np.ndarray, calibrated: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Failure prediction of the ensemble by each kind of doubt, and of each exit by its own largest probability."""
    correct = calibrated.argmax(1) == labels
    kinds = {kind: doubt(calibrated, kind) for kind in ("max_probability", "entropy", "margin")}
    if exits.shape[1] > 1:
        kinds["disagreement"] = doubt(exits, "disagreement")
    found = {kind: _failures(values, correct) for kind, values in kinds.items()}
    of_exits = [
        _failures(doubt(exits[:, exit], "max_probability"), exits[:, exit].argmax(1) == labels)
        for exit in range(exits.shape[1])
    ]
    coverage, risk = risk_coverage(kinds["max_probability"], correct)
    kept = _spread(len(coverage))
    curve = {"coverage": coverage[kept].tolist(), "risk": risk[kept].tolist()}
    return {"ensemble": found, "exits": of_exits, "risk_coverage": curve}


def _failures(values: np.ndarray, correct: np.ndarray) -> dict[str, float | None]:
    return {
        "auroc": failure_auroc(values, correct),
        "aurc": aurc(values, correct),
        "e_aurc": e_aurc(values, correct),
        "coverage_at_5_percent_risk": coverage_at(values, correct, 0.05),
    }


def _screening(
    fitted: Fitted,
    calibrated: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: tuple[str, ...],
    class_map: ClassMap | None,
) -> dict[str, Any] | None:
    if class_map is None:
        return None
    scores, abnormal = abnormality(class_map, calibrated, labels, classes)
    if abnormal.all() or not abnormal.any():
        return None
    curve, precision = roc(scores, abnormal), precision_recall(scores, abnormal)
    kept, also = _spread(len(curve.sensitivity)), _spread(len(precision.precision))
    names, truth = group_labels(abnormal, groups)
    fields: dict[str, Any] | None = None
    if truth.any() and not truth.all():
        fields = {"groups": len(names), "abnormal": int(truth.sum())}
        for how, k in (("max", None), ("top_k_mean", 3), ("noisy_or", None)):
            fields[how] = {"auc": roc(aggregate(np.clip(scores, 0, 1), groups, how, k)[1], truth).auc}
    return {
        "class_map": f"{class_map.name} v{class_map.version}",
        "abnormal_classes": [name for name in classes if class_map.classes[name] in class_map.abnormal],
        "cells": len(abnormal),
        "abnormal": int(abnormal.sum()),
        "auc": curve.auc,
        "average_precision": precision.average_precision,
        "sensitivity_at_specificity": {f"{s:g}": sensitivity_at(scores, abnormal, s) for s in (0.9, 0.95)},
        "specificity_at_sensitivity": {f"{s:g}": specificity_at(scores, abnormal, s) for s in (0.9, 0.95)},
        "roc": {"sensitivity": curve.sensitivity[kept].tolist(), "specificity": curve.specificity[kept].tolist()},
        "precision_recall": {
            "precision": precision.precision[also].tolist(),
            "sensitivity": precision.sensitivity[also].tolist(),
        },
        "operating_points": [
            {
                "name": point.name,
                "threshold": point.threshold,
                "on_validation": {"sensitivity": point.sensitivity, "specificity": point.specificity, "n": point.n},
                "sensitivity": float(decide(scores, point)[abnormal].mean()),
                "specificity": float((~decide(scores, point)[~abnormal]).mean()),
            }
            for point in fitted.points
        ],
        "fields": fields,
    }


def _spread(points: int) -> np.ndarray:
    """Indices of at most CURVE_POINTS points, the ends among them."""
    return np.unique(np.linspace(0, points - 1, min(points, CURVE_POINTS)).round().astype(int))


def trust_lines(metrics: dict[str, Any]) -> list[str]:
    """What of a report's "trust" is worth a line on the screen: calibration, sets, doubt, the screening view. None
    where the run had no validation cells."""
    trust = metrics.get("trust")
    if not trust:
        return []
    raw, scaled = (trust["calibration"]["ensemble"][kind] for kind in ("raw", "temperature"))
    verdict = "lowers" if scaled["nll"] < raw["nll"] else "does not lower"
    sets = trust["conformal"]["lac-0.9-by-group"]
    lines = [
        f"Calibration: temperature {scaled['temperature']:.2f} {verdict} NLL, {raw['nll']:.3f} to {scaled['nll']:.3f}; "
        f"ECE {100 * raw['ece']:.1f} to {100 * scaled['ece']:.1f} %",
        f"Sets for 90 %: hold the true class of {100 * sets['coverage']:.1f} % of the cells, "
        f"{sets['mean_size']:.1f} classes each",
    ]
    failure = trust["doubt"]["ensemble"]["max_probability"]["auroc"]
    if failure is not None:
        lines.append(f"Doubt: wrong answers are told from right ones with an AUROC of {100 * failure:.1f} %")
    if view := trust["screening"]:
        at = ", ".join(
            f"{100 * value:.1f} % at {100 * float(of):.0f} %"
            for of, value in view["specificity_at_sensitivity"].items()
        )
        lines.append(f"Abnormal, by {view['class_map']}: AUC {100 * view['auc']:.1f} %, specificity {at} sensitivity")
    return lines
