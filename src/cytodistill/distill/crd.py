"""Contrastive representation distillation (Tian, Krishnan and Isola 2020): the student's embedding of a cell is to be
nearest to the teacher's of the same cell, and far from those of other classes' cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.distill.feature_method import FeatureMethod, FeatureSettings
from cytodistill.distill.method import Batch, CrossEntropy, Temperature, Weight, register
from cytodistill.distill.unit_vectors import unit_vectors
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import ExitOutputs, OutputShapes


@dataclass(frozen=True)
class CRDSettings(FeatureSettings):
    weight: Weight = 0.8
    width: Annotated[int, Field(ge=1)] = 128
    """Of both embeddings."""
    negatives: Annotated[int, Field(ge=1)] = 16384
    """K: cells of other classes that a cell is compared with, drawn with replacement, so that there may be fewer."""
    contrast_temperature: Temperature = 0.07
    """Of the similarities of embeddings."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """m: how much of what a bank knows of a cell stays when the cell is seen again."""


@register("crd")
class CRD(FeatureMethod):
    """Loss = γ·CE + α·KD + β · (student's contrast + teacher's contrast), on the pooled features F.

    e = g(F) is a linear layer followed by scaling to length one, one for the student and one for the teacher, both
    trained along. Two banks hold such a vector of each of the n training cells. The student's e is contrasted with the
    teacher's bank and the teacher's with the student's: v₊ is what the bank holds of the same cell, v_1 … v_K what it
    holds of K cells of other classes, drawn evenly and with replacement. A contrast is the mean over the batch of

        −ln h(v₊) − Σ_k ln(1 − h(v_k)),   h(v) = p(v) / (p(v) + K·P_n),   p(v) = exp(⟨e, v⟩/τ) / Z,   P_n = 1/n.

    Z = n · the mean of exp(⟨e, v⟩/τ) over the first batch's cells and their 1 + K vectors, one for each bank, and
    stays. After that the bank's vector of each cell of the batch becomes m·v + (1 − m)·e, scaled to length one; where
    the batch has a cell more than once (resampling), e is the mean of its embeddings. Over several ranks Z and the
    banks are made from the cells of all, and are the same on all; each rank contrasts its own share.
    """

    Settings = CRDSettings
    needs = frozenset({"teacher", "cells"})
    student_bank: Bank
    teacher_bank: Bank
    positions: Tensor
    by_class: Tensor
    class_start: Tensor
    class_size: Tensor

    def __init__(
        self,
        settings: CRDSettings,
        cross_entropy: CrossEntropy,
        student: OutputShapes,
        teacher: OutputShapes | None = None,
    ) -> None:
        super().__init__(settings, cross_entropy, student, teacher)
        assert teacher is not None
        self.student_embedding = nn.Linear(student.features[-1], settings.width)
        self.teacher_embedding = nn.Linear(teacher.features[-1], settings.width)

    def see_cells(self, rows: Tensor, labels: Tensor) -> None:
        """Banks of random vectors for the n training cells, drawn from torch's generator, and what finds a cell and
        other classes' cells in them.

        Raises:
            CytodistillError: the cells are all of one class.
        """
        device = self.student_embedding.weight.device
        rows, labels = rows.to(device), labels.to(device)
        sizes = torch.bincount(labels)
        if (sizes > 0).sum() < 2:
            raise CytodistillError(
                "method.name=crd: contrasts cells of different classes, and the training cells are all of one; "
                "split so that training has two classes or more, or take another method"
            )
        # A row that is no training cell's leads outside the banks, so that using it is an error.
        positions = torch.full((int(rows.max()) + 1,), len(rows), device=device)
        positions[rows] = torch.arange(len(rows), device=device)
        # All this follows from the cells; a checkpoint need not keep it.
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("class_start", (sizes.cumsum(0) - sizes)[labels], persistent=False)
        self.register_buffer("class_size", sizes[labels], persistent=False)
        self.student_bank = Bank(len(rows), self.settings.width).to(device)
        self.teacher_bank = Bank(len(rows), self.settings.width).to(device)

    def terms(self, student: ExitOutputs, teacher: ExitOutputs, batch: Batch) -> dict[str, Tensor]:
        cells = self.positions[batch.index]
        student_contrast, teacher_contrast = self.contrasts(student.features[-1], teacher.features[-1], cells)
        return {"student_contrast": student_contrast, "teacher_contrast": teacher_contrast}

    def contrasts(self, student: Tensor, teacher: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Contrast of the student's (B, D_s) and of the teacher's (B, D_t) features of the cells at (B,) positions;
        the banks then hold what was seen."""
        s: CRDSettings = self.settings
        ours = unit_vectors(self.student_embedding(student.float()))
        theirs = unit_vectors(self.teacher_embedding(teacher.float()))
        compared = torch.cat([cells[:, None], self.draw_negatives(cells)], dim=1)
        to_teachers = self.teacher_bank.similarities(ours, compared) / s.contrast_temperature
        to_students = self.student_bank.similarities(theirs, compared) / s.contrast_temperature
        with torch.no_grad():
            # Z of a batch is a mean of its cells' means, so these are what the ranks tell one another.
            means = torch.stack([to_teachers, to_students]).logsumexp(-1).mT - math.log(compared.shape[1])
            all_cells, all_ours, all_theirs, means = of_all_ranks(cells, ours, theirs, means)
            self.teacher_bank.fix_normaliser(means[:, 0])
            self.student_bank.fix_normaliser(means[:, 1])
            self.student_bank.move(all_cells, all_ours, s.momentum)
            self.teacher_bank.move(all_cells, all_theirs, s.momentum)
        log_noise = math.log(s.negatives / len(self.by_class))
        return (
            contrast(to_teachers - self.teacher_bank.log_normaliser, log_noise),
            contrast(to_students - self.student_bank.log_normaliser, log_noise),
        )

    def draw_negatives(self, cells: Tensor) -> Tensor:
        """(B,) positions → (B, K) positions of cells of other classes, each as likely as any other."""
        start, size = self.class_start[cells][:, None], self.class_size[cells][:, None]
        others = len(self.by_class) - size
        # The remainder of so large a number is even to one part in 2⁶² / n.
        drawn = torch.randint(2**62, (len(cells), self.settings.negatives), device=cells.device) % others
        return self.by_class[torch.where(drawn < start, drawn, drawn + size)]


class Bank(nn.Module):
    """(n, D) unit vectors, one a cell, and ln Z of what is compared with them; both are kept in checkpoints."""

    vectors: Tensor
    log_normaliser: Tensor

    def __init__(self, cells: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", unit_vectors(torch.randn(cells, width)))
        self.register_buffer("log_normaliser", torch.tensor(math.nan))  # until it is fixed

    def similarities(self, embeddings: Tensor, compared: Tensor) -> Tensor:
        """⟨e, v⟩ of (B, D) embeddings and the vectors at (B, 1 + K) positions, of that shape.

        All B·n products cost less memory, and mostly less time, than B·(1 + K) vectors side by side would.
        """
        return (embeddings @ self.vectors.mT).gather(1, compared)

    def fix_normaliser(self, log_means: Tensor) -> None:
        """Set Z from (B,) logarithms of the first batch's mean exp(⟨e, v⟩/τ) of each cell; later ones change nothing
        (decided on the device, which need not wait for it)."""
        found = log_means.logsumexp(0) - math.log(len(log_means)) + math.log(len(self.vectors))
        self.log_normaliser = torch.where(self.log_normaliser.isnan(), found, self.log_normaliser)

    def move(self, cells: Tensor, embeddings: Tensor, momentum: float) -> None:
        """Take (B, D) embeddings of the cells at (B,) positions into their vectors."""
        same = cells[:, None] == cells
        means = same.float() @ embeddings / same.sum(1, keepdim=True)
        # Of a cell that is there more than once every copy writes the first one's vector: the order cannot matter.
        means = means[same.int().argmax(1)]
        moved = unit_vectors(momentum * self.vectors[cells] + (1 - momentum) * means)
        # A new tensor: the backward pass needs the old vectors.
        self.vectors = self.vectors.index_copy(0, cells, moved)


def contrast(logits: Tensor, log_noise: float) -> Tensor:
    """−ln h₊ − Σ_k ln(1 − h_k), mean over the batch, of (B, 1 + K) logarithms of p with the positive first, and of
    ln(K·P_n); h / (1 − h) = p / (K·P_n), so that both are softplus and cannot overflow."""
    odds = logits - log_noise
    return (F.softplus(-odds[:, 0]) + F.softplus(odds[:, 1:]).sum(1)).mean()


def of_all_ranks(*shares: Tensor) -> list[Tensor]:
    """(B_r, …) tensors of this rank's cells → (ΣB_r, …) of all ranks' cells, the same on each, without gradients."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return list(shares)
    # A rank cannot know whether the others' shares are one cell larger or smaller, so it asks.
    mine = torch.tensor([len(shares[0])], device=shares[0].device)
    found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(found, mine)
    sizes = torch.cat(found).tolist()
    return [_gathered(share, sizes) for share in shares]


def _gathered(share: Tensor, sizes: list[int]) -> Tensor:
    padded = share.new_zeros(max(sizes), *share.shape[1:])
    padded[: len(share)] = share
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded)
    return torch.cat([rows[:size] for rows, size in zip(found, sizes, strict=True)])
