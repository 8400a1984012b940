"""Conformal sets on judged cells: how often they hold the true class, and whether chance alone explains it."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.applied import Applied
from cytodistill.metrics.conformal import ConformalSets, coverage_report, theoretical_band
from cytodistill.metrics.group_resampling import GroupResampling, ends


def sets_view(
    applied: Applied, labels: np.ndarray, groups: np.ndarray, classes: tuple[str, ...], draws: GroupResampling
) -> dict[str, dict[str, Any]]:
    """By name of the sets: what `coverage_report` measures, and

    - "band", where the coverage would lie 95 times of 100 if calibration and judged cells were exchangeable. Of sets by
      group it is for the mean over groups, as if each group were one cell: their true band is narrower. Sets by class
      have one for each class ("class_bands", None where there are no cells of it), sets pooled over folds none;
    - "measured", the figure that the band is of;
    - "verdict": "within", "below" (a promise that is not kept) or "above" (sets wider than need be); of sets by class
      "below" where any class is, and "below_classes" names them. Adaptive sets (APS) cover more than asked for by
      their making, so that their band has no upper end but 1, and they are never above it ("one_sided");
    - "intervals" of the coverage, the mean over groups, the mean size and the shares of sets of one class and of none,
      groups resampled, and "class_intervals" of each class's coverage and size. None of one group.

    Args:
        applied: the sets and their thresholds.
        labels: (N,) codes.
        groups: (N,) group of each cell.
        classes: the C names.
        draws: of the groups.
    """
    return {
        name: _entry(name, applied, labels, groups, classes) | _intervals(draws, applied.sets[name], labels)
        for name in applied.sets
    }


def _entry(
    name: str, applied: Applied, labels: np.ndarray, groups: np.ndarray, classes: tuple[str, ...]
) -> dict[str, Any]:
    found = coverage_report(applied.sets[name], labels, groups)
    fitted = applied.thresholds.get(name)
    if fitted is None:
        asked = float(name.split("-")[1])
        return {"asked_for": asked, "band": None, "measured": found["coverage"], "verdict": None, **found}
    # Of collapsed sets the thresholds are of other classes than those that are told.
    always = fitted.always_included if len(fitted.thresholds) == len(classes) else ()
    return {
        "asked_for": fitted.coverage,
        "unit": fitted.unit,
        "one_sided": fitted.kind == "aps",
        "always_included": [classes[code] for code in always],
        **(_by_class(fitted, found, classes) if fitted.per_class else _whole(fitted, found)),
        **found,
    }


def _whole(fitted: ConformalSets, found: dict[str, Any]) -> dict[str, Any]:
    by_group = fitted.unit == "groups"
    measured = found["group_coverage" if by_group else "coverage"]
    band = _band(fitted, fitted.counts[0], found["groups" if by_group else "n"])
    return {"band": band, "measured": measured, "verdict": _verdict(measured, band)}


def _band(fitted: ConformalSets, calibration: int, judged: int) -> tuple[float, float]:
    low, high = theoretical_band(calibration, judged, fitted.coverage)
    return low, 1.0 if fitted.kind == "aps" else high


def _by_class(fitted: ConformalSets, found: dict[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    bands = [
        _band(fitted, count, of["n"]) if of["n"] and count else None
        for count, of in zip(fitted.counts, found["per_class"], strict=True)
    ]
    verdicts = [
        None if band is None else _verdict(of["coverage"], band)
        for band, of in zip(bands, found["per_class"], strict=True)
    ]
    below = [name for name, verdict in zip(classes, verdicts, strict=True) if verdict == "below"]
    above = any(verdict == "above" for verdict in verdicts)
    return {
        "band": None,
        "class_bands": bands,
        "measured": found["coverage"],
        "verdict": "below" if below else "above" if above else "within",
        "below_classes": below,
    }


def _verdict(measured: float, band: tuple[float, float]) -> str:
    low, high = band
    return "below" if measured < low else "above" if measured > high else "within"


def _intervals(draws: GroupResampling, sets: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Of all cells and of each class; [low, high], None of one group."""
    held, size = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    return {
        "intervals": {
            "coverage": ends(draws.mean(held)),
            "group_coverage": ends(draws.mean_of_groups(held)),
            "mean_size": ends(draws.mean(size, scale="positive")),
            "singletons": ends(draws.mean(size == 1)),
            "empties": ends(draws.mean(size == 0)),
        },
        "class_intervals": [
            {"coverage": ends(coverage), "mean_size": ends(mean_size)}
            for coverage, mean_size in zip(
                draws.means_by(labels, sets.shape[1], held),
                draws.means_by(labels, sets.shape[1], size, "positive"),
                strict=True,
            )
        ],
    }
