"""What a network of ours is fed: resized cells, or features of a cell's shape; from a table, a file or a picture."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cytodistill.data.augment import Preprocess
from cytodistill.data.cache import cached_cells
from cytodistill.data.images import Box, cut_cell, load_cell, resize
from cytodistill.data.storage import display
from cytodistill.data.table import BOX, CellTable
from cytodistill.errors import CytodistillError
from cytodistill.estimators import MeasureError
from cytodistill.recipe import Data, Recipe

if TYPE_CHECKING:
    from cytodistill.estimators.contours import Contours

Progress = Callable[[int, int], None]


class ImageInputs:
    """(S, S, 3) uint8 cells of the network's size, normalised on its device."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.shape = (data.image_size, data.image_size, 3)
        self.dtype = np.dtype(np.uint8)
        self._preprocess = Preprocess(data.mean, data.std)

    def read(self, root: str | Path, path: str, box: Box | None = None) -> np.ndarray:
        """Input of the cell ``path`` of ``root``, or of its window ``box``."""
        return load_cell(root, path, self.data.image_size, self.data.resize, box)

    def of_image(self, image: np.ndarray | Image.Image) -> np.ndarray:
        """Input of one cell's (H, W, 3) uint8 array or RGB picture."""
        return resize(image, self.data.image_size, self.data.resize)

    def of_table(self, table: CellTable, rows: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """(N, S, S, 3) inputs of all N cells of a table; ``rows`` are those that are wanted."""
        return cached_cells(table, self.data.image_size, self.data.resize, progress)

    def tensor(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) float32 of a batch of inputs on its device."""
        return self._preprocess(batch).contiguous(memory_format=torch.channels_last)


class ShapeInputs:
    """(27,) float64 features of ``shape_features``, measured in the image as it is, before any resizing.

    ``origins`` counts where the contours of the cells read so far came from: "file" or "segmented".

    Raises:
        CytodistillError: scikit-image is not installed.
    """

    def __init__(self, contours: str) -> None:
        try:
            from cytodistill.estimators import contours as outlines
            from cytodistill.estimators import shape
        except ImportError as error:
            if "skimage" not in str(error):
                raise
            raise CytodistillError(
                "estimator.features=shape: scikit-image is not installed; pip install 'cytodistill[estimators]'"
            ) from None
        self._outlines, self._features = outlines, shape.shape_features
        self.contours = contours
        self.shape = (len(shape.SHAPE_FEATURES),)
        self.dtype = np.dtype(np.float64)
        self.origins: Counter[str] = Counter()
        self._counting = Lock()

    def read(self, root: str | Path, path: str, box: Box | None = None) -> np.ndarray:
        """Input of the cell ``path`` of ``root``, or of its window ``box``."""
        box = box or (math.nan,) * 4
        image = cut_cell(root, path, box)
        try:
            return self._measure(image, self._outlines.cell_contours(image, root, path, box, self.contours))
        except MeasureError as error:
            raise CytodistillError(f"{display(root, path)}: {error}") from None

    def of_image(self, image: np.ndarray | Image.Image) -> np.ndarray:
        """Input of one cell's (H, W, 3) uint8 array or RGB picture, which is segmented."""
        image = np.asarray(image)
        if self.contours == "file":
            raise CytodistillError(
                "estimator.contours=file: a picture in memory has no contours beside it; give the path of its file"
            )
        try:
            return self._measure(image, self._outlines.segmented_contours(image))
        except MeasureError as error:
            raise CytodistillError(f"image: {error}") from None

    def of_table(self, table: CellTable, rows: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """(N, 27) inputs of the N cells of a table, measured for ``rows`` and NaN elsewhere.

        Raises:
            CytodistillError: cells that cannot be measured; the first is named and the others counted.
        """
        features = np.full((len(table), *self.shape), np.nan)
        cells = table.frame.iloc[rows][["root", "path", *BOX]].itertuples(index=False, name=None)
        problems: list[str] = []

        def measure(cell: tuple) -> np.ndarray | None:
            root, path, *box = cell
            try:
                return self.read(root, path, tuple(box))
            except CytodistillError as error:
                problems.append(str(error))
                return None

        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for done, (row, found) in enumerate(zip(rows, pool.map(measure, list(cells)), strict=True), start=1):
                if found is not None:
                    features[row] = found
                if progress and (done % 16 == 0 or done == len(rows)):
                    progress(done, len(rows))
        if problems:
            more = f"; {len(problems) - 1} more" if len(problems) > 1 else ""
            raise CytodistillError(f"{min(problems)}{more}")
        return features

    def tensor(self, batch: Tensor) -> Tensor:
        """(B, 27) float32 of a batch of inputs on its device."""
        return batch.float()

    def _measure(self, image: np.ndarray, contours: Contours) -> np.ndarray:
        features = self._features(image, contours.nucleus, contours.cytoplasm)
        with self._counting:
            self.origins[contours.origin] += 1
        return features


Inputs = ImageInputs | ShapeInputs


def inputs_of(recipe: Recipe) -> Inputs:
    """Inputs of the network that a recipe describes."""
    estimator = recipe.estimator
    if estimator.head != "none" and estimator.features == "shape":
        return ShapeInputs(estimator.contours)
    return ImageInputs(recipe.data)


def contours_note(inputs: Inputs) -> str:
    """How many cells had contours and how many were segmented, where that matters; else nothing."""
    if not isinstance(inputs, ShapeInputs):
        return ""
    return f"contours: {inputs.origins['file']} cells from files, {inputs.origins['segmented']} segmented"
