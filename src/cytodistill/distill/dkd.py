"""Decoupled knowledge distillation (Zhao et al. 2022): the true class and the others weigh each for itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.method import Batch, Method, Temperature, Weight, register, sum_of
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class DKDSettings:
    temperature: Temperature = 4.0
    ce_weight: Weight = 1.0
    tckd_weight: Weight = 1.0
    """α: of the true class against all others."""
    nckd_weight: Weight = 8.0
    """β: of the others among themselves."""


@register("dkd")
class DKD(Method):
    """Loss = w_ce · CE(S, y) + α · τ² KL(b_t ‖ b_s) + β · τ² KL(t̂ ‖ ŝ).

    b = (p_y, 1 − p_y) with p the softmax at logits/τ; t̂ and ŝ are softmaxes over the classes but y. Plain KD has
    β = 1 − p_y of the teacher, next to nothing where it is sure. The authors' warm-up of both terms over the first 20
    epochs is not part of the loss; ``train.warmup_epochs`` warms up the rate.
    """

    Settings = DKDSettings
    needs = frozenset({"teacher"})

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: DKDSettings = self.settings
        assert batch.teacher is not None
        student, teacher = outputs.logits[-1].float(), batch.teacher.logits[-1].detach().float()
        target = F.kl_div(
            log_binary(student / s.temperature, batch.labels),
            log_binary(teacher / s.temperature, batch.labels),
            reduction="batchmean",
            log_target=True,
        )
        others = soft_kl(without_label(student, batch.labels), without_label(teacher, batch.labels), s.temperature)
        parts = {
            "ce": s.ce_weight * self.cross_entropy(student, batch.labels),
            "tckd": s.tckd_weight * s.temperature**2 * target,
            "nckd": s.nckd_weight * others,
        }
        return {"loss": sum_of(parts.values()), **parts}


def without_label(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, C) → (B, C − 1): the logits of the other classes, in order."""
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, columns + (columns >= labels[:, None]))


def log_binary(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, C) → (B, 2): ln p_y and ln (1 − p_y), exact where p_y is next to 1."""
    log_p = F.log_softmax(logits, dim=1)
    return torch.cat([log_p.gather(1, labels[:, None]), without_label(log_p, labels).logsumexp(1, keepdim=True)], 1)
