"""What validation cells decided, applied to the cells that are judged: ready to be measured, pooled over folds, or
collapsed into the classes of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cytodistill.data.class_map import ClassMap
from cytodistill.infer.fitted import Fitted, abnormality, voices
from cytodistill.metrics.calibration import Calibrator
from cytodistill.metrics.conformal import ConformalSets
from cytodistill.metrics.operating_point import decide

KINDS = ("raw", "temperature", "vector")
"""Of calibration: as the network said it, and after either scaling."""


@dataclass(frozen=True)
class Screened:
    """Of N cells the abnormal score, whether they are abnormal, and what each operating point calls them.

    ``points`` has, by name, the thresholds and what they did on the validation cells: of one run, or of each fold;
    ``group_points`` those of whole groups, and ``group_thresholds`` (N,) by name the threshold that a cell's group is
    judged by.
    """

    class_map: str
    abnormal_classes: tuple[str, ...]
    scores: np.ndarray
    abnormal: np.ndarray
    points: dict[str, list[dict[str, Any]]]
    called: dict[str, np.ndarray]
    group_points: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    group_thresholds: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Applied:
    """N cells' answers after what was decided on ``fitted_on`` (of one run, or of each fold).

    ``calibrated`` has (N, C) probabilities by voice ("exit 1" …, "ensemble") and kind; ``temperatures`` a number a run
    for each; ``sets`` (N, C) classes by name, of the thresholds in ``thresholds``, empty over several folds.
    """

    fitted_on: tuple[dict[str, Any], ...]
    calibrated: dict[str, dict[str, np.ndarray]]
    temperatures: dict[str, dict[str, tuple[float, ...]]]
    sets: dict[str, np.ndarray]
    thresholds: dict[str, ConformalSets]
    screened: Screened | None

    @property
    def ensemble(self) -> np.ndarray:
        """(N, C) the ensemble's probabilities after temperature scaling, which sets and scores are made of."""
        return self.calibrated["ensemble"]["temperature"]

    def with_screened(self, screened: Screened) -> Applied:
        """The same with a screening view."""
        return replace(self, screened=screened)


def apply_fitted(
    fitted: Fitted,
    exit_probabilities: np.ndarray,
    ensemble: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    class_map: ClassMap | None,
) -> Applied:
    """What a run's validation cells decided, applied to N cells.

    Args:
        fitted: of the run.
        exit_probabilities: (N, E, C).
        ensemble: (N, C).
        labels: (N,) codes.
        classes: the C names.
        class_map: says which classes are abnormal, and leaves none out; without one nothing is screened.
    """
    spoken = voices(exit_probabilities, ensemble)
    names = [*(f"exit {number}" for number in range(1, len(spoken))), "ensemble"]
    calibrators = {
        name: dict(zip(KINDS, (Calibrator(), fitted.temperature[place], fitted.vector[place]), strict=True))
        for place, name in enumerate(names)
    }
    calibrated = {
        name: {kind: calibrator.calibrated(voice) for kind, calibrator in calibrators[name].items()}
        for name, voice in zip(names, spoken, strict=True)
    }
    last = calibrated["ensemble"]["temperature"]
    applied = Applied(
        ({"split": "val", "cells": fitted.cells, "groups": fitted.groups},),
        calibrated,
        {name: {kind: (of.temperature,) for kind, of in kinds.items()} for name, kinds in calibrators.items()},
        {name: sets.sets(last) for name, sets in fitted.conformal.items()},
        fitted.conformal,
        None,
    )
    if class_map is None:
        return applied
    scores, abnormal = abnormality(class_map, last, labels, classes)
    named = tuple(name for name in classes if class_map.classes[name] in class_map.abnormal)
    return applied.with_screened(screen(class_map.label, named, scores, abnormal, fitted))


def screen(
    class_map: str, abnormal_classes: tuple[str, ...], scores: np.ndarray, abnormal: np.ndarray, fitted: Fitted
) -> Screened:
    """The run's operating points applied to (N,) scores."""
    points = {
        point.name: [
            {
                "threshold": point.threshold,
                "on_validation": {"sensitivity": point.sensitivity, "specificity": point.specificity, "n": point.n},
            }
        ]
        for point in fitted.points
    }
    called = {point.name: decide(scores, point) for point in fitted.points}
    of_groups = fitted.group_points or ()
    group_points = {
        of.name: [
            {
                "how": of.how,
                "k": of.k,
                "threshold": of.point.threshold,
                "on_validation": {
                    "sensitivity": of.point.sensitivity,
                    "specificity": of.point.specificity,
                    "n": of.point.n,
                    "normal": of.normal,
                },
            }
        ]
        for of in of_groups
    }
    thresholds = {of.name: np.full(len(scores), of.point.threshold) for of in of_groups}
    return Screened(class_map, abnormal_classes, scores, abnormal, points, called, group_points, thresholds)


def collapse_applied(applied: Applied, class_map: ClassMap, classes: tuple[str, ...]) -> Applied:
    """The same in a map's target classes: calibrated first, in the classes of the calibrators, then collapsed.

    A target class is in a set where any of its source classes is; sets with a threshold a class are left aside, for
    theirs are promises about source classes. Nothing is screened: that takes the labels of the other data set.

    Raises:
        CytodistillError: as `ClassMap.collapse`.
    """
    matrix = class_map.matrix(classes)
    calibrated = {
        voice: {kind: class_map.collapse(probabilities, classes) for kind, probabilities in kinds.items()}
        for voice, kinds in applied.calibrated.items()
    }
    kept = {name: of for name, of in applied.thresholds.items() if not of.per_class}
    sets = {name: applied.sets[name].astype(float) @ matrix > 0 for name in kept}
    return replace(applied, calibrated=calibrated, sets=sets, thresholds=kept, screened=None)


def pool_applied(parts: Sequence[Applied]) -> Applied:
    """The cells of several folds one after the other, each with what its own run's validation cells decided.

    Sets have no thresholds in common, and so no band.
    """
    first = parts[0]
    return Applied(
        tuple(one for part in parts for one in part.fitted_on),
        {
            voice: {kind: np.concatenate([part.calibrated[voice][kind] for part in parts]) for kind in kinds}
            for voice, kinds in first.calibrated.items()
        },
        {
            voice: {kind: tuple(t for part in parts for t in part.temperatures[voice][kind]) for kind in kinds}
            for voice, kinds in first.temperatures.items()
        },
        {name: np.concatenate([part.sets[name] for part in parts]) for name in first.sets},
        {},
        _pool_screened([part.screened for part in parts]),
    )


def _pool_screened(parts: Sequence[Screened | None]) -> Screened | None:
    """With the points that all folds have; None where a fold has no class map, or another."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({(part.class_map, part.abnormal_classes) for part in known}) > 1:
        return None
    names = [name for name in known[0].points if all(name in part.points for part in known)]
    of_groups = [name for name in known[0].group_points if all(name in part.group_points for part in known)]
    return Screened(
        known[0].class_map,
        known[0].abnormal_classes,
        np.concatenate([part.scores for part in known]),
        np.concatenate([part.abnormal for part in known]),
        {name: [one for part in known for one in part.points[name]] for name in names},
        {name: np.concatenate([part.called[name] for part in known]) for name in names},
        {name: [one for part in known for one in part.group_points[name]] for name in of_groups},
        {name: np.concatenate([part.group_thresholds[name] for part in known]) for name in of_groups},
    )
