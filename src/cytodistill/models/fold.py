"""Batch normalisation done by the convolution before it: the same network, with less to do when it answers."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cytodistill.models.multi_exit import Network

NORMS = (nn.BatchNorm2d, BatchNormAct2d)
TOLERANCE = 1e-3
"""Of the largest logit; rounding changes it by about a millionth."""


@torch.no_grad()
def fold_batch_norms(network: Network, sample: Tensor) -> Network:
    """A copy of ``network``, in eval mode, whose convolutions have taken in the normalisations that directly follow.

    BN(Wx + b) = (γ/σ) W x + (γ/σ)(b − μ) + β is a convolution itself (σ² with ε). Which normalisation follows which
    convolution is seen from a forward pass, so that it works for any backbone; where another module reads a
    convolution's output too, the two stay apart. A network whose answers change by it (one that reads an output outside
    of modules) is returned as it is.

    Args:
        network: its own weights stay as they are.
        sample: an input.
    """
    pairs = _followers(network.eval(), sample)
    if not pairs:
        return network
    folded = copy.deepcopy(network)
    for convolution_name, norm_name in pairs:
        convolution = cast(nn.Conv2d, folded.get_submodule(convolution_name))
        norm = cast(nn.BatchNorm2d, folded.get_submodule(norm_name))
        folded.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm))
        rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        folded.set_submodule(norm_name, rest)
    before, after = (torch.stack(each(sample).logits) for each in (network, folded))
    same = torch.allclose(before, after, rtol=0, atol=TOLERANCE * float(before.abs().max()))
    return folded if same else network


def _followers(network: nn.Module, sample: Tensor) -> list[tuple[str, str]]:
    """Names of the convolutions whose output goes into a batch normalisation and nowhere else, and of that."""
    made: dict[int, tuple[str, Tensor]] = {}
    readers: dict[str, list[str]] = {}
    runs: dict[str, int] = {}

    def before(name: str, inputs: tuple[Any, ...]) -> None:
        runs[name] = runs.get(name, 0) + 1
        for value in inputs:
            if id(value) in made:
                readers.setdefault(made[id(value)][0], []).append(name)

    def after(name: str, output: Tensor) -> None:
        made[id(output)] = name, output  # the tensor is kept, so that its id stays its own

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, NORMS) or not next(module.children(), None):
            handles.append(module.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs)))
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(lambda _, __, output, name=name: after(name, output)))
    network(sample)
    for handle in handles:
        handle.remove()
    norms = {name for name, module in network.named_modules() if type(module) in NORMS}
    return [
        (name, following[0])
        for name, following in readers.items()
        if len(following) == 1 and following[0] in norms and runs[name] == runs[following[0]] == 1
    ]
