"""What the validation cells of a run decided, as it is stored beside the run and used on every later cell."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytodistill.data.class_map import ClassMap
from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write
from cytodistill.infer.policies import weights_digest
from cytodistill.metrics.abnormal_score import abnormal_score
from cytodistill.metrics.calibration import Calibrator, clipped_log
from cytodistill.metrics.conformal import ConformalSets
from cytodistill.metrics.group_decision import GroupPoint
from cytodistill.metrics.operating_point import OperatingPoint

FILE = "calibration.json"
FORMAT = 1
MEND = "delete it, and `cytodistill evaluate` fits it anew on the validation cells"


@dataclass(frozen=True)
class Fitted:
    """All that was fitted on the validation cells of one run.

    ``temperature`` and ``vector`` hold a calibrator for each exit, shallow → deep, and last the ensemble's, which is
    applied to the logarithm of the exits' mean probabilities (eq. 7). ``conformal`` holds sets of the ensemble's
    temperature-scaled probabilities by name. ``points`` are thresholds of the abnormal classes' calibrated probability
    by ``class_map``, and ``group_points`` those of whole groups. ``weights`` is the SHA-256 of the weights whose
    answers decided. Files of earlier versions have neither: None. The map is stored whole, so that a run says what its
    points are of wherever it goes; earlier versions stored the name of one of the package's.
    """

    run: str
    cells: int
    groups: int
    temperature: tuple[Calibrator, ...]
    vector: tuple[Calibrator, ...]
    conformal: dict[str, ConformalSets]
    class_map: ClassMap | None
    points: tuple[OperatingPoint, ...]
    group_points: tuple[GroupPoint, ...] | None = None
    weights: str | None = None

    def write(self, folder: Path) -> None:
        """Write FILE into the run folder."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "run": self.run,
            **({} if self.weights is None else {"weights": self.weights}),
            "fitted_on": {"split": "val", "cells": self.cells, "groups": self.groups},
            "temperature": [calibrator.to_dict() for calibrator in self.temperature],
            "vector": [calibrator.to_dict() for calibrator in self.vector],
            "conformal": {name: sets.to_dict() for name, sets in self.conformal.items()},
            "class_map": self.class_map.model_dump(mode="json") if self.class_map else None,
            "operating_points": [asdict(point) for point in self.points],
        }
        if self.group_points is not None:
            content["group_points"] = [asdict(point) for point in self.group_points]
        atomic_write(folder / FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_fitted(folder: Path, run: str) -> Fitted | None:
    """What ``folder`` holds for the run of that fingerprint; None where there is nothing, or it is of another format.

    Raises:
        CytodistillError: the file is damaged, another run's, or fitted on other than validation cells or by other
            weights than the run's.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return None
        _refuse_foreign(file, content, run)
        found = Fitted(
            run,
            content["fitted_on"]["cells"],
            content["fitted_on"]["groups"],
            tuple(Calibrator.from_dict(values) for values in content["temperature"]),
            tuple(Calibrator.from_dict(values) for values in content["vector"]),
            {name: ConformalSets.from_dict(values) for name, values in content["conformal"].items()},
            _read_map(content["class_map"]),
            tuple(OperatingPoint(**values) for values in content["operating_points"]),
            tuple(_group_point(values) for values in content["group_points"]) if "group_points" in content else None,
            content.get("weights"),
        )
    except _Foreign:
        raise
    except (ValueError, KeyError, TypeError, CytodistillError):
        raise CytodistillError(f"{file}: damaged; delete it and evaluate again") from None
    # The same recipe and cells may end in other weights; files of earlier versions do not say which theirs were.
    if found.weights is not None and found.weights != weights_digest(folder):
        raise _Foreign(f"{file}: was fitted on the answers of other weights than the run's; {MEND}")
    return found


class _Foreign(CytodistillError):
    """Calibrators that this run must not be judged by."""


def _refuse_foreign(file: Path, content: dict[str, Any], run: str) -> None:
    if content["run"] != run:
        raise _Foreign(f"{file}: was fitted for another run; {MEND}")
    if (split := content["fitted_on"]["split"]) != "val":
        raise _Foreign(f"{file}: was fitted on the split {split!r}, which must not judge itself; {MEND}")


def _read_map(stored: str | dict[str, Any] | None) -> ClassMap | None:
    if stored is None or isinstance(stored, dict):
        return None if stored is None else ClassMap.model_validate(stored)
    return ClassMap.load(stored)


def _group_point(values: dict[str, Any]) -> GroupPoint:
    return GroupPoint(values["how"], values["k"], OperatingPoint(**values["point"]), values["normal"])


def voices(exit_probabilities: np.ndarray, ensemble: np.ndarray) -> list[np.ndarray]:
    """What calibrators are fitted on and applied to: (N, C) logarithms of the probabilities of each exit, shallow →
    deep, and last of the ensemble.

    Args:
        exit_probabilities: (N, E, C).
        ensemble: (N, C).
    """
    exits = [clipped_log(exit_probabilities[:, exit]) for exit in range(exit_probabilities.shape[1])]
    return [*exits, clipped_log(ensemble)]


def abnormality(
    class_map: ClassMap, probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) probability of an abnormal class, and (N,) whether the cell's own class is; cells whose class the map leaves
    out are not abnormal in it and stand for nothing, so only maps that leave none out are used here."""
    abnormal_of = np.array([class_map.classes[name] in class_map.abnormal for name in classes])
    collapsed = class_map.collapse(probabilities, classes)
    of_target = np.array([name in class_map.abnormal for name in class_map.target_classes])
    return abnormal_score(collapsed, of_target), abnormal_of[labels]
