"""Cells so small and a network so small that a whole run takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodistill.recipe import Recipe


def draw_cells(folder: Path, per_class: int = 15) -> Path:
    """Three classes of noisy 24 px cells told apart by where a blob of varying colour lies; four cells a group."""
    rng = np.random.default_rng(0)
    for code, name in enumerate(("left", "middle", "right")):
        for number in range(per_class):
            cell = rng.integers(90, 160, (24, 24, 3))
            column = 2 + 7 * code + rng.integers(0, 2)
            cell[6:18, column : column + 6] = rng.integers(0, 60, 3)
            file = folder / name / f"{name}-slide{number // 4}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(cell.astype(np.uint8)).save(file)
    return folder


TINY = {
    "data.image_size": 64,
    "augment.rotation": 0,
    "augment.horizontal_flip": False,
    "student.backbone": "test_resnet",
    "student.taps": 3,
    "student.pretrained": "none",
    "teacher.pretrained": "none",
    "train.epochs": 3,
    "train.batch_size": 8,
    "train.precision": "fp32",
    "train.lr": 0.02,
}


@pytest.fixture(scope="session")
def cells(tmp_path_factory) -> Path:
    return draw_cells(tmp_path_factory.mktemp("cells") / "tiny")


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    return Recipe.load("quick").override(TINY)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYTODISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
