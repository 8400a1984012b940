"""Residual networks for 32 px images, the pairs of the distillation field's CIFAR-100 tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from cytodistill.models.staged import Staged

STRIDES = (1, 2, 2)
"""What each of the three stages is strided by."""


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution without bias that keeps the size but for its stride."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)


class BasicBlock(nn.Module):
    """y = ReLU(BN(conv(ReLU(BN(conv(x))))) + s(x)), 3×3 convolutions, (B, C, H, W) → (B, D, H/stride, W/stride).

    s is the identity, or 1×1 convolution and BN where the shape changes (option B of He et al. 2016; their own CIFAR
    runs pad with zeros instead, but the field's published pairs have the projection).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(residual + self.downsample(x))


class PreactivationBlock(nn.Module):
    """y = conv(ReLU(BN(conv(a)))) + s, a = ReLU(BN(x)), 3×3 convolutions, (B, C, H, W) → (B, D, H/stride, W/stride).

    s is x, or a 1×1 convolution of a where the number of channels changes (Zagoruyko and Komodakis 2016).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        # Spelt as in the weight files.
        self.convShortcut = (
            None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.act1(self.bn1(x))
        residual = self.conv2(self.act2(self.bn2(self.conv1(activated))))
        return residual + (x if self.convShortcut is None else self.convShortcut(activated))


def stage(
    block: type[BasicBlock | PreactivationBlock], in_channels: int, out_channels: int, blocks: int, stride: int
) -> nn.Sequential:
    """``blocks`` blocks of the same width, the first with the stride."""
    return nn.Sequential(
        block(in_channels, out_channels, stride), *(block(out_channels, out_channels, 1) for _ in range(blocks - 1))
    )


class CifarResNet(Staged):
    """ResNet of He et al. 2016, section 4.2: 3×3 convolution, three stages of n basic blocks, global average pool.

    Args:
        depth: 6n + 2.
        widths: channels of the first convolution and of the three stages: 16, 16, 32, 64 in the paper. The networks
            named ×4 have 32, 64, 128, 256 (Tian et al. 2020): theirs is the one first stage with a projection.
        num_classes: width of the classifier.
        drop_rate: dropout in front of the classifier.
    """

    cifar_stem = True

    def __init__(
        self,
        depth: int,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        num_classes: int = 1000,
        drop_rate: float = 0.0,
    ) -> None:
        layers = {
            "conv1": conv3x3(3, widths[0]),
            "bn1": nn.BatchNorm2d(widths[0]),
            "act1": nn.ReLU(inplace=True),
            **{
                f"layer{number}": stage(BasicBlock, before, width, (depth - 2) // 6, stride)
                for number, ((before, width), stride) in enumerate(zip(pairwise(widths), STRIDES, strict=True), start=1)
            },
        }
        stages = {"layer1": (widths[1], 1), "layer2": (widths[2], 2), "layer3": (widths[3], 4)}
        super().__init__(layers, stages, num_classes, drop_rate)


class WideResNet(Staged):
    """Wide ResNet of Zagoruyko and Komodakis 2016: 3×3 convolution, three stages of n pre-activation blocks, BN, ReLU,
    global average pool. A stage's map is the sum its last block ends with; the head reads the last one's BN and ReLU.

    Args:
        depth: 6n + 4.
        factor: k; the stages have 16k, 32k and 64k channels.
        num_classes: width of the classifier.
        drop_rate: dropout in front of the classifier; within the blocks there is none.
    """

    cifar_stem = True

    def __init__(self, depth: int, factor: int, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        widths = (16, 16 * factor, 32 * factor, 64 * factor)
        layers = {
            "conv1": conv3x3(3, widths[0]),
            **{
                f"block{number}_layer": stage(PreactivationBlock, before, width, (depth - 4) // 6, stride)
                for number, ((before, width), stride) in enumerate(zip(pairwise(widths), STRIDES, strict=True), start=1)
            },
            "bn1": nn.BatchNorm2d(widths[3]),
            "act1": nn.ReLU(inplace=True),
        }
        stages = {"block1_layer": (widths[1], 1), "block2_layer": (widths[2], 2), "block3_layer": (widths[3], 4)}
        super().__init__(layers, stages, num_classes, drop_rate)


NETWORKS: dict[str, Callable[..., Staged]] = {
    "cifar_resnet8": partial(CifarResNet, 8),
    "cifar_resnet20": partial(CifarResNet, 20),
    "cifar_resnet32": partial(CifarResNet, 32),
    "cifar_resnet56": partial(CifarResNet, 56),
    "cifar_resnet8x4": partial(CifarResNet, 8, (32, 64, 128, 256)),
    "cifar_resnet32x4": partial(CifarResNet, 32, (32, 64, 128, 256)),
    "wrn_16_2": partial(WideResNet, 16, 2),
    "wrn_40_2": partial(WideResNet, 40, 2),
}
