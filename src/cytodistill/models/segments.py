"""A network cut behind each of its exits, so that whoever is content with an exit never computes the deeper stages."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from cytodistill.models.msdnet import MSDNet
from cytodistill.models.multi_exit import Exit, MultiExit, Network


class Segment(nn.Module):
    """The part of a network from one exit to the next: ``(*state) → (logits, *next state)``.

    The first segment's state is the normalised images (B, 3, S, S), the last one's next state is empty; ``logits`` are
    (B, K, classes) of the K exits that the segment answers for, K = 1 where the network can be cut behind each. All
    tensors have the batch first, so that rows can be taken out of a state. The weights are the network's own, shared.
    """

    exits: int
    """K."""


class StageSegment(Segment):
    """Stages of a pyramid up to a tap, and the exit on it. (B, C, H, W) → (B, 1, classes), and the map of the tap
    where deeper segments follow."""

    def __init__(self, stages: nn.Sequential, exit: Exit, nhwc: bool, last: bool) -> None:
        super().__init__()
        self.stages, self.exit, self.nhwc, self.last = stages, exit, nhwc, last
        self.exits = 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stages(x)
        logits = self.exit(x.permute(0, 3, 1, 2) if self.nhwc else x)[0].unsqueeze(1)
        return (logits,) if self.last else (logits, x)


class BlockSegment(Segment):
    """A block of an MSDNet and its classifier; the state is the maps of all scales, finest → coarsest."""

    def __init__(self, stem: nn.Module | None, block: nn.Module, classifier: nn.Module, last: bool) -> None:
        super().__init__()
        self.stem, self.block, self.classifier, self.last = stem, block, classifier, last
        self.exits = 1

    def forward(self, *state: Tensor) -> tuple[Tensor, ...]:
        maps = self.block(self.stem(state[0]) if self.stem is not None else list(state))
        logits = self.classifier(maps[-1])[0].unsqueeze(1)
        return (logits,) if self.last else (logits, *maps)


class WholeSegment(Segment):
    """A network that cannot be cut, or has one exit: images → (B, E, classes)."""

    def __init__(self, network: nn.Module, exits: int) -> None:
        super().__init__()
        self.network, self.exits = network, exits

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (torch.stack(self.network(images).logits, dim=1),)


def segments_of(network: Network) -> list[Segment]:
    """Segments of a network, shallow → deep, whose exits together are the network's.

    A backbone is cut where timm runs its stages one after another (its ``FeatureListNet`` and the EfficientNet family);
    others, whose taps are taken from inside one forward pass, and networks of one exit are one segment.
    """
    if isinstance(network, MSDNet):
        parts = list(zip(network.blocks, network.classifiers, strict=True))
        return [
            BlockSegment(network.stem if not place else None, block, classifier, place == len(parts) - 1)
            for place, (block, classifier) in enumerate(parts)
        ]
    steps = _steps(network.backbone) if isinstance(network, MultiExit) else None
    if steps is None or not isinstance(network, MultiExit):
        return [WholeSegment(network, network.exits)]
    modules, ends = steps
    # The first segment runs the stages before the first tap too; what follows the last tap answers nothing.
    cuts = [0, *ends[network.first_tap :]]
    return [
        StageSegment(nn.Sequential(*modules[start:stop]), cast(Exit, exit), network.channels_last, stop == cuts[-1])
        for (start, stop), exit in zip(pairwise(cuts), network.heads, strict=True)
    ]


def _steps(pyramid: nn.Module) -> tuple[list[nn.Module], list[int]] | None:
    """Modules of a pyramid in the order in which they run, and how many of them have run where each stage ends; None
    where its stages are not run one after another."""
    if isinstance(pyramid, FeatureListNet):
        named = list(pyramid.named_children())
        return [module for _, module in named], [
            i for i, (name, _) in enumerate(named, 1) if name in pyramid.return_layers
        ]
    if isinstance(pyramid, EfficientNetFeatures | MobileNetV3Features) and pyramid.feature_hooks is None:
        blocks = list(pyramid.blocks)
        stem = [module for name, module in pyramid.named_children() if name != "blocks"]
        return [*stem, *blocks], [len(stem) + stage for stage in pyramid._stage_out_idx]
    return None
