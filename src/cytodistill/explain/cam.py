"""Class-activation maps of every exit: which places of an exit's last convolutional map speak for a class.

Written here rather than taken from a library. The map of each exit has to be found in three kinds of network, and that
is most of the work; what is left are three lines of arithmetic. Captum has no Grad-CAM++ and runs the whole network
once an exit, and pytorch-grad-cam brings OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from timm.layers import Format
from torch import Tensor
from torch.nn import functional as F

from cytodistill.errors import CytodistillError
from cytodistill.models.msdnet import MSDNet
from cytodistill.models.multi_exit import MultiExit, Network, SingleExit

CamMethod = Literal["gradcam", "gradcam++", "hirescam"]
Place = Literal["branch", "tap"]


@dataclass(frozen=True)
class ClassMaps:
    """Maps of N cells and E exits, shallow → deep.

    ``maps`` (N, E, H, W) float32 in [0, 1] at the image's size, each with 1 as its maximum, or all zero where no place
    speaks for the class; ``classes`` (N, E) the classes that they are about; ``probabilities`` (N, E, C) float32 of the
    exits; ``grids`` E pairs (h, w), the sizes that the maps had before they were resized.
    """

    maps: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    grids: tuple[tuple[int, int], ...]

    @classmethod
    def joined(cls, parts: Sequence[ClassMaps]) -> ClassMaps:
        """The cells of several batches, of which there is one at least."""
        return cls(
            np.concatenate([part.maps for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            parts[0].grids,
        )


def class_maps(
    network: Network,
    images: Tensor,
    classes: np.ndarray | None = None,
    *,
    method: CamMethod = "gradcam",
    at: Place = "branch",
) -> ClassMaps:
    """Class-activation maps of (B, 3, S, S) images at every exit.

    With A (K, h, w) the exit's map, s the class's logit at that exit and g = ∂s/∂A:

    - ``gradcam``: ReLU(Σ_k α_k A_k), α_k the mean of g_k over its places (Selvaraju et al. 2017). At the end of a
      branch, which a mean and a linear classifier follow, this is the class-activation map of Zhou et al. (2016).
    - ``gradcam++``: the same with α_k = Σ_ij a_kij ReLU(g_kij), a = g² / (2g² + g³ Σ A_k) (Chattopadhay et al. 2018).
    - ``hirescam``: ReLU(Σ_k g_k A_k), place by place: it shows no place that the logit does not depend on (Draelos and
      Carin 2020).

    Nothing is drawn at random, and only what lies behind A is differentiated. The network works in eval mode and is
    left as it was.

    Args:
        network: SingleExit, MultiExit or MSDNet.
        images: as the network takes them, on its device.
        classes: (B,) codes, or (B, E) of the exits; by default what each exit predicts.
        method: see above.
        at: "branch": the map that is averaged for the classifier; "tap": what the exit is given of the backbone, which
            is larger at the shallow exits. One and the same at the backbone's own exit.

    Raises:
        CytodistillError: another kind of network, one without a convolutional map, or an argument out of range.
    """
    if method not in get_args(CamMethod):
        raise CytodistillError(f"method={method}: not known; choose {', '.join(get_args(CamMethod))}")
    if at not in get_args(Place):
        raise CytodistillError(f"at={at}: not known; choose {' or '.join(get_args(Place))}")
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            parts = _exit_parts(network, images, at)
        chosen = _chosen(classes, len(images), len(parts), network.classes)
        maps, explained, probabilities = [], [], []
        for exit, (seen, answer) in enumerate(parts):
            with torch.enable_grad():
                seen = seen.detach().requires_grad_()
                logits = answer(seen)
                codes = logits.argmax(1) if chosen is None else torch.from_numpy(chosen[:, exit]).to(logits.device)
                # Cells do not mix in eval mode, so that the sum's gradient holds each cell's own.
                (gradient,) = torch.autograd.grad(logits.gather(1, codes[:, None]).sum(), seen)
            raw = _weighted(seen.detach().float(), gradient.float(), method).relu()
            maps.append(_to_unit(resized(raw, images.shape[-2:])))
            explained.append(codes.cpu())
            probabilities.append(logits.detach().float().softmax(1).cpu())
    finally:
        network.train(training)
    height_width = tuple((seen.shape[2], seen.shape[3]) for seen, _ in parts)
    return ClassMaps(
        torch.stack(maps, 1).cpu().numpy(),
        torch.stack(explained, 1).numpy(),
        torch.stack(probabilities, 1).numpy(),
        height_width,
    )


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w) maps at another size (height, width), bilinear between the centres of their places."""
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def _weighted(seen: Tensor, gradient: Tensor, method: CamMethod) -> Tensor:
    """(B, K, h, w) map and gradient → (B, h, w) sum over the channels, before the ReLU."""
    if method == "hirescam":
        return (gradient * seen).sum(1)
    if method == "gradcam":
        weights = gradient.mean((2, 3), keepdim=True)
    else:
        square = gradient.square()
        below = 2 * square + square * gradient * seen.sum((2, 3), keepdim=True)
        share = torch.where(below != 0, square / below, 0.0)
        weights = (share * gradient.relu()).sum((2, 3), keepdim=True)
    return (weights * seen).sum(1)


def _to_unit(maps: Tensor) -> Tensor:
    """(B, H, W) maps of no negative value, divided by their maxima; those of zeros stay so."""
    most = maps.amax((1, 2), keepdim=True)
    return torch.where(most > 0, maps / most, 0.0)


def _chosen(classes: np.ndarray | None, cells: int, exits: int, known: int) -> np.ndarray | None:
    """(B, E) codes of the classes asked for."""
    if classes is None:
        return None
    codes = np.asarray(classes, np.int64)
    codes = np.repeat(codes[:, None], exits, axis=1) if codes.ndim == 1 else codes
    if codes.shape != (cells, exits):
        raise CytodistillError(
            f"classes of shape {np.shape(classes)}: give ({cells},), or ({cells}, {exits}) of the exits"
        )
    if codes.size and not 0 <= codes.min() <= codes.max() < known:
        raise CytodistillError(f"classes: the network has classes 0 to {known - 1}; give codes of these")
    return codes


ExitPart = tuple[Tensor, Callable[[Tensor], Tensor]]
"""An exit's map (B, K, h, w), and what makes its (B, C) logits of it."""


def _exit_parts(network: Network, images: Tensor, at: Place) -> list[ExitPart]:
    if isinstance(network, SingleExit):
        return [_single_part(network, images)]
    if not isinstance(network, MultiExit | MSDNet):
        raise CytodistillError(
            f"a {type(network).__name__} has no exits on convolutional maps; explain a network (estimator.head=none)"
        )
    taps = _taps(network, images)
    if isinstance(network, MSDNet):
        if at == "tap":
            return [(tap, lambda x, c=c: c(x)[0]) for c, tap in zip(network.classifiers, taps, strict=True)]  # type: ignore[misc]
        return [
            (c.reduce(tap), lambda x, c=c: c.linear(x.mean((2, 3))))  # type: ignore[misc, operator]
            for c, tap in zip(network.classifiers, taps, strict=True)
        ]
    if at == "tap":
        return [(tap, lambda x, h=head: h(x)[0]) for head, tap in zip(network.heads, taps, strict=True)]  # type: ignore[misc]
    return [
        (head.branch(head.context(head.attention(tap))), lambda x, h=head: h.classifier(x.mean((2, 3))))  # type: ignore[misc, operator]
        for head, tap in zip(network.heads, taps, strict=True)
    ]


def _taps(network: MultiExit | MSDNet, images: Tensor) -> list[Tensor]:
    """What each exit is given: the maps that a forward pass shows."""
    keeps = network.keep_maps
    network.keep_maps = True
    try:
        return network(images).maps
    finally:
        network.keep_maps = keeps


def _single_part(network: SingleExit, images: Tensor) -> ExitPart:
    backbone = network.backbone
    last = backbone.forward_features(images)
    if last.ndim != 4:
        raise CytodistillError(
            f"student.backbone: {type(backbone).__name__} ends in tokens, not in a convolutional map; explain a run of "
            "a convolutional network"
        )
    channels_last = getattr(backbone, "output_fmt", None) == Format.NHWC  # Swin and its like

    def answer(seen: Tensor) -> Tensor:
        # A copy, for the heads of some families begin with an activation in place.
        return backbone.forward_head(seen.permute(0, 2, 3, 1) if channels_last else seen.clone())

    return (last.permute(0, 3, 1, 2) if channels_last else last), answer
