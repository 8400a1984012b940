"""Which cells an epoch visits, in which order and batches, and what each class weighs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cytodistill.recipe import Train
from cytodistill.train.distributed import Ranks

BLOCKS_AT_A_TIME = 16


def epoch_order(labels: Tensor, seed: int, epoch: int, imbalance: str, block: int = 0) -> Tensor:
    """(n,) positions into the training cells in the order of one epoch, from the seed and the epoch alone.

    Args:
        labels: (n,) class codes of the training cells.
        imbalance: "resample" draws n cells with replacement, every present class equally often in expectation;
            anything else is a permutation.
        block: if not 0, so many neighbours are visited within one stretch of the epoch: see :func:`blocks_shuffled`.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch * 104_729 + 5) % 2**63)
    if block:
        return blocks_shuffled(len(labels), block, generator)
    if imbalance != "resample":
        return torch.randperm(len(labels), generator=generator)
    frequency = torch.bincount(labels).double()
    return torch.multinomial(1 / frequency[labels], len(labels), replacement=True, generator=generator)


def blocks_shuffled(cells: int, block: int, generator: torch.Generator) -> Tensor:
    """(n,) permutation that a disk can follow: blocks of neighbours in random order, shuffled 16 blocks at a time.

    While one such stretch is visited only its cells are read, each block from one place of the file, so what the system
    must hold in memory is 16 blocks and not the set. Batches mix the cells of 16 places instead of all.
    """
    starts = torch.randperm(-(-cells // block), generator=generator) * block
    stretches = []
    for some in starts.split(BLOCKS_AT_A_TIME):
        stretch = (some[:, None] + torch.arange(block)).flatten()
        stretch = stretch[stretch < cells]
        stretches.append(stretch[torch.randperm(len(stretch), generator=generator)])
    return torch.cat(stretches)


def batch_slices(cells: int, batch_size: int, least: int) -> list[slice]:
    """Slices of an epoch's order, one a global batch.

    A last batch of one cell has no batch statistics, and one of fewer than ``least`` leaves a rank with too few: its
    cells sit out this epoch (the next one's order is another), unless it is the only batch.
    """
    slices = [slice(start, min(start + batch_size, cells)) for start in range(0, cells, batch_size)]
    if len(slices) > 1 and slices[-1].stop - slices[-1].start < max(2, least):
        slices.pop()
    return slices


def least_batch(settings: Train, ranks: Ranks) -> int:
    """Cells that a global batch must have: one for each rank, or two where a rank normalises by its own cells alone."""
    own = ranks.world > 1 and settings.batch_norm == "rank"
    return ranks.world * (2 if own else 1)


def class_weights(labels: Tensor, classes: int, imbalance: str) -> Tensor | None:
    """(C,) float32 cross-entropy weights whose mean over the cells is 1, or None where none are asked for.

    w_c ∝ 1/n_c ("inverse") or 1/√n_c ("sqrt_inverse"); a class without cells gets 0.
    """
    if imbalance not in ("inverse", "sqrt_inverse"):
        return None
    count = torch.bincount(labels, minlength=classes).double()
    weight = torch.where(count > 0, count.clamp(min=1).pow(-1.0 if imbalance == "inverse" else -0.5), 0.0)
    return (weight / (weight * count).sum() * count.sum()).float()


def in_chunks(positions: Tensor, size: int) -> Iterator[Tensor]:
    """(n,) positions in pieces of at most ``size``; nothing where there are none."""
    for start in range(0, len(positions), size):
        yield positions[start : start + size]
