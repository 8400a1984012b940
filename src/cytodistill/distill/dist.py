"""DIST (Huang et al. 2022): the student's probabilities are to correlate with the teacher's, not to equal them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cytodistill.distill.method import Batch, Method, Temperature, Weight, register, sum_of
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.models.outputs import ExitOutputs

CONSTANT = 1e-6
"""Probabilities that vary by no more than this (the norm of what is left of them once centred) correlate with nothing:
float32 rounds them at 1e-7."""


@dataclass(frozen=True)
class DISTSettings:
    temperature: Temperature = 4.0
    ce_weight: Weight = 1.0
    inter_weight: Weight = 2.0
    """β: of the relation between the classes of a cell."""
    intra_weight: Weight = 2.0
    """γ: of the relation between the cells of a class."""


@register("dist")
class DIST(Method):
    """Loss = w_ce · CE(S, y) + β · τ² mean_i [1 − ρ(s_i·, t_i·)] + γ · τ² mean_c [1 − ρ(s_·c, t_·c)].

    s and t are (B, C) softmaxes at logits/τ and ρ is Pearson's correlation, of their rows (inter) and columns (intra).
    What is constant in one network counts ½, and in both 0, both without gradient: so the columns of a single cell.
    """

    Settings = DISTSettings
    needs = frozenset({"teacher"})

    def forward(self, outputs: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        s: DISTSettings = self.settings
        assert batch.teacher is not None
        student = (outputs.logits[-1].float() / s.temperature).softmax(1)
        teacher = (batch.teacher.logits[-1].detach().float() / s.temperature).softmax(1)
        parts = {
            "ce": s.ce_weight * self.cross_entropy(outputs.logits[-1], batch.labels),
            "inter": s.inter_weight * s.temperature**2 * decorrelation(student, teacher, dim=1),
            "intra": s.intra_weight * s.temperature**2 * decorrelation(student, teacher, dim=0),
        }
        return {"loss": sum_of(parts.values()), **parts}


def decorrelation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Mean of 1 − ρ over pairs of vectors along ``dim``, as ½‖x̂ − ŷ‖² of the centred unit vectors, which it equals."""
    difference = standard(x, dim) - standard(y, dim)
    return 0.5 * difference.square().sum(dim).mean()


def standard(x: Tensor, dim: int) -> Tensor:
    """x centred and scaled to length one along ``dim``."""
    return unit_vectors(x - x.mean(dim, keepdim=True), dim, CONSTANT)
