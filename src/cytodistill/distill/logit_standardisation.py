"""Distillation of standardised logits (Sun et al. 2024): the student learns how they relate, not their scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.method import Batch, Method, Temperature, Weight, register, sum_of
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.models.outputs import ExitOutputs

CONSTANT = 1e-6
"""Logits whose norm, once centred, is no more than this are all alike: they have no z-scores and get no gradient."""


@dataclass(frozen=True)
class LogitStandardisationSettings:
    temperature: Temperature = 2.0
    """τ, in standard deviations of a cell's logits."""
    ce_weight: Weight = 0.1
    kd_weight: Weight = 9.0


@register("logit_standardisation")
class LogitStandardisation(Method):
    """Loss = w_ce · CE(S, y) + w_kd · τ² KL(t ‖ s), t and s the softmaxes at z/τ of each cell's z-scores.

    z = (logit − their mean) / their standard deviation, over the C classes of a cell, divided by C and not C − 1, as
    the paper prints it. Of two classes the z-scores are ±1 whatever the logits, so there the KL teaches nothing.
    """

    Settings = LogitStandardisationSettings
    needs = frozenset({"teacher"})

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: LogitStandardisationSettings = self.settings
        assert batch.teacher is not None
        student, teacher = z_scores(outputs.logits[-1]), z_scores(batch.teacher.logits[-1].detach())
        parts = {
            "ce": s.ce_weight * self.cross_entropy(outputs.logits[-1], batch.labels),
            "kd": s.kd_weight * soft_kl(student, teacher, s.temperature),
        }
        return {"loss": sum_of(parts.values()), **parts}


def z_scores(logits: Tensor) -> Tensor:
    """(B, C) → (B, C) float32 of mean 0 and standard deviation 1 a row."""
    logits = logits.float()
    return unit_vectors(logits - logits.mean(1, keepdim=True), 1, CONSTANT) * math.sqrt(logits.shape[1])
