"""Vectors scaled to length one, with gradients that stay finite where a vector has no direction."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_vectors(x: Tensor, dim: int = -1, shortest: float = 1e-12) -> Tensor:
    """x / ‖x‖ along ``dim``, of x's shape, in float32.

    A vector no longer than ``shortest`` (of two coincident points, of a constant that was centred) is zero here and
    gets no gradient; dividing it by a small number instead would send a gradient as large as that number is small.
    """
    x = x.float()
    square = x.square().sum(dim, keepdim=True)
    directed = square > shortest**2
    norm = torch.where(directed, square, 1.0).sqrt()
    return torch.where(directed, x / norm, 0.0)
