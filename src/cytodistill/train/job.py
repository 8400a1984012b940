"""What one training is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytodistill.data.cache import DeviceCells
from cytodistill.distill import Method, Pretraining
from cytodistill.models.multi_exit import Network
from cytodistill.recipe import Recipe
from cytodistill.train.distributed import Ranks
from cytodistill.train.log import Watcher
from cytodistill.train.teacher import FrozenTeacher


@dataclass
class Job:
    """What is trained, on what, where to."""

    recipe: Recipe
    classes: tuple[str, ...]
    network: Network
    method: Method
    teacher: FrozenTeacher | None
    cells: DeviceCells
    labels: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    folder: Path
    fingerprint: str
    ranks: Ranks
    watcher: Watcher
    stage: str = "student"
    """Its name for people."""
    pretraining: Pretraining | None = None
    """The method's stage before the training itself, where this job is that stage."""
