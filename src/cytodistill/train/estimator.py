"""fit, where the recipe asks for an estimator: every cell is measured once, by a frozen network or by hand-made
features, and a head is fitted. That takes seconds to minutes, so that a run that was killed starts anew."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.estimators.estimator import Estimator
from cytodistill.estimators.heads import fit_head
from cytodistill.estimators.inputs import Inputs, ShapeInputs, contours_note, inputs_of
from cytodistill.estimators.numbers import Sample, fit_standard, fit_temperature
from cytodistill.files import replacing
from cytodistill.metrics.classification import classification_metrics
from cytodistill.models.backbone import check_backbone
from cytodistill.models.count import count_parameters
from cytodistill.models.multi_exit import Network
from cytodistill.models.weights import Transfer, load_pretrained
from cytodistill.recipe import Recipe
from cytodistill.train.log import Watcher
from cytodistill.train.plan import check_pretrained_run
from cytodistill.train.run_folder import Run

BATCH = 64
"""Cells that the frozen network is shown at once."""


@dataclass
class EstimatorPlan:
    """A fit that can start: the estimator without its fitted parts, and where its frozen network's weights are from."""

    recipe: Recipe
    table: CellTable
    network: Estimator
    transfer: Transfer
    inputs: Inputs


def plan_estimator(recipe: Recipe, table: CellTable) -> EstimatorPlan:
    """Check the recipe against the cells and build the frozen network.

    Raises:
        CytodistillError: a setting that does not fit, a class without training cells, or weights that cannot be had.
    """
    settings, student = recipe.estimator, recipe.student
    if recipe.teacher.source != "none":
        raise CytodistillError(f"estimator.head={settings.head}: learns from no teacher; set --teacher none")
    if student.multi_exit:
        raise CytodistillError(f"estimator.head={settings.head}: has one exit; set student.multi_exit=false")
    train = table.indices("train")
    counts = np.bincount(table.labels[train], minlength=len(table.classes))
    if not counts.all():
        raise CytodistillError(
            f"estimator.head={settings.head}: class {table.classes[int(counts.argmin())]!r} has no training cells; "
            "move some into the training split, or leave the class out"
        )
    if settings.head == "gcn" and settings.clusters > len(train):
        raise CytodistillError(
            f"estimator.clusters={settings.clusters}: there are {len(train)} training cells to cluster; lower it"
        )
    inputs = inputs_of(recipe)
    shapes = isinstance(inputs, ShapeInputs)
    if not shapes:
        check_backbone(student.backbone, "student.backbone")
        check_pretrained_run(student.pretrained, table)
    network = Estimator(recipe, len(table.classes))
    side = recipe.data.image_size
    width = inputs.shape[0] if shapes else network.measure(torch.zeros(1, 3, side, side)).shape[1]
    if settings.components > min(width, len(train)):
        raise CytodistillError(
            f"estimator.components={settings.components}: {width} features of {len(train)} training cells have at most "
            f"{min(width, len(train))}; lower it"
        )
    transfer = Transfer("none", 0, ())
    if not shapes:
        transfer = load_pretrained(cast(Network, network), student.backbone, student.pretrained)
    return EstimatorPlan(recipe, table, network, transfer, inputs)


def read_inputs(plan: EstimatorPlan, watcher: Watcher) -> np.ndarray:
    """Inputs of all cells of the table, row by row; of shapes, those of the cells to fit and validate on.

    Raises:
        CytodistillError: cells that cannot be read or measured.
    """
    rows = np.concatenate([plan.table.indices("train"), plan.table.indices("val")])
    stage = "measure" if isinstance(plan.inputs, ShapeInputs) else "decode"
    cells = plan.inputs.of_table(plan.table, rows, lambda done, total: watcher.step(stage, done, total))
    if note := contours_note(plan.inputs):
        watcher.say(note)
    return cells


def train_estimator(plan: EstimatorPlan, run: Run, cells: np.ndarray, device: torch.device, watcher: Watcher) -> None:
    """Fit the estimator into its run folder, and say in run.json that it is finished.

    The training split fits standardiser, components and head; the validation split, where there is one, chooses the
    graph's epoch and fits the temperature.

    Args:
        plan: from ``plan_estimator``; its network is completed.
        run: described, with its folder made.
        cells: from ``read_inputs``.
        device: of the frozen network; heads are fitted on the CPU.
        watcher: is told of progress.
    """
    started = time.monotonic()
    recipe, table, network = plan.recipe, plan.table, plan.network
    train, val = table.indices("train"), table.indices("val")
    raw = _measure(plan, cells, np.concatenate([train, val]), device, watcher)
    standard = fit_standard(raw[: len(train)], recipe.estimator.components)
    features = standard(torch.from_numpy(raw)).numpy()
    fitting = Sample(features[: len(train)], table.labels[train])
    judging = Sample(features[len(train) :], table.labels[val])
    head, epoch = fit_head(recipe.estimator, fitting, judging, len(table.classes), recipe.seed)
    decisions = head(torch.from_numpy(judging.features))
    temperature = fit_temperature(decisions.numpy(), judging.labels)
    network.complete(standard, head, temperature)
    with replacing(run.path / "model.safetensors") as temporary:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, temporary)
    chosen = recipe.estimator.head == "gcn" and len(val) > 0
    result: dict[str, Any] = {
        "selected_by": "cross_entropy" if chosen else "last",
        "best_epoch": epoch,
        "best_value": None,
        "seconds": round(time.monotonic() - started, 1),
        "temperature": float(temperature.value),
    }
    if len(val):
        result["val"] = _figures(temperature(decisions), judging.labels, table.classes)
        watcher.say("student: " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in result["val"].items()))
    if isinstance(plan.inputs, ShapeInputs):
        run.info["versions"]["scikit-image"] = version("scikit-image")
        run.info["contours"] = {origin: plan.inputs.origins[origin] for origin in ("file", "segmented")}
    run.info.update(status="finished", parameters=count_parameters(network), result=result)
    run.write()


@torch.inference_mode()
def _measure(
    plan: EstimatorPlan, cells: np.ndarray, rows: np.ndarray, device: torch.device, watcher: Watcher
) -> np.ndarray:
    """(n, F) float32 features of some rows, not yet standardised."""
    network = plan.network.to(device)
    found = []
    for start in range(0, len(rows), BATCH):
        batch = torch.from_numpy(np.array(cells[rows[start : start + BATCH]])).to(device)
        found.append(network.measure(plan.inputs.tensor(batch)).float().cpu())
        watcher.step("measure", min(start + BATCH, len(rows)), len(rows))
    network.cpu()
    return torch.cat(found).numpy()


def _figures(logits: Tensor, labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    metrics = classification_metrics(logits.softmax(1).numpy(), labels, classes)
    return {name: metrics[name] for name in ("accuracy", "balanced_accuracy", "f1")}
