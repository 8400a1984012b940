"""Plain training: cross-entropy on the deepest exit. A single-exit network's baseline, and how teachers are trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cytodistill.distill.method import Batch, Method, register
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class SupervisedSettings:
    """Nothing to set."""


@register("supervised")
class Supervised(Method):
    """Loss = CE(S_n, y), eq. 1."""

    Settings = SupervisedSettings

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        loss = self.cross_entropy(outputs.logits[-1], batch.labels)
        return {"loss": loss, "ce": loss}
