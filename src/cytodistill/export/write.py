"""The files of an artifact: a network's graphs for one runtime, in float32 or int8, and what is said of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytodistill.estimators.inputs import ImageInputs
from cytodistill.export import graphs as writing
from cytodistill.export.graphs import Part
from cytodistill.export.quantise import BATCH, Feeds, quantise_onnx, quantise_openvino
from cytodistill.export.states import Range, Ranges, range_of, ranges_kept, states_as_bytes
from cytodistill.infer import fitted as calibration
from cytodistill.infer import policies
from cytodistill.infer.artifact import MANIFEST
from cytodistill.infer.policies import read_policies
from cytodistill.infer.predictor import Predictor
from cytodistill.train.log import Watcher
from cytodistill.train.run_folder import Run

SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}
"""Files of a graph, by runtime."""
PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}


@dataclass(frozen=True)
class Target:
    """What a run is exported to: a ``runtime`` of `infer.runtimes.ENGINES`, in float32 or int8."""

    runtime: str
    int8: bool

    @property
    def precision(self) -> str:
        return "int8" if self.int8 else "fp32"


def write_graphs(
    parts: list[Part], target: Target, folder: Path, marks: list[dict[str, str]], measured: np.ndarray, watcher: Watcher
) -> None:
    """Write every graph of a network into ``folder``.

    Args:
        parts: from `parts_of`.
        target: runtime and precision.
        folder: for the files.
        marks: kept in each part's file.
        measured: (N, S, S, 3) uint8 cells on which int8 measures the ranges of activations.
        watcher: is told of progress.

    Raises:
        CytodistillError: the network cannot be written as ONNX.
    """
    measurements: Iterator[Measured | None] = measure(parts, measured) if target.int8 else iter([None] * len(parts))
    taken: Ranges = []
    for place, (part, said, seen) in enumerate(zip(parts, marks, measurements, strict=True)):
        watcher.step("export", place, len(parts), part.graph.name)
        file = folder / f"{part.graph.name}.onnx"
        writing.write_onnx(part, file, said)
        if target.runtime == "openvino":
            model = writing.onnx_to_openvino(file)
            if seen is not None:
                quantised = quantise_openvino(model, seen.feeds)
                left = ranges_kept(quantised, seen.feeds[0], seen.left)
                model, taken = states_as_bytes(quantised, taken, left), left
            writing.save_openvino(model, folder / part.graph.files[0], said)
            file.unlink()
        elif seen is not None:
            writing.save_onnx(quantise_onnx(file, seen.feeds), file, said)
    watcher.step("export", len(parts), len(parts), "done")


@dataclass(frozen=True)
class Measured:
    """What a part is given when a network answers some cells, in float32, batch by batch; and the ranges of the states
    that it leaves."""

    feeds: Feeds
    left: list[Range]


@torch.no_grad()
def measure(parts: list[Part], cells: np.ndarray) -> Iterator[Measured]:
    """Each part when a network answers N cells: the whole is given the cells, and each segment what the one before it
    left."""
    batches = [(torch.from_numpy(cells[start : start + BATCH]),) for start in range(0, len(cells), BATCH)]
    whole, *segments = parts
    yield Measured(_named(whole, batches), [])
    states: list[tuple[torch.Tensor, ...]] = list(batches)
    for segment in segments:
        after = [segment.module(*state)[1:] for state in states]
        left = [range_of([tensor.numpy() for tensor in state]) for state in zip(*after, strict=True)]
        yield Measured(_named(segment, states), left)
        states = after


def _named(part: Part, states: list[Any]) -> Feeds:
    return [{name: tensor.numpy() for name, tensor in zip(part.inputs, state, strict=True)} for state in states]


def write_run_files(run: Run, folder: Path) -> None:
    """Put beside the graphs what is read of a run: what it is, its cells, and what its validation cells decided.

    Raises:
        CytodistillError: what was decided is damaged, or another run's.
    """
    Run(folder, run.info).write()
    run.table().write(folder / MANIFEST)
    calibration.read_fitted(run.path, run.info["fingerprint"])
    read_policies(run)
    for name in (calibration.FILE, policies.FILE):
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, folder / name)


def described(run: Run, predictor: Predictor, target: Target, weights: str) -> dict[str, Any]:
    """What artifact.json says of a run, for whoever answers without this package: all but graphs and parity."""
    fitted, data = predictor.fitted, run.recipe.data
    assert isinstance(predictor.inputs, ImageInputs)
    return {
        "runtime": target.runtime,
        "precision": target.precision,
        "run": {"name": run.path.absolute().name, "fingerprint": run.info["fingerprint"], "weights": weights},
        "classes": list(run.classes),
        "exits": predictor.exits,
        "input": {
            "name": "cells",
            "shape": ["batch", *predictor.inputs.shape],
            "type": "uint8",
            "colours": "RGB",
            "resize": data.resize,
            "window": data.window,
            "normalised": "in the graph",
        },
        "calibration": None
        if fitted is None
        else {
            "of": "softmax((log p) / temperature): each exit's p shallow to deep, and last the mean of the exits' p",
            "temperature": [calibrator.to_dict() for calibrator in fitted.temperature],
        },
        "class_map": fitted.class_map.name if fitted and fitted.class_map else None,
        "operating_points": {} if fitted is None else {point.name: point.threshold for point in fitted.points},
        "policies": {name: stored.policy.to_dict() for name, stored in read_policies(run).items()},
        "versions": {
            name: version(name)
            for name in ("cytodistill", "torch", *PACKAGES[target.runtime], *(["nncf"] if _by_nncf(target) else []))
        },
    }


def _by_nncf(target: Target) -> bool:
    return target.int8 and target.runtime == "openvino"
