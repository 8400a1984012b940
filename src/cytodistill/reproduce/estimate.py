"""How long a table will take: a few steps of every system are measured on this machine, and multiplied."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cytodistill.data.cache import DeviceCells
from cytodistill.data.table import CellTable
from cytodistill.distill import method_class
from cytodistill.models.count import count_parameters
from cytodistill.models.multi_exit import build_network
from cytodistill.recipe import Recipe
from cytodistill.reproduce.systems import System
from cytodistill.train.distributed import Ranks, wants_gpu
from cytodistill.train.log import Silent
from cytodistill.train.loop import Job, Trainer
from cytodistill.train.plan import make_plan, show_stages
from cytodistill.train.teacher import FrozenTeacher

MEASURED_BATCH = 8
"""Cells of a measured step at most: its time grows with its cells, and the largest networks take seconds a cell."""
STEPS = 2
MADE_UP = 64
"""Cells of the set that stands in where there is no source yet."""


@dataclass(frozen=True)
class Estimate:
    """Of one run: its network's parameters, and the seconds that a training cell takes once. ``epochs`` includes a
    method's stage before the training. None where nothing can be measured before the run that it starts from."""

    parameters: int
    seconds_a_cell: float
    epochs: int

    def seconds(self, cells: int) -> float:
        """Of a whole training on so many training cells."""
        return self.seconds_a_cell * cells * self.epochs


def made_up_cells(classes: int) -> CellTable:
    """A table of cells that are nowhere, to build networks for when no source is given."""
    names = tuple(f"class {code + 1}" for code in range(classes))
    rows = [
        {
            "root": "",
            "path": f"{number}",
            "label": names[number % classes],
            "group": f"{number}",
            "split": "train" if number < max(MADE_UP, 2 * classes) else "test",
        }
        for number in range(max(MADE_UP, 2 * classes) + classes)
    ]
    return CellTable.from_rows(rows, names, "folder")


def estimate(system: System, recipe: Recipe, cells: CellTable, teacher: str, device: str) -> Estimate | None:
    """Time of a training cell in this system's training, with weights that are random and images that are blank.

    Args:
        system: what is measured.
        recipe: what all systems share.
        cells: a table with splits.
        teacher: network of the teacher.
        device: "auto", "cpu" or "cuda".
    """
    chosen = recipe.override({**system.settings, "student.pretrained": "none"})
    if chosen.estimator.head != "none":
        return None
    batch = min(MEASURED_BATCH, chosen.train.batch_size)
    chosen = chosen.override({"train.batch_size": batch, "train.imbalance": "none"})
    if system.teacher:
        chosen = chosen.override({"teacher.source": teacher, "teacher.pretrained": "none"})
    plan = make_plan(chosen, cells)
    where = torch.device("cuda" if wants_gpu(device) else "cpu")
    frozen = None
    if plan.teacher is not None and plan.teacher.recipe is not None:
        network = build_network(plan.teacher.recipe.student, len(cells.classes), chosen.data.image_size)
        show_stages(network, chosen)
        frozen = FrozenTeacher(network, where)
    elif "snapshot" in method_class(chosen.method.name).needs:
        frozen = FrozenTeacher(build_network(chosen.student, len(cells.classes), chosen.data.image_size), where)
    side = chosen.data.image_size
    blank = np.broadcast_to(np.full((1, 1, 1, 3), 127, np.uint8), (len(cells), side, side, 3))
    rows = cells.indices("train")
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            recipe=chosen,
            classes=cells.classes,
            network=plan.network,
            method=plan.method,
            teacher=frozen,
            cells=DeviceCells(blank, where),
            labels=cells.labels,
            train_rows=rows[: batch * (STEPS + 1)],
            val_rows=rows[:0],
            folder=Path(folder),
            fingerprint="",
            ranks=Ranks(0, 1, where),
            watcher=Silent(),
        )
        seconds = Trainer(job).time_steps(STEPS)
    before = plan.method.pretraining()
    epochs = chosen.train.epochs + (before.epochs if before else 0)
    return Estimate(count_parameters(plan.network), seconds / batch, epochs)


def spoken(seconds: float) -> str:
    """ "40 s", "12 min", "3.4 h" or "2.1 days"."""
    for size, unit in ((86_400, "days"), (3_600, "h")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, round(seconds))} s"
