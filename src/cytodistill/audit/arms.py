"""The two arms of the audit: the same recipe under a random and a grouped split, seed by seed, as ordinary runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytodistill.data.prepare import prepare_table
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.recipe import Recipe
from cytodistill.train.fit import fingerprint, fit
from cytodistill.train.log import Watcher
from cytodistill.train.run_folder import Run

ARMS = {"random": "none", "grouped": "auto"}
"""The arms and their ``data.group``."""


@dataclass(frozen=True)
class Draw:
    """One arm of one seed: its recipe, and the source's cells, row by row, with their splits."""

    arm: str
    seed: int
    recipe: Recipe
    table: CellTable

    @property
    def home(self) -> str:
        """Folder of its run, below the audit's."""
        return f"runs/seed{self.seed}/{self.arm}"


@dataclass(frozen=True)
class Tested:
    """What a run said of its n test cells: ``rows`` (n,) of the source's table and ``probabilities`` (n, C) of the
    ensemble; ``info`` is the run's own run.json."""

    draw: Draw
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    info: dict[str, Any]


def draws(table: CellTable, recipe: Recipe, seeds: int) -> list[Draw]:
    """Every seed's two arms, counted from the recipe's own seed: the seed draws the split and the training alike.

    ``table`` has no splits of its own. Raises CytodistillError where it cannot be split so.
    """
    drawn = []
    for seed in range(recipe.seed, recipe.seed + seeds):
        for arm, group in ARMS.items():
            own = recipe.override({"seed": seed, "data.group": group})
            drawn.append(Draw(arm, seed, own, prepare_table(table, own)))
    return drawn


def test_arms(drawn: list[Draw], out: Path, device: str, watcher: Watcher) -> Iterator[Tested]:
    """Fit and evaluate the draws in order, each in its home below ``out``; what is finished is read back.

    Raises:
        CytodistillError: as ``fit`` and ``evaluate``; or a run there was made with other settings or cells.
    """
    for number, draw in enumerate(drawn, start=1):
        folder = out / draw.home
        tested = _stored(draw, folder)
        if tested is None:
            watcher.say(f"run {number} of {len(drawn)}: seed {draw.seed}, {draw.arm} split")
            run = fit(draw.table, folder, recipe=draw.recipe, resume=True, device=device, watcher=watcher)
            evaluate(run, device=device, report=False, one_group=True, watcher=watcher)
            tested = _stored(draw, folder)
        if tested is None:
            raise CytodistillError(f"{folder}: its report cannot be read back; delete that folder and audit again")
        yield tested


def _stored(draw: Draw, folder: Path) -> Tested | None:
    """The test predictions of a finished run of this very draw, if they are there."""
    rows = draw.table.indices("test")
    try:
        run = Run.open(folder)
        metrics = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
        said = pd.read_csv(folder / "report" / "predictions.csv", dtype={"path": str}, keep_default_na=False)
        probabilities = said[[f"prob_{name}" for name in draw.table.classes]].to_numpy(float)
        same = metrics["run"] == fingerprint(draw.recipe, draw.table) and metrics["split"] == "test"
    except (CytodistillError, OSError, ValueError, KeyError):
        return None  # none yet, or half of one: fit and evaluate decide
    if not same or said["path"].tolist() != draw.table.frame["path"].iloc[rows].tolist():
        return None
    return Tested(draw, rows, probabilities, run.info)
