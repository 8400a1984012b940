"""The frozen teacher: its own fine-tuning as a run inside the run, and the callable that answers with soft labels."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from cytodistill.errors import CytodistillError
from cytodistill.models.multi_exit import Network
from cytodistill.models.outputs import ExitOutputs, ensemble
from cytodistill.recipe import Method, Recipe, Student, Teacher
from cytodistill.train.run_folder import Run


class FrozenTeacher:
    """A network in eval mode without gradients, whose answers are detached. It is no part of what DDP wraps.

    A multi-exit teacher (a run of ours) answers with the logarithm of its ensemble's probabilities as logits.
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> ExitOutputs:
        outputs = self.network(images).detach()
        if len(outputs.logits) > 1:
            soft = ensemble(outputs.probabilities()).clamp_min(1e-12).log()
            return ExitOutputs([soft], [outputs.features[-1]], outputs.maps, outputs.preactivations)
        return outputs

    def digest(self) -> str:
        """Hash of its weights and their names."""
        found = hashlib.blake2b(digest_size=16)
        for name, tensor in self.network.state_dict().items():
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()


def teacher_recipe(recipe: Recipe) -> Recipe:
    """Recipe of the teacher's own fine-tuning: the student's data, augmentation and training, with ``teacher.train`` on
    top, plain cross-entropy, and no teacher of its own."""
    teacher = recipe.teacher
    backbone, pretrained = backbone_of(teacher)
    settings = recipe.model_dump(mode="json")
    settings["name"] = f"{recipe.name} (teacher)"
    settings["student"] = Student(backbone=backbone, pretrained=pretrained, multi_exit=False).model_dump(mode="json")
    settings["teacher"] = Teacher().model_dump(mode="json")
    settings["method"] = Method(name="supervised").model_dump(mode="json")
    settings["train"] = {**settings["train"], "cycles": 1, **teacher.train}
    return Recipe.check(settings, "teacher.train")


def backbone_of(teacher: Teacher) -> tuple[str, str]:
    """timm name and start of a named or weight-file teacher; a file's name says the backbone unless it is set."""
    if is_file(teacher.source):
        return teacher.backbone or Path(teacher.source).stem, teacher.source
    return teacher.backbone or teacher.source, teacher.pretrained


def is_file(source: str) -> bool:
    """Whether a source names a weight file, present or not."""
    return Path(source).is_file() or Path(source).suffix in (".safetensors", ".pt", ".pth")


def open_teacher_run(source: str, classes: tuple[str, ...]) -> Run:
    """A finished run as teacher.

    Raises:
        CytodistillError: it is not finished, or knows other classes or another order of them.
    """
    run = Run.open(source)
    if not run.finished:
        raise CytodistillError(f"teacher.source={source}: that run is not finished; resume it first")
    if run.classes != classes:
        raise CytodistillError(
            f"teacher.source={source}: its classes ({', '.join(run.classes)}) are not those of the cells "
            f"({', '.join(classes)}); fit the teacher on these cells, or on others of these classes"
        )
    return run
