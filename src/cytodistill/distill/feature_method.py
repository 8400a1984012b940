"""What the methods share that compare a student's features or stage maps with a teacher's: γ·CE + α·KD + β·term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.method import Batch, CrossEntropy, Method, Temperature, Weight, sum_of
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import ExitOutputs, OutputShapes

T = TypeVar("T")


@dataclass(frozen=True)
class FeatureSettings:
    weight: Weight = 1.0
    """β: of the method's own term."""
    ce_weight: Weight = 1.0
    """γ: of CE(S, y)."""
    kd_weight: Weight = 0.0
    """α: of τ² KL(t ‖ s); there is no such part at 0."""
    temperature: Temperature = 4.0
    """τ of that KL."""


class FeatureMethod(Method):
    """Loss = γ·CE(S, y) + α·τ² KL(t ‖ s) + β·term, with S the student's deepest exit.

    A subclass defines ``terms``. The teacher's tensors come to it detached, and it computes in float32 whatever the
    step's precision. Over several ranks each compares its own share of the batch.
    """

    needs = frozenset({"teacher", "maps"})

    def __init__(
        self,
        settings: FeatureSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        if "maps" in self.needs and not (student.maps and teacher and teacher.maps):
            whose = "student" if not student.maps else "teacher"
            raise CytodistillError(f"method.name: it compares stage maps, and the {whose} shows none")

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        """Named parts of the term before β, each a scalar; tensors may come in half precision. ``batch`` says which
        cells they are."""
        raise NotImplementedError

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: FeatureSettings = self.settings
        assert batch.teacher is not None
        teacher = batch.teacher.detach()
        parts = {"ce": s.ce_weight * self.cross_entropy(outputs.logits[-1], batch.labels)}
        if s.kd_weight:
            parts["kd"] = s.kd_weight * soft_kl(outputs.logits[-1], teacher.logits[-1], s.temperature)
        with torch.autocast(outputs.logits[-1].device.type, enabled=False):
            parts |= {name: s.weight * value for name, value in self.terms(outputs, teacher, batch).items()}
        return {"loss": sum_of(parts.values()), **parts}


def matched(student: Sequence[T], teacher: Sequence[T]) -> list[tuple[T, T]]:
    """Stages of both, paired from the deepest upward and ordered shallow → deep; what the longer has more is left."""
    pairs = min(len(student), len(teacher))
    return list(zip(student[-pairs:], teacher[-pairs:], strict=True))


def per_stage(
    student: OutputShapes, teacher: OutputShapes | None, make: Callable[[int, int], nn.Module]
) -> nn.ModuleList:
    """What ``make(student's channels, teacher's channels)`` gives for every matched stage, shallow → deep."""
    assert teacher is not None
    return nn.ModuleList(make(ours[0], theirs[0]) for ours, theirs in matched(student.maps, teacher.maps))


def pooled_alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C_s, H_s, W_s) and (B, C_t, H_t, W_t) maps in float32, the larger average-pooled to the smaller's height
    and width (each axis for itself)."""
    (ours_high, ours_wide), (high, wide) = student.shape[2:], teacher.shape[2:]
    size = (min(ours_high, high), min(ours_wide, wide))
    return F.adaptive_avg_pool2d(student.float(), size), F.adaptive_avg_pool2d(teacher.float(), size)
