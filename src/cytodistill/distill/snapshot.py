"""Snapshot distillation (Yang, Xie, Su and Yuille 2019): in each cycle of the rate the student learns from itself as it
was at the end of the cycle before."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from cytodistill.distill.method import Batch, Method, Temperature, Weight, register
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class SnapshotSettings:
    temperature: Temperature = 2.0
    """τ of the teacher's softmax."""
    student_temperature: Temperature = 1.0
    """τ of the student's softmax in the KL."""
    ce_weight: Weight | None = None
    """λ_S, where there is a teacher; 1 + 1/τ where it is not set."""
    kd_weight: Weight = 1.0
    """λ_T"""


@register("snapshot")
class Snapshot(Method):
    """Loss = CE(S, y) in the first cycle, and λ_S·CE(S, y) + λ_T·KL(t ‖ s) in those after it.

    t = softmax(T/τ) with T the logits of the student at the end of the last cycle, and s = softmax(S): only the
    teacher is softened. The KL's gradient s − t then does not shrink with τ, so there is no τ² here. The teacher from
    the last cycle and its smoothing are the paper's; the student left as it is, the weights λ_S = 1 + 1/τ and λ_T = 1
    and the first cycle's plain CE are as a public re-implementation has them (with τ = 3); τ = 2 is a choice. With
    ``student_temperature`` = ``temperature`` = τ, λ_S = 1 and λ_T = τ² it is the loss of ``kd``.
    """

    Settings = SnapshotSettings
    needs = frozenset({"snapshot"})

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: SnapshotSettings = self.settings
        ce = self.cross_entropy(outputs.logits[-1], batch.labels)
        if batch.teacher is None:  # the first cycle
            return {"loss": ce, "ce": ce}
        log_student = F.log_softmax(outputs.logits[-1].float() / s.student_temperature, dim=-1)
        log_teacher = F.log_softmax(batch.teacher.logits[-1].detach().float() / s.temperature, dim=-1)
        ce = (1 + 1 / s.temperature if s.ce_weight is None else s.ce_weight) * ce
        kd = s.kd_weight * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        return {"loss": ce + kd, "ce": ce, "kd": kd}
