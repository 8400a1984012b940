"""Parts of an exit between a tap of the backbone and its classifier: attention on the tap, and the bottleneck branch.

Every part maps (B, C, H, W) to (B, C', H', W'). Counts of the designs are pinned in tests/models.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise 3×3 convolution without bias, (B, C, H, W) → (B, C, H/s, W/s).

    On a CPU under bfloat16 autocast it computes in float32: there, the strided one's gradient is 4 to 36 times slower
    in bfloat16 (``benchmarks/depthwise.py``).
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 3, stride, 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def sep_conv(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Two depthwise-separable 3×3 convolutions, the first with the stride: dw–pw–BN–ReLU–dw–pw–BN–ReLU
    (Zhang et al. 2021, self-distillation)."""
    return nn.Sequential(
        DepthwiseConv2d(in_channels, stride),
        nn.Conv2d(in_channels, in_channels, 1, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        DepthwiseConv2d(in_channels, 1),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class TapAttention(nn.Module):
    """Spatial-channel attention, multiplied onto the tap: x · σ(up(down(x))).

    ``separable``: sep_conv of stride 2, BN, ReLU, bilinear ×2 (Zhang et al. 2021). ``conv``: SCAN's conv 3×3 of stride
    2, BN, ReLU, transposed conv 4×4 of stride 2, BN (Zhang et al. 2019). Odd and tiny maps are resized to the tap's own
    size, so any input size works.
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.down: nn.Module
        self.up: nn.Module
        if kind == "separable":
            self.down = nn.Sequential(sep_conv(channels, channels, 2), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
            self.up = nn.Identity()
        else:
            self.down = conv_bn_relu(channels, channels, 3, 2, 1)
            self.up = nn.Sequential(
                nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(self.down(x))
        if gate.shape[2:] != x.shape[2:]:
            gate = F.interpolate(gate, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x * gate.sigmoid()


def separable_branch(channels: list[int], strides: list[int]) -> nn.Sequential:
    """sep_conv blocks that follow the backbone's own stages from the tap to the deepest one.

    Args:
        channels: channels of the tap and of every deeper tap (64, 128, 256, 512 from ResNet-18's first).
        strides: what each of those deeper taps is strided by, against the one before it.
    """
    blocks = [sep_conv(c, d, s) for c, d, s in zip(channels[:-1], channels[1:], strides, strict=True)]
    return nn.Sequential(*blocks)


def bottleneck_branch(channels: list[int], strides: list[int], width: int = 128) -> nn.Sequential:
    """1×1 to ``width``, k×k of stride k over the whole remaining stride, 1×1 to the deepest tap's channels, each with
    BN and ReLU (SCAN and Be-your-own-teacher). Arguments as for ``separable_branch``."""
    stride = math.prod(strides)
    return nn.Sequential(
        conv_bn_relu(channels[0], width, 1),
        conv_bn_relu(width, width, stride, stride),
        conv_bn_relu(width, channels[-1], 1),
    )
