"""Variational information distillation (Ahn et al. 2019): the student's maps are to tell as much of the teacher's as a
Gaussian q(f_t | f_s) can say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings, matched, per_stage, pooled_alike
from cytodistill.distill.method import Batch, CrossEntropy, register, sum_of
from cytodistill.models.outputs import ExitOutputs, OutputShapes

SMALLEST_VARIANCE = 1e-5


@dataclass(frozen=True)
class VIDSettings(FeatureSettings):
    initial_variance: Annotated[float, Field(gt=2 * SMALLEST_VARIANCE)] = 5.0
    """σ² that every channel starts with."""


@register("vid")
class VID(FeatureMethod):
    """Loss = γ·CE + α·KD + β · Σ_stages mean ½ [(μ(f_s) − f_t)² / σ² + ln σ²].

    μ is three 1×1 convolutions and σ² one figure a channel of the teacher's; both are trained along and not saved. A
    larger map is average-pooled to the smaller first. The part may become negative: ln σ² does.
    """

    Settings = VIDSettings

    def __init__(
        self,
        settings: VIDSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        self.stages = per_stage(student, teacher, partial(Gaussian, variance=settings.initial_variance))

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        pairs = matched(student.maps, teacher.maps)
        return {
            "information": sum_of(
                gaussian(*pooled_alike(*pair)) for gaussian, pair in zip(self.stages, pairs, strict=True)
            )
        }


class Gaussian(nn.Module):
    """−ln q(f_t | f_s) without its constant, averaged over cells, channels and places."""

    def __init__(self, channels: int, their_channels: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(channels, their_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(their_channels, their_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(their_channels, their_channels, 1, bias=False),
        )
        # softplus⁻¹, in the form that does not overflow: softplus of it is the variance to start with.
        above = variance - SMALLEST_VARIANCE
        self.raw_variance = nn.Parameter(torch.full((their_channels, 1, 1), above + math.log(-math.expm1(-above))))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B, C_s, H, W) and (B, C_t, H, W) → scalar."""
        variance = F.softplus(self.raw_variance) + SMALLEST_VARIANCE
        return 0.5 * ((self.mean(student) - teacher).square() / variance + variance.log()).mean()
