from itertools import pairwise

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cytodistill.models.compact_vgg import CompactVGG
from cytodistill.models.count import count_parameters

PLAN = (3, 32, 32, 64, 64, 128, 128, 256, 256, 256, 256)
"""Channels before the first convolution and after each of the ten."""


def test_parameters_by_hand():
    convolutions = sum(9 * c * d for c, d in pairwise(PLAN))
    batch_norms = 2 * sum(PLAN[1:])
    assert count_parameters(CompactVGG(5)) == convolutions + batch_norms + (256 + 1) * 5 == 2_355_173


def test_it_is_cheaper_than_vgg11():
    """VGG-11 has 7.61 G multiply-accumulates at 224 px and 132,863,336 parameters (torchvision's table)."""
    with torch.device("meta"):
        network, image = CompactVGG(1000), torch.zeros(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        network(image)
    sides = [224 // 2 ** (number // 2) for number in range(10)]
    by_hand = sum(9 * c * d * side**2 for (c, d), side in zip(pairwise(PLAN), sides, strict=True)) + 256 * 1000
    assert counter.get_total_flops() // 2 == by_hand < 7.61e9 * 0.4
    assert count_parameters(network) < 132_863_336 / 50


def test_blocks_by_hand():
    network = CompactVGG(5).eval()
    images = torch.randn(2, 3, 40, 40)
    _, maps = network.forward_intermediates(images)
    assert [tuple(tap.shape[1:]) for tap in maps] == [(32, 20, 20), (64, 10, 10), (128, 5, 5), (256, 2, 2), (256, 1, 1)]
    x = images
    for number, tap in enumerate(maps, start=1):
        convolutions = [part for part in getattr(network, f"block{number}") if isinstance(part, nn.Conv2d)]
        for convolution in convolutions:
            # A fresh batch norm divides by √(1 + 1e-5) in eval mode.
            x = (nn.functional.conv2d(x, convolution.weight, padding=1) / (1 + 1e-5) ** 0.5).relu()
        x = nn.functional.max_pool2d(x, 2)
        torch.testing.assert_close(tap, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(images), network.fc(x.mean((2, 3))), rtol=1e-4, atol=1e-4)
