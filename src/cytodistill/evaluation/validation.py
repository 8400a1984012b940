"""What a run's validation cells decide, once and before any test cell is looked at: how its probabilities are
calibrated, how wide its sets of classes are, and where abnormal begins."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cytodistill.data.class_map import ClassMap
from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write
from cytodistill.metrics.calibration import Calibrator, clipped_log, fit_temperature, fit_vector
from cytodistill.metrics.conformal import ConformalSets, fit_conformal
from cytodistill.metrics.screening import OperatingPoint, abnormal_score, choose_operating_point

FILE = "calibration.json"
FORMAT = 1
COVERAGES = (0.9, 0.95)
SENSITIVITIES = (0.9, 0.95, 0.99)
"""Named operating points: the highest threshold that finds this share of the abnormal validation cells."""
MAPS = {"herlev": "herlev-binary", "cric": "cric-binary", "sipakmed": "sipakmed-binary-benign-is-normal"}
"""Which classes are abnormal, by format, where no map is named."""


@dataclass(frozen=True)
class Fitted:
    """All that was fitted on the validation cells of one run.

    ``temperature`` and ``vector`` hold a calibrator for each exit, shallow → deep, and last the ensemble's, which is
    applied to the logarithm of the exits' mean probabilities (eq. 7). ``conformal`` holds sets of the ensemble's
    temperature-scaled probabilities by name. ``points`` are thresholds of the abnormal classes' calibrated probability
    by ``class_map``.
    """

    run: str
    cells: int
    groups: int
    temperature: tuple[Calibrator, ...]
    vector: tuple[Calibrator, ...]
    conformal: dict[str, ConformalSets]
    class_map: str | None
    points: tuple[OperatingPoint, ...]

    def write(self, folder: Path) -> None:
        """Write FILE into the run folder."""
        content = {
            "format": FORMAT,
            "run": self.run,
            "fitted_on": {"split": "val", "cells": self.cells, "groups": self.groups},
            "temperature": [calibrator.to_dict() for calibrator in self.temperature],
            "vector": [calibrator.to_dict() for calibrator in self.vector],
            "conformal": {name: sets.to_dict() for name, sets in self.conformal.items()},
            "class_map": self.class_map,
            "operating_points": [asdict(point) for point in self.points],
        }
        atomic_write(folder / FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_fitted(folder: Path, run: str) -> Fitted | None:
    """What ``folder`` holds for the run of that fingerprint; None where there is nothing, or it is another run's.

    Raises:
        CytodistillError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["run"] != run:
            return None
        return Fitted(
            run,
            content["fitted_on"]["cells"],
            content["fitted_on"]["groups"],
            tuple(Calibrator.from_dict(values) for values in content["temperature"]),
            tuple(Calibrator.from_dict(values) for values in content["vector"]),
            {name: ConformalSets.from_dict(values) for name, values in content["conformal"].items()},
            content["class_map"],
            tuple(OperatingPoint(**values) for values in content["operating_points"]),
        )
    except (ValueError, KeyError, TypeError, CytodistillError):
        raise CytodistillError(f"{file}: damaged; delete it and evaluate again") from None


def fit_on_validation(
    run: str,
    exit_probabilities: np.ndarray,
    ensemble: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: tuple[str, ...],
    class_map: ClassMap | None,
) -> Fitted:
    """Everything, from the answers to the validation cells.

    Args:
        run: the run's fingerprint.
        exit_probabilities: (N, E, C).
        ensemble: (N, C).
        labels: (N,) codes.
        groups: (N,) group of each cell.
        classes: the C names.
        class_map: says which classes are abnormal; without one there are no operating points.
    """
    voices = [clipped_log(exit_probabilities[:, exit]) for exit in range(exit_probabilities.shape[1])]
    voices.append(clipped_log(ensemble))
    temperature = tuple(fit_temperature(voice, labels) for voice in voices)
    calibrated = temperature[-1].calibrated(voices[-1])
    conformal = {}
    for coverage in COVERAGES:
        conformal[f"lac-{coverage:g}"] = fit_conformal(calibrated, labels, coverage, "lac")
        conformal[f"aps-{coverage:g}"] = fit_conformal(calibrated, labels, coverage, "aps")
        conformal[f"lac-{coverage:g}-by-group"] = fit_conformal(calibrated, labels, coverage, groups=groups)
        conformal[f"lac-{coverage:g}-by-class"] = fit_conformal(calibrated, labels, coverage, per_class=True)
    points: tuple[OperatingPoint, ...] = ()
    if class_map is not None:
        scores, abnormal = abnormality(class_map, calibrated, labels, classes)
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
        tuple(fit_vector(voice, labels) for voice in voices),
        conformal,
        class_map.name if class_map else None,
        points,
    )


def abnormality(
    class_map: ClassMap, probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) probability of an abnormal class, and (N,) whether the cell's own class is; cells whose class the map leaves
    out are not abnormal in it and stand for nothing, so only maps that leave none out are used here."""
    abnormal_of = np.array([class_map.classes[name] in class_map.abnormal for name in classes])
    collapsed = class_map.collapse(probabilities, classes)
    of_target = np.array([name in class_map.abnormal for name in class_map.target_classes])
    return abnormal_score(collapsed, of_target), abnormal_of[labels]


def map_for(format: str, classes: tuple[str, ...]) -> ClassMap | None:
    """The map of a format by which classes are abnormal, where it knows all of these classes and leaves none out."""
    if format not in MAPS:
        return None
    class_map = ClassMap.load(MAPS[format])
    known = all(class_map.classes.get(name) is not None for name in classes)
    return class_map if known else None
