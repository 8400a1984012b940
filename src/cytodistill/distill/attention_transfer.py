"""Attention transfer (Zagoruyko and Komodakis 2017): where a stage is active is to be where the teacher's is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings, matched, pooled_alike
from cytodistill.distill.method import Batch, Weight, register, sum_of
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.models.outputs import ExitOutputs


@dataclass(frozen=True)
class AttentionTransferSettings(FeatureSettings):
    weight: Weight = 1000.0


@register("attention_transfer")
class AttentionTransfer(FeatureMethod):
    """Loss = γ·CE + α·KD + β · Σ_stages mean (a_s − a_t)², with a = mean_c f², flattened and scaled to length one.

    The mean is over the batch and the places; a larger map is average-pooled to the smaller first.
    """

    Settings = AttentionTransferSettings

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        stages = (pooled_alike(*pair) for pair in matched(student.maps, teacher.maps))
        return {
            "attention": sum_of((attention(ours) - attention(theirs)).square().mean() for ours, theirs in stages),
        }


def attention(maps: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H·W) rows of length one: the mean over channels of the squared map."""
    return unit_vectors(maps.square().mean(1).flatten(1))
