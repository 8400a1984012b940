"""timm backbones: whole classifiers and feature pyramids, with the ResNet stem that small images need."""

from __future__ import annotations

import difflib
from typing import Any

import timm
from torch import nn

from cytodistill.errors import CytodistillError, reason

CIFAR_STEM_UP_TO = 40
"""Largest image side in pixels at which ``stem: auto`` takes the CIFAR stem: an ImageNet stem would leave 1×1 maps."""


def is_backbone(name: str) -> bool:
    """Whether timm has a model of that name, with or without a weight tag."""
    return timm.is_model(name.split(".")[0])


def check_backbone(name: str, setting: str) -> None:
    """Raise CytodistillError where timm has no model of that name."""
    if not is_backbone(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "`timm.list_models()` lists them"
        raise CytodistillError(f"{setting}={name!r}: timm has no such model; {hint}")


def create_backbone(name: str, *, stem: str, image_size: int, **options: Any) -> Any:
    """timm model without weights, its stem replaced where ``stem`` says so.

    Args:
        name: timm model name, with or without its weight tag.
        stem: "imagenet", "cifar" (3×3 stride 1, no max-pool; ResNets only) or "auto".
        image_size: side in pixels, which "auto" decides by.
        options: passed to ``timm.create_model`` (``num_classes``, ``features_only`` …).

    Raises:
        CytodistillError: the stem does not fit the model, or timm refuses the options.
    """
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
        raise CytodistillError(f"student.stem=cifar: {name!r} has no ResNet stem to replace; use stem: imagenet")
    return model


def is_small_stem(model: nn.Module) -> bool:
    """Whether ``create_backbone`` replaced the stem (its first convolution then has no ImageNet counterpart)."""
    return isinstance(getattr(model, "maxpool", None), nn.Identity)
