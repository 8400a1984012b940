"""Similarity-preserving distillation (Tung and Mori 2019): cells alike to the teacher are to be alike to the student.

Not to be taken for snapshot distillation, which some tables call "SD".
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings
from cytodistill.distill.method import Batch, Weight, register
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class SimilaritySettings(FeatureSettings):
    weight: Weight = 3000.0


@register("similarity")
class Similarity(FeatureMethod):
    """Loss = γ·CE + α·KD + β · ‖G_t − G_s‖²_F / B², G the Gram matrix of the last maps with rows of length one."""

    Settings = SimilaritySettings

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        return {"similarity": (gram(teacher.maps[-1]) - gram(student.maps[-1])).square().mean()}


def gram(maps: Tensor) -> Tensor:
    """(B, C, H, W) → (B, B): inner products of the flattened maps, each row scaled to length one."""
    flat = maps.float().flatten(1)
    return unit_vectors(flat @ flat.T)
