"""SSKD (Xu et al. 2020, "Knowledge Distillation Meets Self-Supervision"): the student learns what the teacher says of
turned images, and which cell it takes each of them for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.method import (
    Batch,
    CrossEntropy,
    Method,
    Pretraining,
    Temperature,
    Weight,
    register,
    sum_of,
)
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.models.outputs import ExitOutputs, OutputShapes

TURNS = 3
"""Turned images a cell, beside the unturned one."""

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class SSKDSettings:
    ce_weight: Weight = 0.1
    kd_weight: Weight = 0.9
    """Of the KL on unturned images."""
    temperature: Temperature = 4.0
    """τ of that KL."""
    tf_weight: Weight = 2.7
    """Of the KL on turned images ("transformed")."""
    tf_temperature: Temperature = 4.0
    tf_keep: Share = 1.0
    """Share that is kept of the turned images whose class the teacher gets wrong."""
    ss_weight: Weight = 10.0
    """Of the KL between similarities ("self-supervision")."""
    ss_temperature: Temperature = 0.5
    ss_keep: Share = 0.75
    """Share that is kept of the turned images whose cell the teacher gets wrong."""
    pretrain_epochs: Annotated[int, Field(ge=1)] = 60
    """Epochs of the stage before, in which the teacher's head learns."""
    pretrain_lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate of that stage; by default the recipe's own (the paper's, with SGD: 0.05)."""
    pretrain_temperature: Temperature = 1.0
    """τ of the contrast in that stage."""


@register("sskd")
class SSKD(Method):
    """Loss = w_ce·CE(S, y) + w_kd·τ² KL(t ‖ s) on unturned images, as in ``kd``, + w_tf·TF + w_ss·SS on turned ones.

    A batch is B cells, unturned and turned by 90, 180 and 270 degrees. On the 3B turned images:

    - TF = τ² KL(t ‖ s) of the class probabilities, at τ = ``tf_temperature``.
    - SS = τ² KL(a_t ‖ a_s), at τ = ``ss_temperature``, with a(i) = softmax_k(A_ik / τ) and A_ik the cosine of h(F_i), i
      a turned image, and h(F_k), k one of the B unturned. h is Linear–ReLU–Linear of the features' width, one for each
      network.

    Not all that the teacher says is listened to. An image's error level is how many classes (TF), or cells (SS), the
    teacher puts before the right one. Those of level 0 are kept; of the n others the ⌊keep · n⌋ of the lowest levels.
    TF and SS are means over what is kept, and 0 where nothing is.

    Before this comes a stage in which the teacher's h alone learns, to tell which cell a turned image is of:
    −log softmax_k(A_ik / τ) at k = i's own cell, averaged over turned images, τ = ``pretrain_temperature``. In the
    training the teacher's h stays as it is, and the student's learns with the student. With a ``multistep`` schedule
    the rate falls at half and at three quarters of the stage before.

    The cells of a batch are compared with one another. A cell alone is told from nobody: its SS and contrast are 0.

    Choices: among images of one error level those are kept first whose right answer lags least behind the teacher's
    first. The published figures come from a contrast of plain cosines in the stage before, hence τ = 1 there.
    """

    Settings = SSKDSettings
    needs = frozenset({"teacher", "rotations"})

    def __init__(
        self,
        settings: SSKDSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        assert teacher is not None
        self.teacher_head = contrast_head(teacher.features[-1])
        self.student_head = contrast_head(student.features[-1])

    def pretraining(self) -> Pretraining:
        s: SSKDSettings = self.settings
        epochs = s.pretrain_epochs
        train: dict[str, Any] = {"milestones": sorted({epochs // 2, 3 * epochs // 4} - {0})}
        if s.pretrain_lr is not None:
            train["lr"] = s.pretrain_lr
        return Pretraining(epochs, train, student=False)

    def begin(self, stage: Literal["pretrain", "train"]) -> None:
        self.teacher_head.requires_grad_(stage == "pretrain")
        self.student_head.requires_grad_(stage == "train")

    def pretrain(self, outputs: ExitOutputs | None, batch: Batch) -> dict[str, Tensor]:
        assert batch.teacher is not None
        features = batch.teacher.detach().features[-1]
        with torch.autocast(features.device.type, enabled=False):
            alike = similarities(self.teacher_head, features, len(batch.labels))
            contrast = F.cross_entropy(alike / self.settings.pretrain_temperature, own_cells(alike))
        return {"loss": contrast, "contrast": contrast}

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: SSKDSettings = self.settings
        assert batch.teacher is not None
        cells, teacher = len(batch.labels), batch.teacher.detach()
        student_logits, logits = outputs.logits[-1].float(), teacher.logits[-1].float()
        parts = {
            "ce": s.ce_weight * self.cross_entropy(student_logits[:cells], batch.labels),
            "kd": s.kd_weight * soft_kl(student_logits[:cells], logits[:cells], s.temperature),
        }
        turned = logits[cells:]
        kept = trusted(turned, batch.labels.repeat(TURNS), s.tf_keep)
        parts["tf"] = s.tf_weight * kept_kl(student_logits[cells:], turned, s.tf_temperature, kept)
        with torch.autocast(logits.device.type, enabled=False):
            with torch.no_grad():
                theirs = similarities(self.teacher_head, teacher.features[-1], cells)
            ours = similarities(self.student_head, outputs.features[-1], cells)
            kept = trusted(theirs, own_cells(theirs), s.ss_keep)
            parts["ss"] = s.ss_weight * kept_kl(ours, theirs, s.ss_temperature, kept)
        return {"loss": sum_of(parts.values()), **parts}


def contrast_head(width: int) -> nn.Sequential:
    """h: (n, width) features → (n, width) vectors that are compared."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def similarities(head: nn.Module, features: Tensor, cells: int) -> Tensor:
    """(4B, D) features, those of the B = ``cells`` unturned images first → (3B, B) cosines of turned and unturned."""
    directions = unit_vectors(head(features.float()))
    return directions[cells:] @ directions[:cells].T


def own_cells(alike: Tensor) -> Tensor:
    """(3B,) column of (3B, B) ``similarities`` that is each turned image's own cell."""
    return torch.arange(alike.shape[1], device=alike.device).repeat(TURNS)


def trusted(answers: Tensor, right: Tensor, keep: float) -> Tensor:
    """(n,) whether each of the teacher's (n, C) answers is kept, ``right`` (n,) being the right column: those that put
    it first, and the share ``keep`` of the others, rounded down, that are the least wrong."""
    chosen = answers.gather(1, right[:, None])
    level = (answers > chosen).sum(1)
    lag = answers.amax(1) - chosen[:, 0]
    order = lag.argsort(stable=True)
    order = order[level[order].argsort(stable=True)]
    # Counted on the device, which nothing here waits for.
    wrong = (level > 0).sum()
    kept = len(answers) - wrong + (keep * wrong.double()).floor()
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return place < kept


def kept_kl(student: Tensor, teacher: Tensor, temperature: float, kept: Tensor) -> Tensor:
    """τ² KL(t ‖ s) of the softmaxes of two (n, C) tensors at temperature τ, averaged over the ``kept`` (n,) rows: a
    scalar, 0 where there are none."""
    log_student, log_teacher = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)
    return temperature**2 * (divergence * kept).sum() / kept.sum().clamp(min=1)
