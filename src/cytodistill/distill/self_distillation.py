"""The paper's loss: a frozen teacher and the deepest exit both teach the exits of a multi-exit student, eq. 4–6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.method import Batch, CrossEntropy, Method, Temperature, Weight, register, sum_of
from cytodistill.models.outputs import ExitOutputs, OutputShapes


@dataclass(frozen=True)
class SelfDistillationSettings:
    temperature: Temperature = 3.0
    """τ of every softened probability."""
    kd_weight: Weight = 1.0
    """Of τ² KL(S_m, t), for every exit m = 1…n; there is no such term without a teacher."""
    ce_weight: Weight = 1.0
    """Of CE(S_m, y), for every exit m = 1…n."""
    deepest_ce_weight: Weight = 1.0
    """Of CE(S_n, y), which stands inside the sum over m in eq. 4 and so counts n times."""
    sd_weight: Weight = 1.0
    """Of τ² KL(S_m, S_n); zero for m = n by itself."""
    feature_weight: Weight = 0.03
    """λ of the feature term between F_m and F_n."""
    feature_reduction: Literal["mean_squared", "squared_norm", "norm", "batch_norm"] = "mean_squared"
    """Of the difference D = μ_m(F_m) − F_n, (B, D): the mean of its squares ("the mean squared loss function", the
    paper's words); the squared norm a cell, averaged over the batch; the norm a cell, averaged; or the unsquared norm
    over the whole batch, which grows with √B (so its λ means something at one batch size only)."""
    adapter: Literal["none", "linear"] = "none"
    """μ_m beyond the branch's own bottleneck: a Linear(D, D) an exit, trained along and not saved."""
    kl_direction: Literal["teacher_student", "student_teacher"] = "teacher_student"


@register("self_distillation")
class SelfDistillation(Method):
    """Loss = Σ_{m=1…n} [τ² KL(S_m, t) + CE(S_m, y) + CE(S_n, y)] + [τ² KL(S_m, S_n) + λ ‖μ_m(F_m) − F_n‖²].

    Every term has a named weight. S_n and F_n are detached where they teach. The teacher's term is left out in
    teacher-free training (the paper's Tables 4–6).
    """

    Settings = SelfDistillationSettings
    uses = frozenset({"teacher"})
    trains_every_exit = True

    def __init__(
        self,
        settings: SelfDistillationSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        deepest = student.features[-1]
        linear = settings.adapter == "linear"
        self.adapters = nn.ModuleList(
            nn.Linear(width, deepest) if linear else nn.Identity() for width in student.features[:-1]
        )

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: SelfDistillationSettings = self.settings
        logits, labels = outputs.logits, batch.labels
        exits = len(logits)
        ce_of_exit = [self.cross_entropy(exit_logits, labels) for exit_logits in logits]
        parts = {
            "ce": s.ce_weight * torch.stack(ce_of_exit).sum(),
            "deepest_ce": s.deepest_ce_weight * exits * ce_of_exit[-1],
        }
        if batch.teacher is not None:
            soft_labels = batch.teacher.logits[-1]
            parts["kd"] = s.kd_weight * sum_of(
                soft_kl(exit_logits, soft_labels, s.temperature, s.kl_direction) for exit_logits in logits
            )
        parts["sd"] = s.sd_weight * sum_of(
            soft_kl(exit_logits, logits[-1], s.temperature, s.kl_direction) for exit_logits in logits[:-1]
        )
        deepest_features = outputs.features[-1].detach().float()
        parts["feature"] = s.feature_weight * sum_of(
            feature_distance(adapter(features.float()) - deepest_features, s.feature_reduction)
            for adapter, features in zip(self.adapters, outputs.features[:-1], strict=True)
        )
        return {"loss": sum_of(parts.values()), **parts}


def feature_distance(difference: Tensor, reduction: str) -> Tensor:
    """Scalar size of a (B, D) difference; the reductions are those of ``SelfDistillationSettings``."""
    if reduction == "mean_squared":
        return difference.square().mean()
    if reduction == "squared_norm":
        return difference.square().sum(1).mean()
    if reduction == "norm":
        return difference.norm(dim=1).mean()
    return difference.norm()
