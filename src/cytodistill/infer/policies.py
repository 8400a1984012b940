"""The exit policies of a run, with what each promises, in RUN/policies.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write
from cytodistill.infer.artifact import Artifact, is_artifact
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.promise import Promise, promise_from_dict
from cytodistill.train.run_folder import Run

FILE = "policies.json"
FORMAT = 1
SEAL = "sha256"


@dataclass(frozen=True)
class FittedPolicy:
    """A policy, its promise, how many validation ``cells`` and ``groups`` it was fitted on, the ``macs`` until each of
    the E exits has answered, and what it did on the validation cells (see `evaluation.policies`)."""

    policy: ExitPolicy
    promise: Promise
    cells: int
    groups: int
    macs: tuple[int, ...]
    validation: dict[str, Any]


def write_policies(run: Run, policies: Mapping[str, FittedPolicy]) -> Path:
    """Write FILE into the run folder, over an older one."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "run": run.info["fingerprint"],
        "weights": weights_digest(run),
        "policies": {name: _to_dict(fitted) for name, fitted in policies.items()},
    }
    content[SEAL] = _seal(content)
    atomic_write(run.path / FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return run.path / FILE


def read_policies(run: Run) -> dict[str, FittedPolicy]:
    """The run's policies by name; none where it has no FILE.

    Raises:
        CytodistillError: the file is damaged, was changed, or is of another run or of other weights.
    """
    file = run.path / FILE
    if not file.is_file():
        return {}
    policies, fingerprint, weights = parse_policies(file.read_bytes(), str(file))
    if (fingerprint, weights) != (run.info["fingerprint"], weights_digest(run)):
        raise CytodistillError(f"{file}: fitted for another network than the run's; delete it and fit policies anew")
    return policies


def load_policy(path: str | Path | Run, name: str) -> ExitPolicy:
    """A run's policy of that name.

    Raises:
        CytodistillError: there is no such policy, or its file is damaged or of another run.
    """
    run = path if isinstance(path, Run) else Run.open(path)
    policies = read_policies(run)
    if name not in policies:
        there = f"there are {', '.join(policies)}" if policies else "there is none"
        raise CytodistillError(
            f"policy {name!r}: {run.path} has none of that name; {there}; fit one with `cytodistill policy {run.path}`"
        )
    return policies[name].policy


def parse_policies(content: bytes, called: str) -> tuple[dict[str, FittedPolicy], str, str]:
    """Policies by name, the fingerprint of their run, and the SHA-256 of its weights, from the content of FILE.

    Raises:
        CytodistillError: it is damaged, was changed, or is of another version; the message starts with ``called``.
    """
    try:
        said = json.loads(content)
        if said["format"] != FORMAT:
            raise CytodistillError(f"{called}: of another version (format {said['format']}); update cytodistill")
        if said[SEAL] != _seal(said):
            raise CytodistillError(f"{called}: changed since it was written; delete it and fit policies anew")
        policies = {name: _from_dict(values) for name, values in said["policies"].items()}
        return policies, said["run"], said["weights"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CytodistillError(f"{called}: damaged ({type(error).__name__}); delete it and fit policies anew") from None


def weights_digest(run: Run | Path) -> str:
    """SHA-256 of the weights of a run, or of the folder of one; a fit again, or on another machine, may end in others.
    An artifact says it itself.

    Raises:
        CytodistillError: the weights cannot be read.
    """
    folder = run.path if isinstance(run, Run) else run
    if is_artifact(folder):
        return Artifact.open(folder).graphs.weights
    file = folder / "model.safetensors"
    try:
        with open(file, "rb") as weights:
            return hashlib.file_digest(weights, "sha256").hexdigest()
    except OSError as error:
        raise CytodistillError(f"{file}: cannot be read ({error.strerror}); fit the run again") from None


def _seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of all but the seal itself: a changed threshold would break a promise without a sound."""
    sealed = {name: value for name, value in content.items() if name != SEAL}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def _to_dict(fitted: FittedPolicy) -> dict[str, Any]:
    return {
        "policy": fitted.policy.to_dict(),
        "promise": asdict(fitted.promise),
        "fitted_on": {"split": "val", "cells": fitted.cells, "groups": fitted.groups},
        "macs": list(fitted.macs),
        "validation": fitted.validation,
    }


def _from_dict(values: Mapping[str, Any]) -> FittedPolicy:
    return FittedPolicy(
        ExitPolicy.from_dict(values["policy"]),
        promise_from_dict(values["promise"]),
        int(values["fitted_on"]["cells"]),
        int(values["fitted_on"]["groups"]),
        tuple(map(int, values["macs"])),
        values["validation"],
    )
