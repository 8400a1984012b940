"""Relational knowledge distillation (Park et al. 2019): distances and angles between cells are to be the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings
from cytodistill.distill.method import Batch, Weight, register
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.models.outputs import ExitOutputs

COINCIDENT = 1e-6
"""Points no further apart than this have no direction from one to the other."""


@dataclass(frozen=True)
class RKDSettings(FeatureSettings):
    distance_weight: Weight = 25.0
    angle_weight: Weight = 50.0


@register("rkd")
class RKD(FeatureMethod):
    """Loss = γ·CE + α·KD + β · [25 · smooth L1 of d_ij + 50 · smooth L1 of cos ∠ijk], on the pooled features F.

    d_ij = ‖F_i − F_j‖ / the mean of those distances that are not zero; cos ∠ijk = ⟨e_ij, e_kj⟩ with e_ij the unit
    vector from F_j to F_i. Smooth L1 is averaged over all B² pairs and all B³ triples; those with a point twice are
    zero for both networks. One cell alone has no relations and the term is zero.
    """

    Settings = RKDSettings
    needs = frozenset({"teacher"})

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: RKDSettings = self.settings
        distances, cosines = relations(student.features[-1])
        their_distances, their_cosines = relations(teacher.features[-1])
        return {
            "distance": s.distance_weight * F.smooth_l1_loss(distances, their_distances),
            "angle": s.angle_weight * F.smooth_l1_loss(cosines, their_cosines),
        }


def relations(features: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D) → (B, B) distances in units of their mean, and (B, B, B) cosines, [j, i, k] of the angle at j."""
    to_others = features.float()[None] - features.float()[:, None]  # [j, i] leads from j to i
    directions = unit_vectors(to_others, shortest=COINCIDENT)
    # ⟨x, x/‖x‖⟩ is ‖x‖, and its gradient at coincident points is zero and not NaN.
    distances = (to_others * directions).sum(-1)
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.clamp(min=COINCIDENT), directions @ directions.mT
