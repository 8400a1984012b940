"""Backbones by name, timm's and our own: classifiers and feature pyramids, with the stem that small images need."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import timm
from torch import nn

from cytodistill.errors import CytodistillError, reason
from cytodistill.models import cifar_resnet, compact_vgg, deeppap
from cytodistill.models.staged import Staged

OWN: dict[str, Callable[..., Staged]] = {**cifar_resnet.NETWORKS, **compact_vgg.NETWORKS, **deeppap.NETWORKS}
"""Networks that timm lacks, under the names by which they are created as timm's are."""

CIFAR_STEM_UP_TO = 40
"""Largest image side in pixels at which ``stem: auto`` takes the CIFAR stem: an ImageNet stem would leave 1×1 maps."""


def is_backbone(name: str) -> bool:
    """Whether there is a network of that name, timm's (with or without a weight tag) or our own."""
    return name in OWN or timm.is_model(name.split(".")[0])


def check_backbone(name: str, setting: str) -> None:
    """Raise CytodistillError where neither timm nor this package has a network of that name."""
    if not is_backbone(name):
        # The field's "resnet32x4" is a part of our name, so that ours comes first.
        ours = [own for own in OWN if name in own]
        close = list(dict.fromkeys(ours + difflib.get_close_matches(name, [*OWN, *timm.list_models()], n=3)))[:3]
        hint = f"did you mean {', '.join(close)}?" if close else f"see `timm.list_models()`, or use {', '.join(OWN)}"
        raise CytodistillError(f"{setting}={name!r}: timm has no such model; {hint}")


def create_backbone(name: str, *, stem: str, image_size: int, **options: Any) -> Any:
    """Network without weights, its stem replaced where ``stem`` says so.

    Args:
        name: one of ``OWN``, or a timm model name, with or without its weight tag.
        stem: "imagenet" (the network's own), "cifar" (3×3 stride 1, no max-pool; ResNets only) or "auto".
        image_size: side in pixels, which "auto" decides by.
        options: passed to ``timm.create_model`` (``num_classes``, ``features_only`` …).

    Raises:
        CytodistillError: the stem does not fit the network, the options are refused, or the image is too small for one
            of ours.
    """
    if name in OWN:
        return _create_own(name, stem, image_size, **options)
    architecture = name.split(".")[0]
    if getattr(timm.get_pretrained_cfg(architecture), "fixed_input_size", False):
        options["img_size"] = image_size
    try:
        model = timm.create_model(architecture, pretrained=False, **options)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise CytodistillError(
            f"backbone {name!r}: timm cannot build it with {options} ({reason(error)}); choose another"
        ) from None
    small = stem == "cifar" or (stem == "auto" and image_size <= CIFAR_STEM_UP_TO)
    has_resnet_stem = hasattr(model, "conv1") and hasattr(model, "maxpool")
    if small and has_resnet_stem:
        stem_out = [m for m in model.conv1.modules() if isinstance(m, nn.Conv2d)][-1].out_channels  # type: ignore[union-attr]
        model.conv1 = nn.Conv2d(3, stem_out, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    elif stem == "cifar":
        raise _no_resnet_stem(name)
    return model


def _create_own(
    name: str,
    stem: str,
    image_size: int,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    network = OWN[name](**options)
    if image_size < network.smallest_side:
        raise CytodistillError(
            f"data.image_size={image_size}: {name!r} cannot take images that small; "
            f"use {network.smallest_side} px or more"
        )
    if stem == "cifar" and not network.cifar_stem:
        raise _no_resnet_stem(name)
    return network.pyramid(out_indices) if features_only else network


def _no_resnet_stem(name: str) -> CytodistillError:
    return CytodistillError(f"student.stem=cifar: {name!r} has no ResNet stem to replace; use stem: imagenet")


def is_small_stem(model: nn.Module) -> bool:
    """Whether ``create_backbone`` replaced the stem (its first convolution then has no ImageNet counterpart)."""
    return isinstance(getattr(model, "maxpool", None), nn.Identity)
