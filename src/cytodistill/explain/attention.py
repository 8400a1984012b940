"""What the exits' own attention weighs: global context blocks (Cao et al. 2019) and the gates on the taps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cytodistill.explain.cam import resized
from cytodistill.models.branch import TapAttention
from cytodistill.models.context import GlobalContext
from cytodistill.models.multi_exit import MultiExit, Network


@dataclass(frozen=True)
class ExitAttention:
    """Attention of one exit on N cells, each part None where the exit has no such block.

    ``context`` (N, H, W) float32 at the image's size: a position's weight in the global context, in units of even
    attention, so that 1 everywhere is a block that pools by the plain mean. ``spread`` (N,): over how much of the map
    it is spread, exp(−Σ α ln α) / (h·w), from nearly 0 (one position) to 1 (even). ``gate`` (N, H, W): the mean over
    channels of what the tap is multiplied by, in (0, 1).
    """

    context: np.ndarray | None = None
    spread: np.ndarray | None = None
    gate: np.ndarray | None = None


@torch.no_grad()
def exit_attention(network: Network, images: Tensor) -> list[ExitAttention]:
    """Attention of each exit, shallow → deep, on (B, 3, S, S) images; nothing in networks without such blocks.

    Read by hooks while the network runs in eval mode; it is left as it was.
    """
    if not isinstance(network, MultiExit):
        return [ExitAttention()] * network.exits
    weights: dict[int, Tensor] = {}
    gates: dict[int, Tensor] = {}
    hooks = []
    training = network.training
    network.eval()
    try:
        for exit, head in enumerate(network.heads):
            if isinstance(head.context, GlobalContext):
                hooks.append(head.context.register_forward_pre_hook(_context_into(weights, exit)))
            if isinstance(head.attention, TapAttention):
                hooks.append(head.attention.up.register_forward_hook(_gate_into(gates, exit)))
        taps = network(images).maps
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    size = images.shape[-2:]
    return [_attention(weights.get(exit), gates.get(exit), taps[exit], size) for exit in range(network.exits)]


def _context_into(found: dict[int, Tensor], exit: int) -> Callable[[nn.Module, Any], None]:
    def keep(block: nn.Module, inputs: Any) -> None:
        found[exit] = block.attention(inputs[0])[:, 0].float()  # type: ignore[operator]

    return keep


def _gate_into(found: dict[int, Tensor], exit: int) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(block: nn.Module, inputs: Any, output: Tensor) -> None:
        found[exit] = output.float()

    return keep


def _attention(weights: Tensor | None, gate: Tensor | None, tap: Tensor, size: torch.Size) -> ExitAttention:
    context = spread = opened = None
    if weights is not None:
        positions = math.prod(weights.shape[1:])
        entropy = torch.special.entr(weights).sum((1, 2))
        context = resized(weights * positions, size).cpu().numpy()
        spread = (entropy.exp() / positions).cpu().numpy()
    if gate is not None:
        # As the block does: to the tap's size first, and the sigmoid after it.
        gate = F.interpolate(gate, size=tap.shape[2:], mode="bilinear", align_corners=False)
        opened = resized(gate.sigmoid().mean(1), size).cpu().numpy()
    return ExitAttention(context, spread, opened)
