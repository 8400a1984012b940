"""FitNet hints (Romero et al. 2015): the student's map of one stage, regressed, is to be the teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings, matched, pooled_alike
from cytodistill.distill.method import Batch, CrossEntropy, Weight, register
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import ExitOutputs, OutputShapes


@dataclass(frozen=True)
class FitNetSettings(FeatureSettings):
    weight: Weight = 100.0
    hint_stage: Annotated[int, Field(ge=1)] = 2
    """Which of the stages that student and teacher share, counted from 1, the shallowest."""
    relu: bool = True
    """Whether the regressor ends in a ReLU: right for a teacher whose stages do (ResNets), wrong for one whose maps
    have negative values (DenseNet, ConvNeXt, transformers)."""


@register("fitnet")
class FitNet(FeatureMethod):
    """Loss = γ·CE + α·KD + β · mean (r(f_s) − f_t)², r a regressor that is trained along and not saved."""

    Settings = FitNetSettings

    def __init__(
        self,
        settings: FitNetSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        assert teacher is not None
        shared = matched(student.maps, teacher.maps)
        if settings.hint_stage > len(shared):
            raise CytodistillError(
                f"method.hint_stage={settings.hint_stage}: student and teacher share {len(shared)} stages; "
                f"use {len(shared)} or fewer"
            )
        self.regressor = Regressor(*shared[settings.hint_stage - 1], settings.relu)

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        ours, theirs = matched(student.maps, teacher.maps)[self.settings.hint_stage - 1]
        return {"hint": F.mse_loss(*self.regressor(ours, theirs))}


class Regressor(nn.Module):
    """(B, *student) map → one of the teacher's shape: convolution, batch norm, ReLU.

    The convolution is 3×3 of stride 2 where the student's sides are twice the teacher's, a transposed 4×4 of stride 2
    where the teacher's are twice the student's, and else 1×1, with the larger map pooled to the smaller's size. (A
    valid convolution, as in CIFAR code, is the same at equal sides; at others its kernel is as large as they differ.)
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...], relu: bool = True) -> None:
        super().__init__()
        (channels, *sides), (their_channels, *their_sides) = student, teacher
        self.pools = False
        self.convolution: nn.Module
        if sides == [2 * side for side in their_sides]:
            self.convolution = nn.Conv2d(channels, their_channels, 3, 2, 1, bias=False)
        elif their_sides == [2 * side for side in sides]:
            self.convolution = nn.ConvTranspose2d(channels, their_channels, 4, 2, 1, bias=False)
        else:
            self.convolution = nn.Conv2d(channels, their_channels, 1, bias=False)
            self.pools = True
        self.norm = nn.BatchNorm2d(their_channels)
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The student's map regressed, and the teacher's, which the other is to be; both float32 and of one shape."""
        # A 1×1 convolution and a pooling change places freely; this order is the cheaper.
        ours, theirs = pooled_alike(student, teacher) if self.pools else (student.float(), teacher.float())
        ours = self.convolution(ours)
        # One cell with one value a channel has no statistics, and torch refuses it; the running ones are taken.
        alone = type(self.norm) is nn.BatchNorm2d and ours.numel() == ours.shape[1]
        if alone:
            norm = self.norm
            ours = F.batch_norm(ours, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            ours = self.norm(ours)
        return self.activation(ours), theirs
