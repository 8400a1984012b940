"""Distillation of activation boundaries (Heo et al. 2019): first the student's neurons learn to be on and off where the
teacher's are, then the student is trained on labels from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings, matched, per_stage, pooled_alike
from cytodistill.distill.method import Batch, CrossEntropy, Pretraining, Weight, register, sum_of
from cytodistill.models.outputs import ExitOutputs, OutputShapes


@dataclass(frozen=True)
class ActivationBoundariesSettings(FeatureSettings):
    weight: Weight = 3 / 1000
    """β: of the boundaries, in the stage before. They are summed over neurons, so they grow with the image's area, and
    this is the figure for 32 px."""
    pretrain_epochs: Annotated[int, Field(ge=1)] = 30
    """Epochs of the stage before; the recipe's own come on top."""
    margin: Annotated[float, Field(ge=0)] = 1.0
    """m: how far beyond its boundary a neuron is pushed."""
    stage_factor: Annotated[float, Field(gt=0)] = 2.0
    """k: how many times as much as the one before it a stage counts; the deepest counts 1."""


@register("ab")
class ActivationBoundaries(FeatureMethod):
    """Loss = γ·CE + α·KD, after ``pretrain_epochs`` of

        β · Σ_i k^(i−n+1) · Σ_elements [ 1(t ≤ 0, s > −m) · (s + m)² + 1(t > 0, s ≤ m) · (s − m)² ] / B

    over the n stages, i = 0 the shallowest. t is the teacher's pre-activation and s the student's after a connector, a
    1×1 convolution with batch norm. In the stage before, the student's backbone and the connectors learn, the
    classifier does not; in the training itself the student alone. The stage before has the recipe's rate, after its
    warm-up, throughout. A larger map is average-pooled to the smaller first.
    """

    Settings = ActivationBoundariesSettings
    needs = frozenset({"teacher", "maps", "preactivations"})

    def __init__(
        self,
        settings: ActivationBoundariesSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        self.connectors = per_stage(student, teacher, Connector)

    def pretraining(self) -> Pretraining:
        return Pretraining(self.settings.pretrain_epochs, {"schedule": "constant"})

    def begin(self, stage: Literal["pretrain", "train"]) -> None:
        self.connectors.requires_grad_(stage == "pretrain")

    def pretrain(self, outputs: ExitOutputs | None, batch: Batch) -> dict[str, Tensor]:
        s: ActivationBoundariesSettings = self.settings
        assert outputs is not None
        assert batch.teacher is not None
        pairs = matched(outputs.preactivations, batch.teacher.detach().preactivations)
        with torch.autocast(outputs.logits[-1].device.type, enabled=False):
            boundaries = s.weight * sum_of(
                s.stage_factor ** (i - len(pairs) + 1) * crossed(connector(ours), theirs, s.margin)
                for i, (connector, (ours, theirs)) in enumerate(
                    zip(self.connectors, (pooled_alike(*pair) for pair in pairs), strict=True)
                )
            )
        return {"loss": boundaries, "boundaries": boundaries}

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        return {}  # what the teacher's features had to say was said before


class Connector(nn.Module):
    """(B, C_s, H, W) → (B, C_t, H, W): 1×1 convolution and batch norm."""

    def __init__(self, channels: int, their_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, their_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(their_channels)

    def forward(self, student: Tensor) -> Tensor:
        ours, norm = self.convolution(student), self.norm
        # One cell with one value a channel has no statistics, and torch refuses it; the running ones are taken.
        if type(norm) is nn.BatchNorm2d and ours.numel() == ours.shape[1]:
            return F.batch_norm(ours, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(ours)


def crossed(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Squared distance of the student's (B, C, H, W) pre-activations to the margin on the teacher's side of zero, where
    they have not reached it; summed over neurons, averaged over cells."""
    on = teacher > 0
    lacking = torch.where(on, F.relu(margin - student), F.relu(student + margin))
    return lacking.square().sum() / len(student)
