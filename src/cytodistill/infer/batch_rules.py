"""What is made of a network's answers: calibrated or not, early exit, sets of classes, and a decision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytodistill.data.class_map import ClassMap
from cytodistill.errors import CytodistillError
from cytodistill.infer.artifact import Artifact, is_artifact
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.fitted import FILE, Fitted
from cytodistill.infer.policies import load_policy
from cytodistill.metrics.abnormal_score import abnormal_score
from cytodistill.metrics.calibration import Calibrator
from cytodistill.metrics.conformal import ConformalSets
from cytodistill.metrics.operating_point import OperatingPoint, decide

SETS = "lac-0.9-by-group"
"""Sets that are given where none are asked for: groups counted once each, for cells of one field are alike."""


@dataclass(frozen=True)
class Request:
    """What `predict` was asked for, in words; any process can make the same answers of it.

    Args:
        run: run folder or exported artifact.
        raw: leave the probabilities as the network gives them.
        policy: name of one of the run's exit policies.
        operating_point: name of one of the run's operating points.
        sets: name of one of the run's kinds of conformal sets, "none", or None for ``SETS`` where the run has them.
        batch_size: cells computed at once.
        device: "auto", "cpu" or "cuda".
        threads: cores for the network.
        suffix: of the file to write, which decides its layout.
    """

    run: Path
    raw: bool = False
    policy: str | None = None
    operating_point: str | None = None
    sets: str | None = None
    batch_size: int = 64
    device: str = "auto"
    threads: int = 1
    suffix: str = ".csv"


@dataclass(frozen=True)
class Rules:
    """What a `Request` comes to with what its run has. Without a policy the ``calibrator`` is that of the answer of all
    exits; a policy brings its own."""

    calibrated: bool = False
    calibrator: Calibrator | None = None
    policy: ExitPolicy | None = None
    sets: ConformalSets | None = None
    point: OperatingPoint | None = None
    class_map: ClassMap | None = None
    quantised: bool = False
    """Whether int8 answers, of which nothing was promised: policies, sets and points were fitted in float32."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that `values` has."""
        return (*(("set",) if self.sets else ()), *(("abnormal_probability", "decision") if self.point else ()))

    def values(self, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, list[Any]]:
        """Columns of N answers: ``set``, the classes in a cell's set joined by "|"; ``abnormal_probability`` and
        ``decision``, "abnormal" or "normal"."""
        values: dict[str, list[Any]] = {}
        if self.sets:
            chosen = self.sets.sets(probabilities)
            values["set"] = ["|".join(classes[code] for code in np.flatnonzero(row)) for row in chosen]
        if self.point and self.class_map:
            abnormal = np.isin(self.class_map.target_classes, self.class_map.abnormal)
            scores = abnormal_score(self.class_map.collapse(probabilities, classes), abnormal)
            values["abnormal_probability"] = [float(f"{score:.9g}") for score in scores]
            values["decision"] = ["abnormal" if found else "normal" for found in decide(scores, self.point)]
        return values

    def words(self, request: Request) -> tuple[str, ...]:
        """What was applied, in a few words each."""
        named = {
            f"policy {request.policy}": self.policy,
            f"sets {request.sets or SETS}": self.sets,
            f"decided at {request.operating_point}": self.point,
        }
        applied = [words for words, there in named.items() if there]
        if self.quantised and applied:
            applied.append("fitted in float32, not promised of int8")
        return ("calibrated", *applied) if self.calibrated else tuple(applied)

    def described(self, request: Request) -> dict[str, Any]:
        """For people and for comparison: the rules by name and in numbers, as JSON."""
        policy = {"name": request.policy, **self.policy.to_dict()} if self.policy else None
        return {
            "calibration": self.calibrator.to_dict() if self.calibrator else None,
            "policy": policy,
            "sets": {"name": request.sets or SETS, **self.sets.to_dict()} if self.sets else None,
            "operating point": asdict(self.point) if self.point else None,
            "class map": self.class_map.label if self.class_map else None,
            "fitted in float32, answered in int8": self.quantised,
        }


def rules_of(request: Request, fitted: Fitted | None) -> Rules:
    """The rules of a request.

    Raises:
        CytodistillError: the run has no policy, operating point or sets of that name, or they do not go with the rest.
    """
    policy = load_policy(request.run, request.policy) if request.policy is not None else None
    quantised = is_artifact(request.run) and Artifact.open(request.run).info["precision"] == "int8"
    if request.raw:
        for option, asked in (("--operating-point", request.operating_point), ("--sets", request.sets)):
            if asked not in (None, "none"):
                raise CytodistillError(f"{option} {asked}: was chosen on calibrated probabilities; leave --raw out")
        return Rules(policy=policy, quantised=quantised)
    calibrator = None if fitted is None or policy else fitted.temperature[-1]
    point = _point(request, fitted) if request.operating_point is not None else None
    return Rules(
        bool(policy.calibrators) if policy else calibrator is not None,
        calibrator,
        policy,
        _sets(request, fitted),
        point,
        fitted.class_map if point and fitted else None,
        quantised,
    )


def _sets(request: Request, fitted: Fitted | None) -> ConformalSets | None:
    if request.sets == "none":
        return None
    if request.sets is None:
        # The promise of a set is for the answer of all exits, which a policy does not wait for.
        return fitted.conformal.get(SETS) if fitted and not request.policy else None
    if request.policy:
        raise CytodistillError(
            f"--sets {request.sets}: promise their coverage for the answer of all exits; leave --policy out"
        )
    there = fitted.conformal if fitted else {}
    if request.sets not in there:
        raise _not_there("--sets", request.sets, request.run, list(there))
    return there[request.sets]


def _point(request: Request, fitted: Fitted | None) -> OperatingPoint:
    there = {point.name: point for point in fitted.points} if fitted else {}
    if request.operating_point not in there:
        raise _not_there("--operating-point", str(request.operating_point), request.run, list(there))
    return there[request.operating_point]


def _not_there(option: str, name: str, run: Path, there: list[str]) -> CytodistillError:
    if there:
        return CytodistillError(f"{option} {name}: {run} has none of that name; there are {', '.join(there)}")
    why = f"it has no {FILE}" if not (run / FILE).is_file() else "no class map says which of its classes are abnormal"
    mend = f"make one with `cytodistill evaluate {run}`" if not (run / FILE).is_file() else "leave the option out"
    return CytodistillError(f"{option} {name}: {run} has none, for {why}; {mend}")
