"""Estimator: features that are not trained with the classifier, and a small head on them, as a network of one exit."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Format
from torch import Tensor, nn

from cytodistill.errors import CytodistillError, reason
from cytodistill.estimators.heads import restore_head
from cytodistill.estimators.numbers import Numbers, Standard, Temperature
from cytodistill.models.backbone import create_backbone
from cytodistill.models.outputs import ExitOutputs
from cytodistill.recipe import Recipe


class Estimator(nn.Module):
    """Frozen network → standardised features → head → decision values / temperature; or the same from shape features.

    (B, 3, S, S) images, or (B, 27) shape features where there is no network, → ExitOutputs of one exit, whose features
    are the standardised ones. An ordinary module: it is saved, loaded and run like any network here.

    Args:
        recipe: its ``estimator`` and ``student`` sections.
        classes: C.

    Raises:
        CytodistillError: timm cannot build the network, or it does not take images of the recipe's size.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        super().__init__()
        self.kind = recipe.estimator.features
        self.backbone = None if self.kind == "shape" else _trunk(recipe)
        # Until ``complete``, which knows their sizes.
        self.standard: nn.Module = nn.Identity()
        self.head: nn.Module = nn.Identity()
        self.temperature: nn.Module = nn.Identity()
        self.classes = classes
        self.exits = 1
        self.eval().requires_grad_(False)

    @property
    def keep_maps(self) -> bool:
        """Whether stage maps are shown, as networks can; an estimator has none to show."""
        return False

    @keep_maps.setter
    def keep_maps(self, wanted: bool) -> None:
        if wanted:
            raise CytodistillError(
                "method.name: it compares stage maps, and an estimator as teacher shows none; set method.name=kd, or "
                "choose another teacher"
            )

    def complete(self, standard: Standard, head: Numbers, temperature: Temperature) -> Estimator:
        """This estimator with its fitted parts."""
        self.standard, self.head, self.temperature = standard, head, temperature
        return self.eval()

    def measure(self, inputs: Tensor) -> Tensor:
        """(B, F) features of a batch, not yet standardised."""
        if self.backbone is not None:
            return deep_features(self.backbone, self.kind, inputs)
        if inputs.ndim != 2:
            raise CytodistillError(
                "estimator.features=shape: such a run classifies shapes, not images, so it can be no teacher; choose "
                "another run"
            )
        return inputs

    def forward(self, inputs: Tensor) -> ExitOutputs:
        features = self.standard(self.measure(inputs).float())
        return ExitOutputs([self.temperature(self.head(features))], [features])


def deep_features(backbone: Any, kind: str, images: Tensor) -> Tensor:
    """(B, F) features of (B, 3, S, S) images.

    "conv" is the last convolutional map, averaged over its positions: cells lie any way round, so that a feature's
    place says little. "fc" is what the network's classifier would be given, in VGG the 4,096 of its second fully
    connected layer. Where the classifier sits right on the pooled map (ResNet, DenseNet) the two are much the same.
    """
    last = backbone.forward_features(images)
    if kind == "fc":
        return backbone.forward_head(last, pre_logits=True).flatten(1)
    if last.ndim != 4:
        raise CytodistillError(
            "estimator.features=conv: student.backbone has no convolutional map; set estimator.features=fc"
        )
    if getattr(backbone, "output_fmt", None) == Format.NHWC:
        last = last.permute(0, 3, 1, 2)
    return last.mean((2, 3))


def restore_estimator(recipe: Recipe, classes: int, state: dict[str, Tensor]) -> Estimator:
    """Estimator of a saved state, which knows its sizes.

    Raises:
        RuntimeError: the state is of another network.
    """
    parts: dict[str, dict[str, Tensor]] = {"standard": {}, "head": {}, "temperature": {}}
    for name, tensor in state.items():
        part, _, number = name.partition(".")
        if part in parts:
            parts[part][number] = tensor
    estimator = Estimator(recipe, classes).complete(
        Standard(**parts["standard"]),
        restore_head(recipe.estimator, parts["head"]),
        Temperature(**parts["temperature"]),
    )
    estimator.load_state_dict(state)
    return estimator


def _trunk(recipe: Recipe) -> Any:
    """The student's network without a classifier, its weights drawn from the seed."""
    student, side = recipe.student, recipe.data.image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        backbone = create_backbone(student.backbone, stem=student.stem, image_size=side, num_classes=0)
    try:
        with torch.no_grad():
            deep_features(backbone.eval(), recipe.estimator.features, torch.zeros(1, 3, side, side))
    except RuntimeError as error:
        raise CytodistillError(
            f"data.image_size={side}: {student.backbone!r} does not take such images ({reason(error)}); use larger ones"
        ) from None
    return backbone
