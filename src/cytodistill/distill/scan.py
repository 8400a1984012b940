"""SCAN's loss: the deepest exit learns the labels and teaches the shallow ones (Zhang et al. 2019, "SCAN: a scalable
neural networks framework towards compact and efficient models")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from cytodistill.distill.method import Batch, CrossEntropy, Method, Temperature, Weight, register, sum_of
from cytodistill.distill.self_distillation import feature_distance
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import ExitOutputs, OutputShapes


@dataclass(frozen=True)
class ScanSettings:
    temperature: Temperature = 3.0
    """τ of the deepest exit's soft labels and of what is compared with them."""
    deepest_ce_weight: Weight = 1.0
    """Of CE(S_n, y)."""
    shallow_ce_weight: Weight = 0.5
    """Of CE(S_m, y), for every exit m < n."""
    sd_weight: Weight = 0.5
    """Of τ² CE_soft(S_m, S_n), for every exit m < n."""
    feature_weight: Weight = 6.4e-5
    """λ of the feature term between F_m and F_n, for every exit m < n. The published 5e-7 is of the sum over a batch of
    128 cells; this is 128 times as much of the mean over the cells, the same at that batch size."""
    feature_reduction: Literal["squared_norm", "batch_sum"] = "squared_norm"
    """Of the difference F_m − F_n, (B, D): the squared norm a cell, averaged over the batch; or the plain sum of
    squares over the whole batch, which grows with B (so its λ means something at one batch size only)."""


@register("scan")
class Scan(Method):
    """Loss = CE(S_n, y) + Σ_{m<n} [½ CE(S_m, y) + ½ τ² CE_soft(S_m, S_n) + λ ‖F_m − F_n‖²].

    CE_soft(S_m, S_n) = −Σ_c softmax(S_n/τ)_c · ln softmax(S_m/τ)_c: KL plus the entropy of the soft labels, of the same
    gradient. Every term has a named weight. S_n and F_n are detached where they teach. There is no teacher beside the
    deepest exit. A feature term of weight zero is left out, and asks nothing of the widths.
    """

    Settings = ScanSettings
    trains_every_exit = True

    def __init__(
        self,
        settings: ScanSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        if settings.feature_weight and len(set(student.features)) > 1:
            raise CytodistillError(
                f"method.feature_weight={settings.feature_weight}: the exits' features are {student.features} wide and "
                "cannot be compared; set method.feature_weight=0, or take a student whose exits end in one width"
            )

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: ScanSettings = self.settings
        *shallow, deepest = outputs.logits
        parts = {
            "shallow_ce": s.shallow_ce_weight * sum_of(self.cross_entropy(logits, batch.labels) for logits in shallow),
            "deepest_ce": s.deepest_ce_weight * self.cross_entropy(deepest, batch.labels),
            "sd": s.sd_weight * sum_of(soft_cross_entropy(logits, deepest, s.temperature) for logits in shallow),
        }
        if s.feature_weight:
            *shallow_features, deepest_features = (features.float() for features in outputs.features)
            parts["feature"] = s.feature_weight * sum_of(
                squared_distance(features - deepest_features.detach(), s.feature_reduction)
                for features in shallow_features
            )
        return {"loss": sum_of(parts.values()), **parts}


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """τ² · CE of softmax(student/τ) against the soft labels softmax(teacher/τ), (B, C) logits both, averaged over the
    batch: a scalar. The teacher's logits are detached here, so no gradient can reach them."""
    soft_labels = (teacher.detach().float() / temperature).softmax(-1)
    return temperature**2 * F.cross_entropy(student.float() / temperature, soft_labels)


def squared_distance(difference: Tensor, reduction: str) -> Tensor:
    """Scalar size of a (B, D) difference; the reductions are those of ``ScanSettings``."""
    if reduction == "batch_sum":
        return difference.square().sum()
    return feature_distance(difference, reduction)
