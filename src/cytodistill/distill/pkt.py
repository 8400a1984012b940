"""Probabilistic knowledge transfer (Passalis and Tefas 2018): each cell's neighbours are to be the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings
from cytodistill.distill.method import Batch, Weight, register
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class PKTSettings(FeatureSettings):
    weight: Weight = 30000.0


@register("pkt")
class PKT(FeatureMethod):
    """Loss = γ·CE + α·KD + β · mean_ij t_ij ln (t_ij / s_ij), on the pooled features.

    t and s are (cosine similarity + 1) / 2 with each row scaled to sum 1: the probability that i's neighbour is j.
    """

    Settings = PKTSettings
    needs = frozenset({"teacher"})

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        ours, theirs = neighbours(student.features[-1]), neighbours(teacher.features[-1])
        return {"neighbours": (theirs * (theirs / ours).log()).mean()}


def neighbours(features: Tensor, smallest: float = 1e-7) -> Tensor:
    """(B, D) → (B, B) rows of probabilities; opposite cells keep a little, so that its logarithm is finite."""
    directions = unit_vectors(features)
    similarity = ((directions @ directions.T + 1) / 2).clamp(min=smallest)
    return similarity / similarity.sum(1, keepdim=True)
