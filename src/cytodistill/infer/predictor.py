"""Predictor: a run folder in, probabilities out, with the preprocessing that the run was trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cytodistill.data.augment import Preprocess
from cytodistill.data.images import load_cell, resize, rgb_array
from cytodistill.errors import CytodistillError
from cytodistill.models.multi_exit import Network
from cytodistill.models.outputs import ensemble
from cytodistill.recipe import Recipe
from cytodistill.train.distributed import wants_gpu
from cytodistill.train.run_folder import Run

Picture = str | Path | np.ndarray | Image.Image


@dataclass(frozen=True)
class Predictions:
    """Answers for N cells: ``probabilities`` (N, C) of the ensemble, ``exit_probabilities`` (N, E, C) of the exits,
    shallow → deep, and ``logits`` (N, E, C) of the exits where they were asked for; float32."""

    classes: tuple[str, ...]
    probabilities: np.ndarray
    exit_probabilities: np.ndarray
    logits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def predicted(self) -> list[str]:
        """Most probable class of each cell; the first on a tie."""
        return [self.classes[code] for code in self.probabilities.argmax(1)]


class Predictor:
    """A trained network with its preprocessing, in eval mode, in float32.

    Args:
        network: the network, its exits shallow → deep.
        classes: the C class names, in the order of its logits.
        recipe: of its training; the ``data`` section says how cells are preprocessed.
        device: to compute on.
    """

    def __init__(
        self, network: Network, classes: Sequence[str], recipe: Recipe, device: torch.device | None = None
    ) -> None:
        self.device = device or torch.device("cpu")
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.classes = tuple(classes)
        self.recipe = recipe
        self.size = recipe.data.image_size
        self._preprocess = Preprocess(recipe.data.mean, recipe.data.std)

    @property
    def exits(self) -> int:
        """Number of exits E."""
        return self.network.exits

    def predict(
        self, images: Picture | Iterable[Picture], *, batch_size: int = 64, logits: bool = False
    ) -> Predictions:
        """Answers for single-cell images.

        Args:
            images: one or more paths, PIL images, or (H, W, 3) uint8 RGB arrays.
            batch_size: cells computed at once.
            logits: keep the exits' logits too.

        Raises:
            CytodistillError: an image that cannot be read or is of another type or shape.
        """
        if isinstance(images, str | Path | np.ndarray | Image.Image):
            images = [images]
        cells = [self.cell(image) for image in images]
        shape = (0, self.size, self.size, 3)
        return self.predict_cells(np.stack(cells) if cells else np.zeros(shape, np.uint8), batch_size, logits)

    def cell(self, image: Picture) -> np.ndarray:
        """(S, S, 3) uint8 network-sized cell from one image."""
        mode = self.recipe.data.resize
        if isinstance(image, str | Path):
            path = Path(image)
            return load_cell(path.parent, path.name, self.size, mode)
        array = rgb_array(image, "image") if isinstance(image, Image.Image) else np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
            raise CytodistillError(
                f"image of shape {array.shape} and type {array.dtype}: give an (H, W, 3) uint8 RGB array"
            )
        return resize(array, self.size, mode)

    @torch.inference_mode()
    def predict_cells(
        self,
        cells: np.ndarray,
        batch_size: int = 64,
        logits: bool = False,
        progress: Callable[[int, int], None] | None = None,
        rows: np.ndarray | None = None,
    ) -> Predictions:
        """Answers for (N, S, S, 3) uint8 cells of the network's size, as the cache holds them, or their ``rows``."""
        rows = np.arange(len(cells)) if rows is None else rows
        probabilities, raw = [], []
        for start in range(0, len(rows), batch_size):
            batch = torch.from_numpy(np.array(cells[rows[start : start + batch_size]])).to(self.device)
            images = self._preprocess(batch).contiguous(memory_format=torch.channels_last)
            outputs = self.network(images)
            probabilities.append(outputs.probabilities().cpu())
            if logits:
                raw.append(torch.stack(outputs.logits, dim=1).float().cpu())
            if progress:
                progress(min(start + batch_size, len(rows)), len(rows))
        shape = (0, self.exits, len(self.classes))
        exits = torch.cat(probabilities) if probabilities else torch.zeros(shape)
        kept = (torch.cat(raw) if raw else torch.zeros(shape)).numpy() if logits else None
        return Predictions(self.classes, ensemble(exits).numpy(), exits.numpy(), kept)


def load(run: str | Path | Run, device: str = "auto") -> Predictor:
    """Predictor of a finished run folder.

    Raises:
        CytodistillError: the run is not there, not finished, or damaged.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    where = torch.device("cuda" if wants_gpu(device) else "cpu")
    return Predictor(run.network(), run.classes, run.recipe, where)
