"""MSDNet: several scales side by side, densely connected, with an exit after each block of layers (Huang et al. 2018,
"Multi-Scale Dense Networks for Resource Efficient Image Classification").

Scale 0 is the finest; each next one has half its side. Every layer appends to a scale's map what a convolution makes of
that map and what a strided one makes of the next finer map, so that the coarsest map, which the exits read, knows the
fine ones from the first layer on. Maps are (B, C, H, W); counts of the designs are pinned in tests/models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cytodistill.errors import CytodistillError
from cytodistill.models.backbone import CIFAR_STEM_UP_TO
from cytodistill.models.branch import conv_bn_relu
from cytodistill.models.outputs import ExitOutputs

SMALLEST_MAP = 3
"""Least side in pixels of the coarsest map: each exit strides over it twice."""


@dataclass(frozen=True)
class MSDNetDesign:
    """How an MSDNet is laid out; the defaults are the authors' for CIFAR.

    Network reduction: the L layers are parted along the depth into as many equal groups as there are scales. After each
    group the finest scale that is left is given up, and behind the layer that does so a 1×1 convolution leaves
    ``reduction`` of the other scales' channels.

    Raises:
        CytodistillError: numbers that no network can be built from.
    """

    blocks: int
    """Number of exits: one after each block."""
    base: int = 4
    """Layers of the first block."""
    step: int = 2
    """Layers of each further block (even), or by how many more a block has than the one before (lin_grow)."""
    step_mode: Literal["even", "lin_grow"] = "even"
    channels: int = 16
    """Of the stem's finest map, before the scale's factor."""
    growth: int = 6
    """Channels that a layer appends to the finest map, before the scale's factor."""
    scale_factors: tuple[int, ...] = (1, 2, 4)
    """Channels of each scale, finest → coarsest, as multiples of ``channels`` and ``growth``."""
    bottleneck_factors: tuple[int, ...] = (1, 2, 4)
    """Width of the 1×1 bottleneck on each scale, as a multiple of what the convolution behind it makes."""
    reduction: float = 0.5
    """Share of the channels that a transition keeps."""
    classifier_width: int = 128
    """Channels of an exit's two convolutions, and so of its features."""

    def __post_init__(self) -> None:
        for name in ("blocks", "base", "step", "channels", "growth", "classifier_width"):
            if getattr(self, name) < 1:
                raise CytodistillError(f"MSDNet design: {name}={getattr(self, name)}; give 1 or more")
        factors, bottlenecks = self.scale_factors, self.bottleneck_factors
        if not factors or len(factors) != len(bottlenecks) or min(*factors, *bottlenecks) < 1:
            raise CytodistillError(
                f"MSDNet design: scale_factors={factors}, bottleneck_factors={bottlenecks}; "
                "give each scale one of both, of 1 or more"
            )
        if self.step_mode not in ("even", "lin_grow"):
            raise CytodistillError(f"MSDNet design: step_mode={self.step_mode!r}; give 'even' or 'lin_grow'")
        if self.layers < self.scales:
            raise CytodistillError(
                f"MSDNet design: {self.layers} layers cannot come down from {self.scales} scales to one; "
                "give more blocks or a larger base"
            )
        if any(self.growth * factor % 2 for factor in factors[1:]):
            raise CytodistillError(
                f"MSDNet design: growth={self.growth} times {factors} is odd where two convolutions share it; "
                "give an even growth"
            )
        if not 0 < self.reduction <= 1 or int(self.reduction * self.growth) < 1:
            raise CytodistillError(
                f"MSDNet design: reduction={self.reduction}; give up to 1, and enough to leave a channel of growth="
                f"{self.growth}"
            )

    @property
    def scales(self) -> int:
        return len(self.scale_factors)

    @property
    def block_layers(self) -> tuple[int, ...]:
        """Number of layers of each block."""
        if self.step_mode == "lin_grow":
            return tuple(self.base + self.step * block for block in range(self.blocks))
        return (self.base, *[self.step] * (self.blocks - 1))

    @property
    def layers(self) -> int:
        """L, all layers together."""
        return sum(self.block_layers)

    @property
    def finest(self) -> tuple[int, ...]:
        """The finest scale that each of the L layers still makes; from layer to layer it is the same or the next."""
        group = math.ceil(self.layers / self.scales)
        # Whatever the last layers made on scales finer than these, no exit would read.
        finest_read = range(self.scales - self.layers, self.scales)
        return tuple(max(layer // group, read) for layer, read in enumerate(finest_read))


DESIGNS = {
    "msdnet_anytime": MSDNetDesign(blocks=7),
    "msdnet_budgeted": MSDNetDesign(blocks=5, base=1, step=1, step_mode="lin_grow"),
    "msdnet_4": MSDNetDesign(blocks=4),
}
"""Named designs: the paper's for anytime prediction and for budgeted batches, and the first with four exits, as many as
a ResNet's stages have."""


def design_named(name: str) -> MSDNetDesign:
    """Design of that name.

    Raises:
        CytodistillError: there is none.
    """
    if name not in DESIGNS:
        raise CytodistillError(f"student.backbone={name!r}: no such MSDNet; there are {', '.join(DESIGNS)}")
    return DESIGNS[name]


def bottleneck_conv(in_channels: int, out_channels: int, factor: int, stride: int) -> nn.Sequential:
    """1×1 to ``factor`` times what comes out, never to more than goes in, then 3×3 with the stride; BN, ReLU each."""
    width = min(in_channels, factor * out_channels)
    return nn.Sequential(conv_bn_relu(in_channels, width, 1), conv_bn_relu(width, out_channels, 3, stride, 1))


class Stem(nn.Module):
    """(B, 3, S, S) images → the first map of each scale, finest → coarsest, each a strided 3×3 of the one before.

    The finest is a 3×3 of stride 1 for small images (the paper's CIFAR networks), else a 7×7 of stride 2 and a 3×3
    max-pool of stride 2 (its ImageNet networks).
    """

    def __init__(self, channels: list[int], small: bool) -> None:
        super().__init__()
        finest = (
            conv_bn_relu(3, channels[0], 3, 1, 1)
            if small
            else nn.Sequential(conv_bn_relu(3, channels[0], 7, 2, 3), nn.MaxPool2d(3, 2, 1))
        )
        self.scales = nn.ModuleList([finest, *(conv_bn_relu(c, d, 3, 2, 1) for c, d in itertools.pairwise(channels))])

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(itertools.accumulate(self.scales, lambda x, scale: scale(x), initial=images))[1:]


class Layer(nn.Module):
    """Maps of some scales, finest → coarsest → the same with ``growth`` channels more on each.

    A scale with a finer one beside it takes half of what it grows by from that one's map, by strided convolutions. With
    ``drops`` the finest scale is read so for a last time, and given up.

    Args:
        channels: of the maps that come in.
        growth: what each of them grows by.
        factors: bottleneck factor of each of them, of the convolutions that read it.
        drops: whether the finest scale ends here.
    """

    def __init__(self, channels: list[int], growth: list[int], factors: list[int], drops: bool) -> None:
        super().__init__()
        self.drops = drops
        self.alone = nn.Identity() if drops else bottleneck_conv(channels[0], growth[0], factors[0], 1)
        self.same = nn.ModuleList(
            bottleneck_conv(c, g // 2, f, 1) for c, g, f in zip(channels[1:], growth[1:], factors[1:], strict=True)
        )
        self.down = nn.ModuleList(
            bottleneck_conv(c, g // 2, f, 2) for c, g, f in zip(channels[:-1], growth[1:], factors[:-1], strict=True)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        grown = [] if self.drops else [torch.cat([maps[0], self.alone(maps[0])], 1)]
        for (finer, own), down, same in zip(itertools.pairwise(maps), self.down, self.same, strict=True):
            grown.append(torch.cat([own, down(finer), same(own)], 1))
        return grown


class Transition(nn.Module):
    """1×1 convolution on each scale, to fewer channels."""

    def __init__(self, channels: list[int], reduced: list[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(conv_bn_relu(c, r, 1) for c, r in zip(channels, reduced, strict=True))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [scale(x) for scale, x in zip(self.scales, maps, strict=True)]


class Classifier(nn.Module):
    """Exit on the coarsest map: two 3×3 convolutions of stride 2, average pool, linear."""

    def __init__(self, channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.reduce = nn.Sequential(conv_bn_relu(channels, width, 3, 2, 1), conv_bn_relu(width, width, 3, 2, 1))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)

    def forward(self, coarsest: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) map → (B, classes) logits and (B, width) features."""
        features = self.reduce(coarsest).mean((2, 3))
        return self.linear(self.dropout(features)), features


class MSDNet(nn.Module):
    """(B, 3, S, S) images → ExitOutputs of ``design.blocks`` exits, shallow → deep, all with features of one width;
    the maps are the coarsest one at the end of each block, where ``keep_maps`` is set.

    Args:
        design: its layout; ``DESIGNS`` has the named ones.
        classes: number of classes.
        image_size: side S in pixels, which "auto" decides by.
        stem: "imagenet", "cifar" or "auto", as for ``create_backbone``.
        dropout: before each linear classifier.

    Raises:
        CytodistillError: the image is too small for the number of scales.
    """

    def __init__(
        self, design: MSDNetDesign, classes: int, image_size: int, stem: str = "auto", dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check_image_size(image_size, design.scales, stem)
        self.design = design
        self.classes = classes
        self.exits = design.blocks
        self.image_size = image_size
        self.keep_maps = True
        width, factors = design.channels, design.scale_factors
        self.stem = Stem([width * factor for factor in factors], _is_small(image_size, stem))
        self.blocks = nn.ModuleList()
        self.classifiers = nn.ModuleList()
        # A layer is told by the finest scale that comes in and the finest that goes out.
        layers = zip((0, *design.finest), design.finest, strict=False)
        for length in design.block_layers:
            parts: list[nn.Module] = []
            for came, stays in itertools.islice(layers, length):
                channels, growth = ([n * factor for factor in factors[came:]] for n in (width, design.growth))
                parts.append(Layer(channels, growth, list(design.bottleneck_factors[came:]), drops=stays > came))
                width += design.growth
                if stays > came:
                    reduced = int(design.reduction * width)
                    channels, fewer = ([n * factor for factor in factors[stays:]] for n in (width, reduced))
                    parts.append(Transition(channels, fewer))
                    width = reduced
            self.blocks.append(nn.Sequential(*parts))
            self.classifiers.append(Classifier(width * factors[-1], design.classifier_width, classes, dropout))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> ExitOutputs:
        maps = list(self._coarsest_maps(images))
        exits = (classifier(x) for classifier, x in zip(self.classifiers, maps, strict=True))
        logits, features = zip(*exits, strict=True)
        return ExitOutputs(list(logits), list(features), maps if self.keep_maps else [])

    def exits_of(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(B, classes) logits and (B, D) features of one exit after another, shallow → deep. Each is computed when it
        is asked for, so that whoever is content with an exit stops there and the deeper blocks never run."""
        for classifier, coarsest in zip(self.classifiers, self._coarsest_maps(images), strict=True):
            yield classifier(coarsest)

    def _coarsest_maps(self, images: Tensor) -> Iterator[Tensor]:
        """The (B, C, H, W) map that each exit reads, one block after another."""
        maps = self.stem(images)
        for block in self.blocks:
            maps = block(maps)
            yield maps[-1]

    @torch.no_grad()
    def exit_costs(self, image_size: int, shallower: bool = False) -> list[int]:
        """Multiply-accumulates of one image up to each exit: its block, those before, and its classifier.

        Convolutions and matrix products are counted, as in ``network_cost``. All scales of a block are: the paper's
        lazy evaluation, which defers what only deeper exits read, is not done here.

        Args:
            image_size: side in pixels of the square image.
            shallower: count the classifiers of the exits before too, as when they are asked one after another.
        """
        training = self.training
        self.eval()
        image = torch.zeros(1, 3, image_size, image_size, device=next(self.parameters()).device)
        costs, passed = [], 0
        with FlopCounterMode(display=False) as counter:
            for classifier, coarsest in zip(self.classifiers, self._coarsest_maps(image), strict=True):
                before = counter.get_total_flops() // 2
                classifier(coarsest)
                after = counter.get_total_flops() // 2
                costs.append(after if shallower else after - passed)
                passed += after - before
        self.train(training)
        return costs

    def exit_parameters(self) -> list[int]:
        """Parameters of what must run to answer at each exit: its block, those before, and its classifier."""
        stem, *blocks = (_count(part) for part in (self.stem, *self.blocks))
        trunks = itertools.accumulate(blocks, initial=stem)
        next(trunks)
        return [trunk + _count(classifier) for trunk, classifier in zip(trunks, self.classifiers, strict=True)]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _is_small(image_size: int, stem: str) -> bool:
    return stem == "cifar" or (stem == "auto" and image_size <= CIFAR_STEM_UP_TO)


def _coarsest_side(image_size: int, scales: int, stem: str) -> int:
    """Side of the coarsest map: every stride halves, rounding up."""
    strides = scales - 1 + (0 if _is_small(image_size, stem) else 2)
    return math.ceil(image_size / 2**strides)


def _check_image_size(image_size: int, scales: int, stem: str) -> None:
    if _coarsest_side(image_size, scales, stem) >= SMALLEST_MAP:
        return
    enough = next(s for s in itertools.count(image_size + 1) if _coarsest_side(s, scales, stem) >= SMALLEST_MAP)
    raise CytodistillError(
        f"data.image_size={image_size}: MSDNet halves it to {scales} scales and its exits twice more; "
        f"use {enough} px or more"
    )
