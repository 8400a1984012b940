"""How far a model's probabilities can be trusted: calibration, sets of classes, doubt, and the screening view, measured
on test cells with what the validation cells decided."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.applied import Applied
from cytodistill.evaluation.screening_intervals import with_intervals
from cytodistill.evaluation.screening_view import screening_view, spread
from cytodistill.evaluation.sets_view import sets_view
from cytodistill.evaluation.statements import calibration_statement, sets_statement
from cytodistill.metrics.calibration import (
    BINS,
    bin_codes,
    brier,
    classwise_ece,
    ece,
    nll,
    overconfidence,
    reliability,
)
from cytodistill.metrics.calibration_intervals import calibration_intervals, errors_if_calibrated, losses
from cytodistill.metrics.group_resampling import GroupResampling, ends, quotient
from cytodistill.metrics.selective import aurc, coverage_at, doubt, e_aurc, failure_auroc, risk_coverage
from cytodistill.metrics.selective_intervals import failure_intervals

RISK = 0.05
SETS = "lac-0.9-by-group"
"""The conformal sets that are spoken of first: what they promise holds for cells of new groups."""


def trust_report(
    applied: Applied, exit_probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any]:
    """{"fitted_on", "calibration", "nll_change", "reliability", "conformal", "doubt", "screening", "statements"},
    JSON-able.

    Figures have their intervals beside them, [low, high] by name in "intervals", None of one group. A calibration error
    has none, and in "if_calibrated" what it would stay below 95 times of 100 by chance alone (`errors_if_calibrated`).
    "nll_change" is of the ensemble, and beside the figures of each voice, after less before: below 0 where scaling
    helped.

    Args:
        applied: what the validation cells decided, applied to the N cells.
        exit_probabilities: (N, E, C) of the cells, as the network said them.
        labels: (N,) codes.
        groups: (N,) group of each cell.
        classes: the C names.
    """
    draws = GroupResampling(groups)
    calibration = {
        voice: {
            kind: {
                "temperature": _one_or_all(applied.temperatures[voice][kind]),
                **_calibration(draws, probabilities, labels),
                **({} if kind == "raw" else {"nll_change": _nll_change(draws, kinds, kind, labels)}),
            }
            for kind, probabilities in kinds.items()
        }
        for voice, kinds in applied.calibrated.items()
    }
    change = {kind: of["nll_change"] for kind, of in calibration["ensemble"].items() if kind != "raw"}
    conformal = sets_view(applied, labels, groups, classes, draws)
    return {
        "fitted_on": applied.fitted_on[0] if len(applied.fitted_on) == 1 else list(applied.fitted_on),
        "calibration": calibration,
        "nll_change": change,
        "reliability": {
            kind: reliability_report(draws, applied.calibrated["ensemble"][kind], labels)
            for kind in ("raw", "temperature")
        },
        "conformal": conformal,
        "doubt": doubt_report(draws, exit_probabilities, applied.ensemble, labels),
        "screening": with_intervals(screening_view(applied.screened, groups), applied.screened, groups, draws),
        "statements": {
            "calibration": calibration_statement(calibration["ensemble"], change),
            "conformal": {name: sets_statement(kind, classes) for name, kind in conformal.items()},
        },
    }


def _one_or_all(values: tuple[float, ...]) -> float | list[float]:
    return values[0] if len(values) == 1 else list(values)


def _calibration(draws: GroupResampling, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "nll": nll(probabilities, labels),
        "brier": brier(probabilities, labels),
        "overconfidence": overconfidence(probabilities, labels),
        "ece": ece(probabilities, labels),
        "classwise_ece": classwise_ece(probabilities, labels),
        "intervals": {name: ends(of) for name, of in calibration_intervals(draws, probabilities, labels).items()},
        "if_calibrated": errors_if_calibrated(draws, probabilities, labels),
    }


def _nll_change(draws: GroupResampling, kinds: dict[str, np.ndarray], kind: str, labels: np.ndarray) -> dict[str, Any]:
    """What a scaling adds to the mean −ln p of the true class."""
    change = losses(kinds[kind], labels) - losses(kinds["raw"], labels)
    return {"value": float(change.mean()), "interval": ends(draws.mean(change, scale="plain"))}


def reliability_report(draws: GroupResampling, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, list]:
    """The bins of `reliability`, and "accuracy_intervals": [low, high] of the share of right answers in each, None
    where its cells are of one group.

    Args:
        draws: of the groups of the N cells.
        probabilities: (N, C).
        labels: (N,) codes.
    """
    found = reliability(probabilities, labels)
    right, of = probabilities.argmax(1) == labels, bin_codes(probabilities.max(axis=1))[1]
    drawn = quotient(draws.sums_by(of, BINS, right.astype(float)), draws.sums_by(of, BINS))
    within = [ends(draws.interval(share, drawn[:, k], of == k)) for k, share in enumerate(found["accuracy"])]
    return {**found, "accuracy_intervals": within}


def doubt_report(
    draws: GroupResampling, exits: np.ndarray, calibrated: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """{"ensemble", "exits", "risk_coverage"}: failure prediction of the ensemble by each kind of doubt, and of each
    exit by its own largest probability, with intervals.

    Args:
        draws: of the groups of the N cells.
        exits: (N, E, C) probabilities.
        calibrated: (N, C) those of the ensemble.
        labels: (N,) codes.
    """
    correct = calibrated.argmax(1) == labels
    kinds = {kind: doubt(calibrated, kind) for kind in ("max_probability", "entropy", "margin")}
    if exits.shape[1] > 1:
        kinds["disagreement"] = doubt(exits, "disagreement")
    found = {kind: _failures(draws, values, correct) for kind, values in kinds.items()}
    of_exits = [
        _failures(draws, doubt(exits[:, exit], "max_probability"), exits[:, exit].argmax(1) == labels)
        for exit in range(exits.shape[1])
    ]
    coverage, risk = risk_coverage(kinds["max_probability"], correct)
    kept = spread(len(coverage))
    curve = {"coverage": coverage[kept].tolist(), "risk": risk[kept].tolist()}
    return {"ensemble": found, "exits": of_exits, "risk_coverage": curve}


def _failures(draws: GroupResampling, values: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    within = failure_intervals(draws, values, correct, RISK)
    return {
        "auroc": failure_auroc(values, correct),
        "aurc": aurc(values, correct),
        "e_aurc": e_aurc(values, correct),
        "coverage_at_5_percent_risk": coverage_at(values, correct, RISK),
        "intervals": {
            "auroc": ends(within["auroc"]),
            "aurc": ends(within["aurc"]),
            "e_aurc": ends(within["e_aurc"]),
            "coverage_at_5_percent_risk": ends(within["coverage"]),
        },
    }


def trust_lines(metrics: dict[str, Any]) -> list[str]:
    """What is worth a line on the screen beside the table: why there are no intervals, calibration, sets, doubt, the
    screening view, and what makes the figures too good."""
    lines = [metrics[note] for note in ("no_intervals", "shared_groups", "no_trust") if metrics.get(note)]
    trust = metrics.get("trust") or metrics.get("carried_over") or metrics.get("pooled_trust")
    if not trust:
        return lines
    statements = trust["statements"]
    lines.append(f"Calibration: {statements['calibration']}")
    if SETS in statements["conformal"]:
        lines.append(f"Sets for 90 % by group: {statements['conformal'][SETS]}")
    others = [kind for name, kind in trust["conformal"].items() if name != SETS and kind["verdict"]]
    if others:
        short = [name for name, kind in trust["conformal"].items() if name != SETS and kind["verdict"] == "below"]
        lines.append(f"Other sets: {len(short)} of {len(others)} kinds fall short of their band" + _listed(short))
    failure = trust["doubt"]["ensemble"]["max_probability"]
    if failure["auroc"] is not None:
        said = f"{100 * failure['auroc']:.1f} %{_between(failure['intervals']['auroc'])}"
        lines.append(f"Doubt: wrong answers are told from right ones with an AUROC of {said}")
    if view := trust["screening"]:
        within = view["intervals"]["specificity_at_sensitivity"]
        at = ", ".join(
            f"{100 * value:.1f} %{_between(within[of])} at {100 * float(of):.0f} %"
            for of, value in view["specificity_at_sensitivity"].items()
        )
        area = f"{100 * view['auc']:.1f} %{_between(view['auc_interval'])}"
        lines.append(f"Abnormal, by {view['class_map']}: AUC {area}, specificity {at} sensitivity")
    return lines


def _between(ends: list[float] | None) -> str:
    return f" ({100 * ends[0]:.0f}–{100 * ends[1]:.0f})" if ends else ""


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
