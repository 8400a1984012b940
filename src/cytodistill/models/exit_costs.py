"""What a cell costs that leaves a network early: the multiply-accumulates of all that ran until then."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cytodistill.models.multi_exit import Network
from cytodistill.models.segments import segments_of


@torch.no_grad()
def macs_until_exits(network: Network, image_size: int) -> tuple[int, ...]:
    """Multiply-accumulates of one image until each exit has answered, those of the shallower exits included.

    `network_cost` leaves these out: it counts a network built as deep as one exit. A cell that may leave early tries
    the exits one after another, and pays for all it has tried; so the last figure is that of the whole network. Where
    the network cannot be cut behind an exit, what follows up to the next cut is counted too.
    """
    state = (torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device),)
    spent: list[int] = []
    for segment in segments_of(network.eval()):
        with FlopCounterMode(display=False) as counter:
            _, *state = segment(*state)
        # PyTorch counts two operations a MAC. The exits of one segment answer together, after all of it.
        spent += [counter.get_total_flops() // 2] + [0] * (segment.exits - 1)
    return tuple(int(total) for total in np.cumsum(spent))
