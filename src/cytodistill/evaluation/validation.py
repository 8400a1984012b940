"""What a run's validation cells decide, once and before any test cell is looked at: how its probabilities are
calibrated, how wide its sets of classes are, and where abnormal begins."""

from __future__ import annotations

import numpy as np

from cytodistill.data.class_map import ClassMap
from cytodistill.data.class_map import map_for as map_for
from cytodistill.infer.fitted import Fitted, abnormality, voices
from cytodistill.metrics.calibration import fit_temperature, fit_vector
from cytodistill.metrics.conformal import fit_conformal
from cytodistill.metrics.group_decision import GroupPoint, choose_group_points
from cytodistill.metrics.operating_point import OperatingPoint, choose_operating_point

COVERAGES = (0.9, 0.95)
SENSITIVITIES = (0.9, 0.95, 0.99)
"""Named operating points: the highest threshold that finds this share of the abnormal validation cells."""


def fit_on_validation(
    run: str,
    exit_probabilities: np.ndarray,
    ensemble: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: tuple[str, ...],
    class_map: ClassMap | None,
    weights: str | None = None,
) -> Fitted:
    """Everything, from the answers to the validation cells.

    Args:
        run: the run's fingerprint.
        exit_probabilities: (N, E, C).
        ensemble: (N, C).
        labels: (N,) codes.
        groups: (N,) group of each cell.
        classes: the C names.
        class_map: says which classes are abnormal; without one there are no operating points. Cells of classes that it
            leaves out do not choose them.
        weights: SHA-256 of the run's weights.
    """
    spoken = voices(exit_probabilities, ensemble)
    temperature = tuple(fit_temperature(voice, labels) for voice in spoken)
    calibrated = temperature[-1].calibrated(spoken[-1])
    conformal = {}
    for coverage in COVERAGES:
        conformal[f"lac-{coverage:g}"] = fit_conformal(calibrated, labels, coverage, "lac")
        conformal[f"aps-{coverage:g}"] = fit_conformal(calibrated, labels, coverage, "aps")
        conformal[f"lac-{coverage:g}-by-group"] = fit_conformal(calibrated, labels, coverage, groups=groups)
        conformal[f"lac-{coverage:g}-by-class"] = fit_conformal(calibrated, labels, coverage, per_class=True)
    points: tuple[OperatingPoint, ...] = ()
    if class_map is not None:
        kept = _kept(class_map, labels, classes)
        scores, abnormal = abnormality(class_map, calibrated[kept], labels[kept], classes)
        if abnormal.any() and not abnormal.all():
            points = (
                *(
                    choose_operating_point(scores, abnormal, sensitivity=wanted, name=f"sensitivity-{wanted:g}")
                    for wanted in SENSITIVITIES
                ),
                choose_operating_point(scores, abnormal, youden=True, name="youden"),
            )
    return Fitted(
        run,
        len(labels),
        len(np.unique(groups)),
        temperature,
        tuple(fit_vector(voice, labels) for voice in spoken),
        conformal,
        class_map,
        points,
        group_points(calibrated, labels, groups, classes, class_map),
        weights,
    )


def group_points(
    calibrated: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: tuple[str, ...],
    class_map: ClassMap | None,
) -> tuple[GroupPoint, ...]:
    """Thresholds of whole groups, from the ensemble's calibrated (N, C) answers to the validation cells.

    Args: as `fit_on_validation`.
    """
    kept = np.zeros(len(labels), bool) if class_map is None else _kept(class_map, labels, classes)
    if class_map is None or not kept.any():
        return ()
    scores, abnormal = abnormality(class_map, calibrated[kept], labels[kept], classes)
    return choose_group_points(np.clip(scores, 0, 1), abnormal, groups[kept])


def _kept(class_map: ClassMap, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """(N,) whether the map says anything of a cell's class."""
    return np.array([class_map.classes[name] is not None for name in classes])[labels]
