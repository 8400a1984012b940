"""Method: what a training step minimises. One method a file, registered by name, its settings a frozen dataclass.

A method is called as ``method(outputs, batch) -> {"loss": …, named parts…}``. What it needs from the loop it declares
in ``needs``; the loop serves needs and knows no method by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import ExitOutputs, OutputShapes

KNOWN_NEEDS = frozenset({"teacher", "maps", "preactivations", "cells", "rotations", "snapshot"})
"""What the loop serves:

- ``teacher``: the frozen teacher's outputs in each batch.
- ``maps``: stage maps in the student's outputs, and in the teacher's where there is one.
- ``preactivations``: the same before their last activation, beside the maps.
- ``cells``: ``see_cells`` is called once, before the first step, with the rows and labels of the training cells.
- ``rotations``: a batch's images are its B views four times over, turned by 0, 90, 180 and 270 degrees, in this order,
  4B in all; labels and index stay those of the B cells.
- ``snapshot``: the teacher is the student itself as it was at the end of the last cycle of the rate (``train.cycles``);
  there is none in the first cycle.
"""

Weight = Annotated[float, Field(ge=0)]
"""Setting: what a part is multiplied by."""
Temperature = Annotated[float, Field(gt=0)]
"""Setting: τ of softmaxes at logits/τ."""


@dataclass
class Batch:
    """One step's images and what goes with them.

    ``images`` (B, 3, S, S) normalised, or (4B, 3, S, S) where the method needs rotations; ``labels`` (B,) codes;
    ``index`` (B,) rows of the cell table; ``teacher`` the frozen teacher's answer to these very images (None in
    teacher-free training).
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    teacher: ExitOutputs | None = None


def sum_of(terms: Iterable[Tensor]) -> Tensor:
    """Sum of scalar tensors."""
    return torch.stack(list(terms)).sum()


class CrossEntropy:
    """Cross-entropy, eq. 1, with the recipe's label smoothing and class weights: mean over the batch of w_y · CE.

    The mean divides by the number of cells, not by the sum of their weights, so that a batch counts the same however it
    is divided among ranks; the weights average 1 over the training cells.
    """

    def __init__(self, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.label_smoothing)
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(losses.device)  # once; then it is there
            losses = losses * self.class_weights[labels]
        return losses.mean()


@dataclass(frozen=True)
class Pretraining:
    """A stage of training before the recipe's own: its epochs, and what differs from the recipe's ``train`` section.

    The stage has its own optimiser and schedule. ``student`` says whether the student is run and trained in it; where
    it is not, the stage's loss is given no outputs of it, and only the method's own parameters learn.
    """

    epochs: int
    train: dict[str, Any] = dataclasses.field(default_factory=dict)
    student: bool = True


class Method(nn.Module):
    """Base of the methods; a subclass sets ``Settings`` and ``needs`` and defines ``forward``.

    It is a module so that what it trains beside the student (adapters, regressors) is optimised, checkpointed and
    synchronised with it, and left out of the saved model.

    Args:
        settings: this method's own, validated.
        cross_entropy: the recipe's, with its class weights.
        student: shapes of what the student returns.
        teacher: shapes of what the teacher returns, or None in teacher-free training.
    """

    Settings: ClassVar[type]
    needs: ClassVar[frozenset[str]] = frozenset()
    """What the loop must serve."""
    uses: ClassVar[frozenset[str]] = frozenset()
    """What it takes where there is some, and does without where there is none."""
    trains_every_exit: ClassVar[bool] = False
    """Whether every exit stands in the loss: such a method wants several exits, any other one exit alone."""
    registered_name: ClassVar[str] = "not registered"

    def __init__(
        self,
        settings: Any,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__()
        if self.trains_every_exit and len(student.features) < 2:
            raise CytodistillError(
                f"method.name={self.registered_name}: the student has one exit, and the method trains several; "
                "set student.multi_exit=true, or method.name=kd or supervised"
            )
        self.settings = settings
        self.cross_entropy = cross_entropy

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        """Named parts, already weighted, that sum to "loss"; scalars, means over the batch."""
        raise NotImplementedError

    def see_cells(self, rows: Tensor, labels: Tensor) -> None:
        """Rows (n,) in the cell table and labels (n,) of the training cells, for a method that needs ``cells``."""
        raise NotImplementedError

    def pretraining(self) -> Pretraining | None:
        """The stage that comes before the training itself, if there is one."""
        return None

    def pretrain(self, outputs: ExitOutputs | None, batch: Batch) -> dict[str, Tensor]:
        """As ``forward``, of the stage before; ``outputs`` is None where the student is not trained in it."""
        raise NotImplementedError

    def begin(self, stage: Literal["pretrain", "train"]) -> None:
        """Told at the start of each stage, so that of the method's own parameters those alone that learn in it ask for
        gradients (all, unless a method says otherwise)."""


_REGISTRY: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator that makes a method known under ``name``; a name that is taken is an error."""

    def add(method: type[Method]) -> type[Method]:
        if name in _REGISTRY:
            raise CytodistillError(f"method {name!r} is registered already, by {_REGISTRY[name].__module__}")
        if unknown := (method.needs | method.uses) - KNOWN_NEEDS:
            raise CytodistillError(f"method {name!r} needs {sorted(unknown)}; the loop serves {sorted(KNOWN_NEEDS)}")
        if not dataclasses.is_dataclass(method.Settings):
            raise CytodistillError(f"method {name!r}: Settings must be a frozen dataclass")
        method.registered_name = name
        _REGISTRY[name] = method
        return method

    return add


def method_names() -> list[str]:
    """Names of the registered methods."""
    return sorted(_REGISTRY)


def method_class(name: str) -> type[Method]:
    """Registered class of that name.

    Raises:
        CytodistillError: there is none.
    """
    if name not in _REGISTRY:
        close = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(method_names())}"
        raise CytodistillError(f"method.name={name!r}: no such method; {hint}")
    return _REGISTRY[name]


def method_settings(name: str, settings: dict[str, Any]) -> Any:
    """The method's validated settings.

    Raises:
        CytodistillError: an unknown setting, a wrong type or a value out of range, by name.
    """
    wanted = method_class(name).Settings
    known = [field.name for field in dataclasses.fields(wanted)]
    for key, value in settings.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known) or 'none'}"
            raise CytodistillError(f"method.{key}: {name!r} has no such setting; {hint}")
        if isinstance(value, float) and not math.isfinite(value):
            raise CytodistillError(f"method.{key}={value}: give a finite number")
    try:
        return TypeAdapter(wanted).validate_python(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise CytodistillError(f"method.{where}={problem['input']!r:.60}: {problem['msg'].lower()}") from None


def build_method(
    name: str,
    settings: dict[str, Any],
    cross_entropy: CrossEntropy,
    student: OutputShapes,
    teacher: OutputShapes | None = None,
) -> Method:
    """The registered method with its settings, ready to be trained along with the student."""
    return method_class(name)(method_settings(name, settings), cross_entropy, student, teacher)
