"""How far a model's probabilities can be trusted: calibration, sets of classes, doubt, and the screening view, measured
on test cells with what the validation cells decided."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.applied import Applied
from cytodistill.evaluation.intervals import mean_interval
from cytodistill.evaluation.screening_view import screening_view, spread
from cytodistill.evaluation.sets_view import sets_view
from cytodistill.evaluation.statements import calibration_statement, sets_statement
from cytodistill.metrics.calibration import brier, classwise_ece, clipped_log, ece, nll, reliability
from cytodistill.metrics.selective import aurc, coverage_at, doubt, e_aurc, failure_auroc, risk_coverage

SETS = "lac-0.9-by-group"
"""The conformal sets that are spoken of first: what they promise holds for cells of new groups."""


def trust_report(
    applied: Applied, exit_probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any]:
    """{"fitted_on", "calibration", "nll_change", "reliability", "conformal", "doubt", "screening", "statements"},
    JSON-able.

    "nll_change" is of the ensemble, after less before, with its interval over groups: below 0 where scaling helped.

    Args:
        applied: what the validation cells decided, applied to the N cells.
        exit_probabilities: (N, E, C) of the cells, as the network said them.
        labels: (N,) codes.
        groups: (N,) group of each cell.
        classes: the C names.
    """
    calibration = {
        voice: {
            kind: {"temperature": _one_or_all(applied.temperatures[voice][kind]), **_calibration(probabilities, labels)}
            for kind, probabilities in kinds.items()
        }
        for voice, kinds in applied.calibrated.items()
    }
    change = _nll_changes(applied.calibrated["ensemble"], labels, groups)
    conformal = sets_view(applied, labels, groups, classes)
    return {
        "fitted_on": applied.fitted_on[0] if len(applied.fitted_on) == 1 else list(applied.fitted_on),
        "calibration": calibration,
        "nll_change": change,
        "reliability": {
            kind: reliability(applied.calibrated["ensemble"][kind], labels) for kind in ("raw", "temperature")
        },
        "conformal": conformal,
        "doubt": _doubt(exit_probabilities, applied.ensemble, labels),
        "screening": screening_view(applied.screened, groups),
        "statements": {
            "calibration": calibration_statement(calibration["ensemble"], change),
            "conformal": {name: sets_statement(kind, classes) for name, kind in conformal.items()},
        },
    }


def _one_or_all(values: tuple[float, ...]) -> float | list[float]:
    return values[0] if len(values) == 1 else list(values)


def _calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "nll": nll(probabilities, labels),
        "brier": brier(probabilities, labels),
        "ece": ece(probabilities, labels),
        "classwise_ece": classwise_ece(probabilities, labels),
    }


def _nll_changes(kinds: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Of each scaling, what it adds to the mean −ln p of the true class."""
    logs = {kind: clipped_log(probabilities[np.arange(len(labels)), labels]) for kind, probabilities in kinds.items()}
    found = {}
    for kind in ("temperature", "vector"):
        change = logs["raw"] - logs[kind]
        found[kind] = {"value": float(change.mean()), "interval": mean_interval(change, groups)}
    return found


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
    kept = spread(len(coverage))
    curve = {"coverage": coverage[kept].tolist(), "risk": risk[kept].tolist()}
    return {"ensemble": found, "exits": of_exits, "risk_coverage": curve}


def _failures(values: np.ndarray, correct: np.ndarray) -> dict[str, float | None]:
    return {
        "auroc": failure_auroc(values, correct),
        "aurc": aurc(values, correct),
        "e_aurc": e_aurc(values, correct),
        "coverage_at_5_percent_risk": coverage_at(values, correct, 0.05),
    }


def trust_lines(metrics: dict[str, Any]) -> list[str]:
    """What is worth a line on the screen beside the table: why there are no intervals, calibration, sets, doubt, the
    screening view, and what makes the figures too good."""
    lines = [metrics[note] for note in ("no_intervals", "shared_groups", "no_trust") if metrics.get(note)]
    trust = metrics.get("trust") or metrics.get("carried_over") or metrics.get("pooled_trust")
    if not trust:
        return lines
    said = trust["statements"]
    lines.append(f"Calibration: {said['calibration']}")
    if SETS in said["conformal"]:
        lines.append(f"Sets for 90 % by group: {said['conformal'][SETS]}")
    others = [kind for name, kind in trust["conformal"].items() if name != SETS and kind["verdict"]]
    if others:
        short = [name for name, kind in trust["conformal"].items() if name != SETS and kind["verdict"] == "below"]
        lines.append(f"Other sets: {len(short)} of {len(others)} kinds fall short of their band" + _listed(short))
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


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
