"""Convolutions over tiny maps as matrix products, for training on a CPU.

The last stage of a ResNet sees maps of 2×2 or 3×3 when images are small. There the CPU library's gradients of a wide
convolution take several times what the multiplications in them need; the same product over unfolded patches does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_PLACES = 9
"""Places of an output map up to which the product is the faster way."""
LEAST_WEIGHTS = 2**20
"""Weights of a convolution from which it is: with fewer, unfolding costs what it saves."""


class MatrixConv2d(nn.Conv2d):
    """``nn.Conv2d`` that computes (C', C·k·k) × (B, C·k·k, H'·W') while gradients are wanted and maps are tiny."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        high, wide = (
            (side + 2 * padding - kernel) // stride + 1
            for side, padding, kernel, stride in zip(
                x.shape[2:], self._padding(), self.kernel_size, self.stride, strict=True
            )
        )
        if not torch.is_grad_enabled() or high * wide > MOST_PLACES or x.device.type != "cpu":
            return super().forward(x)
        patches = F.unfold(x, self.kernel_size, padding=self._padding(), stride=self.stride)
        return torch.matmul(self.weight.flatten(1), patches).view(len(x), -1, high, wide)

    def _padding(self) -> tuple[int, int]:
        assert not isinstance(self.padding, str)
        return self.padding[0], self.padding[1]


def use_matrix_products(network: nn.Module) -> int:
    """Turn, in place, the convolutions of ``network`` that may gain by it into ``MatrixConv2d``; how many there were.

    Parameters, state dict and results stay (results up to rounding).
    """
    found = 0
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module) and module.weight.numel() >= LEAST_WEIGHTS:
            module.__class__ = MatrixConv2d
            found += 1
    return found


def _is_plain(convolution: nn.Conv2d) -> bool:
    """Whether it is one matrix product over its patches, and not over its pixels, which the library does well."""
    return (
        max(convolution.kernel_size) > 1
        and convolution.groups == 1
        and convolution.dilation == (1, 1)
        and convolution.bias is None
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
    )
