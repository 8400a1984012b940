"""Predictor: a run folder in, probabilities out, with the preprocessing that the run was trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cytodistill.data.images import Box, rgb_array
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import inputs_of
from cytodistill.infer.engine import Engine, TorchEngine
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
    """A trained network with its preprocessing.

    Args:
        engine: computes the network's exits, shallow → deep.
        classes: the C class names, in the order of its logits.
        recipe: of its training; the ``data`` section says how cells are preprocessed.
    """

    def __init__(self, engine: Engine, classes: Sequence[str], recipe: Recipe) -> None:
        self.engine = engine
        self.classes = tuple(classes)
        self.recipe = recipe
        self.size = recipe.data.image_size
        self.inputs = inputs_of(recipe)

    @property
    def exits(self) -> int:
        """Number of exits E."""
        return sum(self.engine.exits_of)

    @property
    def network(self) -> Network:
        """The network itself, for what needs more of it than answers.

        Raises:
            CytodistillError: the predictor is of an exported artifact, which holds graphs.
        """
        return self._torch().network

    @property
    def device(self) -> torch.device:
        """Where the network is; raises as ``network``."""
        return self._torch().device

    def _torch(self) -> TorchEngine:
        if not isinstance(self.engine, TorchEngine):
            raise CytodistillError("an exported artifact answers, and its network cannot be looked into; give the run")
        return self.engine

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
        return self.predict_cells(self.stack([self.cell(image) for image in images]), batch_size, logits)

    def read(self, root: str | Path, path: str, box: Box | None = None) -> np.ndarray:
        """The network's input for the cell ``path`` of a folder or zip archive, or for its window ``box``: (S, S, 3)
        uint8, or (27,) features of an estimator of shapes. Threads may call it at once."""
        return self.inputs.read(root, path, box)

    def stack(self, cells: Sequence[np.ndarray]) -> np.ndarray:
        """Inputs as ``predict_cells`` takes them, of none as well."""
        return np.stack(cells) if len(cells) else np.zeros((0, *self.inputs.shape), self.inputs.dtype)

    def cell(self, image: Picture) -> np.ndarray:
        """The network's input for one image."""
        if isinstance(image, str | Path):
            path = Path(image)
            return self.read(path.parent, path.name)
        array = rgb_array(image, "image") if isinstance(image, Image.Image) else np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
            raise CytodistillError(
                f"image of shape {array.shape} and type {array.dtype}: give an (H, W, 3) uint8 RGB array"
            )
        return self.inputs.of_image(array)

    def predict_cells(
        self,
        cells: np.ndarray,
        batch_size: int = 64,
        logits: bool = False,
        progress: Callable[[int, int], None] | None = None,
        rows: np.ndarray | None = None,
    ) -> Predictions:
        """Answers for N of the network's inputs, or their ``rows``: cells of its size (N, S, S, 3) uint8, as the cache
        holds them, or shapes (N, 27)."""
        rows = np.arange(len(cells)) if rows is None else rows
        probabilities, raw = [], []
        for start in range(0, len(rows), batch_size):
            answers = torch.from_numpy(self.engine.whole(np.array(cells[rows[start : start + batch_size]])))
            probabilities.append(answers.softmax(-1))
            if logits:
                raw.append(answers)
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
    return Predictor(TorchEngine(run.network(), inputs_of(run.recipe), where), run.classes, run.recipe)
