"""Knowledge distillation (Hinton, Vinyals and Dean 2015) from a frozen teacher, on the deepest exit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.method import Batch, Method, register
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class KDSettings:
    temperature: Annotated[float, Field(gt=0)] = 3.0
    """τ: both softmaxes are taken at logits/τ."""
    ce_weight: Annotated[float, Field(ge=0)] = 1.0
    kd_weight: Annotated[float, Field(ge=0)] = 1.0
    kl_direction: Literal["teacher_student", "student_teacher"] = "teacher_student"


@register("kd")
class KD(Method):
    """Loss = w_ce · CE(S, y) + w_kd · τ² KL(t ‖ s): eq. 4 for a network with one exit (its CE counted once)."""

    Settings = KDSettings
    needs = frozenset({"teacher"})

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: KDSettings = self.settings
        assert batch.teacher is not None
        ce = s.ce_weight * self.cross_entropy(outputs.logits[-1], batch.labels)
        kd = s.kd_weight * soft_kl(outputs.logits[-1], batch.teacher.logits[-1], s.temperature, s.kl_direction)
        return {"loss": ce + kd, "ce": ce, "kd": kd}
