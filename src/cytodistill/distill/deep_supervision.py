"""Deep supervision alone (Lee et al. 2015): every exit learns the labels, and nothing is distilled."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cytodistill.distill.method import Batch, Method, Weight, register, sum_of
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class DeepSupervisionSettings:
    shallow_ce_weight: Weight = 1.0
    """Of CE(S_m, y), for every exit m < n."""
    deepest_ce_weight: Weight = 1.0
    """Of CE(S_n, y)."""


@register("deep_supervision")
class DeepSupervision(Method):
    """Loss = w · Σ_{m<n} CE(S_m, y) + w_n · CE(S_n, y): what of self-distillation's gain the exits alone make."""

    Settings = DeepSupervisionSettings
    trains_every_exit = True

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: DeepSupervisionSettings = self.settings
        *shallow, deepest = (self.cross_entropy(logits, batch.labels) for logits in outputs.logits)
        parts = {"shallow_ce": s.shallow_ce_weight * sum_of(shallow), "deepest_ce": s.deepest_ce_weight * deepest}
        return {"loss": sum_of(parts.values()), **parts}
