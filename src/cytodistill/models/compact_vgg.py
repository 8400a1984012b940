"""A compact VGG for cells, the network that comes next to the paper's own in its table 2."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from cytodistill.models.branch import conv_bn_relu
from cytodistill.models.staged import Staged

WIDTHS = (32, 64, 128, 256, 256)


class CompactVGG(Staged):
    """Our reading of CompactVGG (Chen et al. 2021, "CytoBrain").

    Known from the paper's abstract: a compact network of the VGG family, for single cells, which takes less time to
    train and to run than VGG-11, the cheapest of that family. Its layers were not to be had. All that follows is a
    reading: VGG-13's plan (five blocks of two 3×3 convolutions and a 2×2 max-pool) with half the channels, batch norm,
    and global average pooling in place of the two layers of 4096. At five classes these are 2.4 M parameters instead of
    VGG-11's 128.8 M, and a third of its multiply-accumulates.

    Args:
        num_classes: width of the classifier.
        drop_rate: dropout in front of the classifier.
    """

    def __init__(self, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        layers = {
            f"block{number}": nn.Sequential(
                *conv_bn_relu(before, width, 3, padding=1), *conv_bn_relu(width, width, 3, padding=1), nn.MaxPool2d(2)
            )
            for number, (before, width) in enumerate(pairwise((3, *WIDTHS)), start=1)
        }
        stages = {name: (width, 2**number) for number, (name, width) in enumerate(zip(layers, WIDTHS, strict=True), 1)}
        super().__init__(layers, stages, num_classes, drop_rate)


NETWORKS = {"compact_vgg": CompactVGG}
