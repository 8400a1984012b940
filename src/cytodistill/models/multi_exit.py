"""Networks of this package: a classifier as it is, and a backbone with an exit after each stage."""

from __future__ import annotations

from itertools import pairwise

import torch
from timm.layers import Format
from torch import Tensor, nn

from cytodistill.errors import CytodistillError
from cytodistill.models.backbone import check_backbone, create_backbone, is_small_stem
from cytodistill.models.branch import TapAttention, bottleneck_branch, separable_branch
from cytodistill.models.context import GlobalContext
from cytodistill.models.msdnet import DESIGNS as MSDNETS
from cytodistill.models.msdnet import MSDNet
from cytodistill.models.outputs import ExitOutputs
from cytodistill.recipe import Student

MAPS = 4
"""How many of its deepest stages a single-exit network shows to methods that compare maps."""


class SingleExit(nn.Module):
    """Any timm classifier, answering as a network with one exit: (B, 3, S, S) → ExitOutputs, with the maps of its
    ``MAPS`` deepest stages where ``keep_maps`` is set (a method that needs them sees to that)."""

    def __init__(self, backbone: str, classes: int, image_size: int, stem: str = "auto", dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = create_backbone(
            backbone, stem=stem, image_size=image_size, num_classes=classes, drop_rate=dropout
        )
        self.classes = classes
        self.exits = 1
        self.keep_maps = False

    def forward(self, images: Tensor) -> ExitOutputs:
        maps: list[Tensor] = []
        if self.keep_maps:
            stages = min(MAPS, len(self.backbone.feature_info))
            last, maps = self.backbone.forward_intermediates(images, indices=stages)
        else:
            last = self.backbone.forward_features(images)
        features = self.backbone.forward_head(last, pre_logits=True)
        classifier = self.backbone.get_classifier()
        # A few families classify by a convolution on the pooled map, which the head knows how to shape.
        logits = classifier(features) if isinstance(classifier, nn.Linear) else self.backbone.forward_head(last)
        return ExitOutputs([logits], [features.flatten(1)], maps)


class Exit(nn.Module):
    """attention → global context → branch → average pool → classifier, on one tap."""

    def __init__(self, channels: list[int], strides: list[int], classes: int, design: Student, context: bool) -> None:
        super().__init__()
        deepest = len(channels) == 1
        self.attention = (
            nn.Identity() if deepest or design.attention == "none" else TapAttention(channels[0], design.attention)
        )
        self.context = (
            GlobalContext(channels[0], design.context_ratio, design.context_fusion) if context else nn.Identity()
        )
        branch = separable_branch if design.branch == "separable" else bottleneck_branch
        self.branch = nn.Identity() if deepest else branch(channels, strides)
        self.dropout = nn.Dropout(design.dropout)
        self.classifier = nn.Linear(channels[-1], classes)

    def forward(self, tap: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) tap → (B, classes) logits and (B, D) features."""
        features = self.branch(self.context(self.attention(tap))).mean((2, 3))
        return self.classifier(self.dropout(features)), features


class MultiExit(nn.Module):
    """Backbone with an exit after each of its ``taps`` deepest stages; the deepest exit is the backbone's own.

    (B, 3, S, S) images → ExitOutputs of ``taps`` exits, shallow → deep, each with features of the deepest tap's width.

    Raises:
        CytodistillError: the backbone has no feature pyramid, too few stages, or the image is too small for it.
    """

    def __init__(self, design: Student, classes: int, image_size: int) -> None:
        super().__init__()
        pyramid = create_backbone(design.backbone, stem=design.stem, image_size=image_size, features_only=True)
        info = pyramid.feature_info
        channels: list[int] = info.channels()
        reductions: list[int] = info.reduction()
        if len(channels) < design.taps:
            raise CytodistillError(
                f"student.taps={design.taps}: {design.backbone!r} has {len(channels)} stages with features; use "
                f"{len(channels)} or fewer"
            )
        if image_size < reductions[-1] and not is_small_stem(pyramid):
            raise CytodistillError(
                f"data.image_size={image_size}: {design.backbone!r} strides by {reductions[-1]}; "
                f"use {reductions[-1]} px or more"
            )
        channels, reductions = channels[-design.taps :], reductions[-design.taps :]
        strides = [max(1, deep // shallow) for shallow, deep in pairwise(reductions)]
        self.design = design
        self.image_size = image_size
        self.backbone = pyramid
        # Swin and its like answer with (B, H, W, C).
        self.channels_last = getattr(pyramid, "output_fmt", None) == Format.NHWC
        self.first_tap = len(info.channels()) - design.taps
        self.heads = nn.ModuleList(
            Exit(
                channels[m:],
                strides[m:],
                classes,
                design,
                context=design.context == "all" or (design.context == "shallow" and m < design.taps - 1),
            )
            for m in range(design.taps)
        )
        self.classes = classes
        self.exits = design.taps
        self.keep_maps = True

    def tap(self, stage: Tensor) -> Tensor:
        """(B, C, H, W) map of a stage, however the backbone orders its dimensions."""
        return stage.permute(0, 3, 1, 2) if self.channels_last else stage

    def forward(self, images: Tensor) -> ExitOutputs:
        maps = [self.tap(stage) for stage in self.backbone(images)[self.first_tap :]]
        logits, features = zip(*(head(tap) for head, tap in zip(self.heads, maps, strict=True)), strict=True)
        return ExitOutputs(list(logits), list(features), list(maps))


Network = SingleExit | MultiExit | MSDNet


def check_network(name: str, setting: str) -> None:
    """Raise CytodistillError where ``name`` is neither a backbone nor one of the MSDNets."""
    if name not in MSDNETS:
        check_backbone(name, setting)


def build_network(design: Student, classes: int, image_size: int, seed: int | None = None) -> Network:
    """Student of a recipe, weights drawn from ``seed`` (or from torch's own generator where it is None).

    Raises:
        CytodistillError: the design cannot be built at this image size.
    """
    if design.backbone in MSDNETS and not design.multi_exit:
        raise CytodistillError(
            f"student.backbone={design.backbone}: is a network of several exits; set student.multi_exit=true"
        )
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        if design.backbone in MSDNETS:
            return MSDNet(MSDNETS[design.backbone], classes, image_size, design.stem, design.dropout)
        if design.multi_exit:
            return MultiExit(design, classes, image_size)
        return SingleExit(design.backbone, classes, image_size, design.stem, design.dropout)
