"""Predictor: a run folder or exported artifact in, probabilities out, with the preprocessing of the run's training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from cytodistill.data.images import Box, rgb_array
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import inputs_of
from cytodistill.infer.artifact import Artifact, is_artifact
from cytodistill.infer.early_exit import Answers, EarlyExit
from cytodistill.infer.engine import Engine
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.fitted import Fitted, read_fitted
from cytodistill.infer.runtimes import ENGINES
from cytodistill.metrics.calibration import clipped_log
from cytodistill.models.outputs import ensemble
from cytodistill.recipe import Recipe
from cytodistill.train.distributed import wants_gpu
from cytodistill.train.run_folder import Run

if TYPE_CHECKING:
    from cytodistill.infer.torch_engine import TorchEngine
    from cytodistill.models.multi_exit import Network

Picture = str | Path | np.ndarray | Image.Image


@dataclass(frozen=True)
class Predictions:
    """Answers for N cells: ``probabilities`` (N, C) of the ensemble, ``exit_probabilities`` (N, E, C) of the exits,
    shallow → deep, and ``logits`` (N, E, C) of the exits where they were asked for; float32. Under an exit policy
    ``used`` (N,) is the exit that each cell stopped at, from 0, the probabilities are its answer's, and those of exits
    that were not computed are NaN."""

    classes: tuple[str, ...]
    probabilities: np.ndarray
    exit_probabilities: np.ndarray
    logits: np.ndarray | None = None
    used: np.ndarray | None = None

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
        fitted: what the validation cells decided, where they did; its temperature calibrates ``answer``.
    """

    def __init__(self, engine: Engine, classes: Sequence[str], recipe: Recipe, fitted: Fitted | None = None) -> None:
        self.engine = engine
        self.classes = tuple(classes)
        self.recipe = recipe
        self.fitted = fitted
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
        from cytodistill.infer.torch_engine import TorchEngine

        if not isinstance(self.engine, TorchEngine):
            raise CytodistillError("an exported artifact answers, and its network cannot be looked into; give the run")
        return self.engine

    def predict(
        self,
        images: Picture | Iterable[Picture],
        *,
        batch_size: int = 64,
        logits: bool = False,
        policy: ExitPolicy | None = None,
    ) -> Predictions:
        """Answers for single-cell images.

        Args:
            images: one or more paths, PIL images, or (H, W, 3) uint8 RGB arrays.
            batch_size: cells computed at once.
            logits: keep the exits' logits too.
            policy: stop at the exit that it says; the ensemble of all exits by default.

        Raises:
            CytodistillError: an image that cannot be read or is of another type or shape; a policy of another network.
        """
        if isinstance(images, str | Path | np.ndarray | Image.Image):
            images = [images]
        cells = self.stack([self.cell(image) for image in images])
        return self.predict_cells(cells, batch_size, logits, policy=policy)

    def answer(
        self, cells: np.ndarray, policy: ExitPolicy | None = None, calibrated: bool = True, batch_size: int = 64
    ) -> Answers:
        """Answers to N of the network's inputs, calibrated, each from the exit at which a policy lets it stop.

        A segment computes ``batch_size`` cells that no shallower exit has answered; give many batches at once, so that
        deep segments have whole ones too.

        Args:
            cells: (N, S, S, 3) uint8, or shapes (N, 27).
            policy: stop at the exit that it says; by default all exits are computed, and their mean answers.
            calibrated: apply the policy's calibrators; without a policy the ensemble's temperature, where the run has
                one.
            batch_size: cells computed at once.

        Raises:
            CytodistillError: the policy is of another number of exits.
        """
        if policy is not None:
            return EarlyExit(self.engine, policy, len(self.classes), batch_size).answer(cells, calibrated)
        found = self.predict_cells(cells, batch_size)
        probabilities = found.probabilities
        if calibrated and self.fitted is not None:
            calibrator = self.fitted.temperature[-1]
            probabilities = calibrator.calibrated(clipped_log(probabilities)).astype(probabilities.dtype)
        return Answers(probabilities, np.full(len(found), self.exits - 1), found.exit_probabilities)

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
        policy: ExitPolicy | None = None,
    ) -> Predictions:
        """Answers for N of the network's inputs, or their ``rows``: cells of its size (N, S, S, 3) uint8, as the cache
        holds them, or shapes (N, 27); not calibrated. See ``predict`` for the rest.

        Raises:
            CytodistillError: the policy is of another number of exits, or logits are asked for under one.
        """
        rows = np.arange(len(cells)) if rows is None else rows
        if policy is not None:
            if logits:
                raise CytodistillError("logits: under an exit policy not all are computed; leave one of the two out")
            early = EarlyExit(self.engine, policy, len(self.classes), batch_size)
            found = early.answer(cells, calibrated=False, rows=rows, progress=progress)
            return Predictions(self.classes, found.probabilities, found.exits, used=found.used)
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


def load(run: str | Path | Run, device: str = "auto", threads: int | None = None) -> Predictor:
    """Predictor of a finished run folder, or of the artifact that was exported from one.

    Args:
        run: the folder.
        device: "auto", "cpu" or "cuda"; artifacts compute on the CPU.
        threads: cores that an artifact's runtime may use, all by default; for a run, torch's own setting counts.

    Raises:
        CytodistillError: the run or artifact is not there, not finished, or damaged, or its runtime is not installed.
    """
    folder = run.path if isinstance(run, Run) else Path(run)
    artifact = Artifact.open(folder) if is_artifact(folder) else None
    run = run if isinstance(run, Run) else Run.open(run)
    fitted = read_fitted(run.path, run.info["fingerprint"])
    engine: Engine
    if artifact is not None:
        if device == "cuda":
            raise CytodistillError(f"--device cuda: {folder} is an artifact, which computes on the CPU; leave it out")
        engine = ENGINES[artifact.runtime](artifact.graphs, artifact.read, threads, f"{artifact.path}/")
    else:
        # Here and not above: an artifact needs no networks, whose libraries take 2 s and 300 MiB to import.
        from cytodistill.infer.torch_engine import TorchEngine

        where = torch.device("cuda" if wants_gpu(device) else "cpu")
        engine = TorchEngine(run.network(), inputs_of(run.recipe), where)
    return Predictor(engine, run.classes, run.recipe, fitted)
