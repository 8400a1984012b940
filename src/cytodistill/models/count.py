"""Parameters and multiply-accumulates of a network, whole and up to each exit."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cytodistill.models.backbone import create_backbone
from cytodistill.models.msdnet import MSDNet
from cytodistill.models.multi_exit import MultiExit, Network


@dataclass(frozen=True)
class Cost:
    """``parameters`` of the whole network; ``macs`` of one image through all of it; ``exit_parameters`` and
    ``exit_macs`` of what must run to answer at each exit and no deeper (the shallower exits are not needed for it)."""

    parameters: int
    macs: int
    exit_parameters: tuple[int, ...]
    exit_macs: tuple[int, ...]

    def to_dict(self) -> dict:
        return asdict(self)


def count_parameters(module: nn.Module) -> int:
    """Number of scalars in the parameters (buffers not counted)."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def network_cost(network: Network, image_size: int) -> Cost:
    """Cost of ``network`` at square images of ``image_size`` px; convolutions and matrix products are counted, as the
    field does. PyTorch's own counter reports two operations a MAC."""
    training = network.training
    network.eval()
    image = torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        network(image)
    total = counter.get_total_flops() // 2
    parameters = count_parameters(network)
    if isinstance(network, MultiExit):
        macs, sizes = _up_to_each_exit(network, image)
    elif isinstance(network, MSDNet):
        macs, sizes = network.exit_costs(image_size), network.exit_parameters()
    else:
        macs, sizes = [total], [parameters]
    network.train(training)
    return Cost(parameters, total, tuple(sizes), tuple(macs))


def _up_to_each_exit(network: MultiExit, image: torch.Tensor) -> tuple[list[int], list[int]]:
    """Costs of the trunk down to each tap plus that tap's head; timm builds a pyramid only as deep as is asked."""
    macs, sizes = [], []
    for level, head in enumerate(network.heads, start=network.first_tap):
        trunk = create_backbone(
            network.design.backbone,
            stem=network.design.stem,
            image_size=network.image_size,
            features_only=True,
            out_indices=(level,),
        )
        trunk.to(image.device).eval()
        with FlopCounterMode(display=False) as counter:
            head(network.tap(trunk(image)[-1]))
        macs.append(counter.get_total_flops() // 2)
        sizes.append(count_parameters(trunk) + count_parameters(head))
    return macs, sizes
