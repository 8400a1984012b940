"""The run that answers, with everything its validation cells decided. All of it happens on the network's thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytodistill.data.class_map import ClassMap, map_for
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import ImageInputs
from cytodistill.explain.cam import CamMethod, ClassMaps, Place, class_maps
from cytodistill.formats.pixel_size import PixelSize, scale_between
from cytodistill.formats.places import Cut
from cytodistill.infer.exit_policy import ExitPolicy, never
from cytodistill.infer.field import cut_of
from cytodistill.infer.fitted import Fitted, abnormality, voices
from cytodistill.infer.policies import load_policy
from cytodistill.infer.predictor import Predictor, load
from cytodistill.metrics.selective import doubt
from cytodistill.serve.coordinates import IN_A_FORM
from cytodistill.serve.identity import Identity
from cytodistill.serve.schemas import ClassSet, ExitAnswer, Policy, Prediction
from cytodistill.serve.schemas import Model as ModelSchema
from cytodistill.train.run_folder import Run


class Model:
    """A predictor and what turns its probabilities into what a reviewer is shown.

    Args:
        predictor: the run's.
        identity: the run's.
        class_map: says which classes are abnormal.
        sets: name of the conformal sets among the fitted.
        policy: says where early exit would have stopped.
        cut: what the run cuts of cells with outlines.
    """

    def __init__(
        self,
        predictor: Predictor,
        identity: Identity,
        class_map: ClassMap | None,
        sets: str | None,
        policy: ExitPolicy,
        cut: Cut,
    ) -> None:
        self.predictor, self.identity = predictor, identity
        self.class_map, self.policy, self.cut = class_map, policy, cut
        self.fitted: Fitted | None = predictor.fitted
        self.sets = self.fitted.conformal[sets] if self.fitted is not None and sets is not None else None
        self.sets_name = sets if self.sets is not None else None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.predictor.classes

    @property
    def prepared_size(self) -> int | None:
        """Side in pixels to which cells are resized; None where the run wants them as they are, to measure them."""
        inputs = self.predictor.inputs
        return inputs.data.image_size if isinstance(inputs, ImageInputs) else None

    def window(self, pixels: PixelSize) -> float:
        """Side of the window round a cell in a field's pixels.

        Raises:
            CytodistillError: they are not those of the training, and that is not allowed.
        """
        data = self.predictor.recipe.data
        scale = scale_between(data.microns_per_pixel, pixels.microns, "image", pixels.ignore, IN_A_FORM)
        return data.window * scale

    def predictions(self, cells: np.ndarray) -> list[Prediction]:
        """Answers to (B, S, S, 3) cells, as `Predictor.predict_cells` gives them and more."""
        found = self.predictor.predict_cells(cells, batch_size=len(cells))
        exits, ensemble = found.exit_probabilities, found.probabilities
        calibrated = None
        if self.fitted is not None:
            calibrated = self.fitted.temperature[-1].calibrated(voices(exits, ensemble)[-1])
        believed = ensemble if calibrated is None else calibrated
        doubts = doubt(believed)
        disagreement = doubt(exits, "disagreement") if exits.shape[1] > 1 else None
        abnormal = None
        if self.class_map is not None:
            abnormal = abnormality(self.class_map, believed, np.zeros(len(cells), int), self.classes)[0]
        sets = None if self.sets is None else self.sets.sets(believed)
        used = self.policy.used(exits)
        return [
            Prediction(
                predicted=found.predicted[n],
                confidence=float(ensemble[n].max()),
                probabilities=self._named(ensemble[n]),
                calibrated=None if calibrated is None else self._named(calibrated[n]),
                set=None if sets is None else self._set(sets[n]),
                doubt=float(doubts[n]),
                abnormal=None if abnormal is None else float(abnormal[n]),
                disagreement=None if disagreement is None else float(disagreement[n]),
                exits=[self._exit(number, answer) for number, answer in enumerate(exits[n], start=1)],
                stops_at=int(used[n]) + 1,
            )
            for n in range(len(cells))
        ]

    def maps(self, cell: np.ndarray, method: CamMethod, at: Place, of: str | None) -> ClassMaps:
        """Class-activation maps of one cell, at the network's size.

        Raises:
            CytodistillError: the run has no maps, or the arguments do not fit it.
        """
        network, device = self.predictor.network, self.predictor.device
        images = self.predictor.inputs.tensor(torch.from_numpy(cell[None].copy()).to(device))
        wanted = None if of is None else np.array([self.classes.index(of)])
        return class_maps(network, images, wanted, method=method, at=at)

    def schema(self, limits: dict[str, float]) -> ModelSchema:
        """The run as the API tells it."""
        abnormal = self.class_map.abnormal if self.class_map is not None else ()
        mapped = self.class_map.classes if self.class_map is not None else {}
        return ModelSchema(
            name=self.identity.name,
            run=self.identity.fingerprint,
            classes=list(self.classes),
            exits=self.predictor.exits,
            image_size=self.predictor.size,
            window=self.predictor.recipe.data.window,
            cut=self.cut,
            microns_per_pixel=self.predictor.recipe.data.microns_per_pixel,
            calibrated=self.fitted is not None,
            class_map=None if self.class_map is None else self.class_map.name,
            abnormal=[name for name in self.classes if mapped.get(name) in abnormal],
            operating_points={} if self.fitted is None else {p.name: p.threshold for p in self.fitted.points},
            sets=self.sets_name,
            coverage=None if self.sets is None else self.sets.coverage,
            policy=Policy(kind=self.policy.kind, thresholds=list(self.policy.thresholds)),
            explains=self.explains,
            limits=limits,
        )

    @property
    def explains(self) -> bool:
        """Whether the run has maps."""
        try:
            _ = self.predictor.network
        except CytodistillError:
            return False
        return self.predictor.recipe.estimator.head == "none"

    def _named(self, probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.classes, map(float, probabilities), strict=True))

    def _exit(self, number: int, answer: np.ndarray) -> ExitAnswer:
        predicted = self.classes[int(answer.argmax())]
        return ExitAnswer(
            exit=number, predicted=predicted, confidence=float(answer.max()), probabilities=self._named(answer)
        )

    def _set(self, chosen: np.ndarray) -> ClassSet:
        assert self.sets is not None
        assert self.sets_name is not None
        held = [name for name, holds in zip(self.classes, chosen, strict=True) if holds]
        return ClassSet(name=self.sets_name, coverage=self.sets.coverage, classes=held)


def load_model(
    path: Path,
    identity: Identity,
    *,
    device: str = "auto",
    threads: int = 1,
    class_map: str | None = None,
    sets: str = "lac-0.9-by-group",
    policy: str | None = None,
    confidence: float = 0.95,
) -> Model:
    """Load a run for the service.

    Args:
        path: run folder.
        identity: of the run.
        device: to compute on.
        threads: of torch.
        class_map: name or file; by default what the run was evaluated with, or its data set's own.
        sets: name of the conformal sets that are shown, where the run has some.
        policy: name of the run's exit policy by which it is told where a cell would have stopped.
        confidence: without a policy, the threshold of every exit but the last.

    Raises:
        CytodistillError: the run is damaged, or has no such sets, map or policy.
    """
    torch.set_num_threads(threads)
    predictor = load(path, device, threads)
    fitted = predictor.fitted
    if fitted is not None and sets not in fitted.conformal:
        raise CytodistillError(f"--sets {sets}: the run has {', '.join(fitted.conformal)}; choose one of them")
    if policy is not None:
        stopping = load_policy(path, policy)
    else:
        thresholds = (confidence,) * (predictor.exits - 1) + (never("confidence", predictor.exits),)
        stopping = ExitPolicy("confidence", thresholds)
    mapped = _map(path, predictor, class_map)
    cut = cut_of(Run.open(path))
    model = Model(predictor, identity, mapped, None if fitted is None else sets, stopping, cut)
    # The first pass allocates and chooses kernels; nobody should wait for that.
    model.predictions(predictor.stack([np.full(predictor.inputs.shape, 128, predictor.inputs.dtype)]))
    return model


def _map(path: Path, predictor: Predictor, named: str | None) -> ClassMap | None:
    """The map that is asked for, or that the run's operating points are of, or of the run's data set."""
    if named is not None:
        found = ClassMap.load(named)
        if unknown := [name for name in predictor.classes if found.classes.get(name) is None]:
            raise CytodistillError(f"--map {named}: says nothing of class {unknown[0]!r}; give another map")
        return found
    if predictor.fitted is not None and predictor.fitted.class_map is not None:
        return predictor.fitted.class_map
    return map_for(_format(path), predictor.classes)


def _format(path: Path) -> str:
    info: dict[str, Any] = Run.open(path).info
    return str(info["table"].get("format", ""))
