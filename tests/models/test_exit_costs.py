import pytest
import torch
from torch import nn

from cytodistill.models.exit_costs import macs_until_exits
from cytodistill.models.multi_exit import build_network
from cytodistill.models.segments import segments_of
from cytodistill.recipe import Student


def counted_by_hand(module, *inputs):
    """Multiply-accumulates of the convolutions and fully connected layers, from the sizes of what they put out."""
    total = 0

    def count(layer, _, output):
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += output[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += output[0].numel() * layer.in_features

    handles = [each.register_forward_hook(count) for each in module.modules()]
    outputs = module(*inputs)
    for handle in handles:
        handle.remove()
    return total, outputs


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["resnet18", "msdnet_4"])
def test_are_those_of_the_layers_that_ran(backbone):
    """The context blocks' two small matrix products are all that has no layer of its own."""
    network = build_network(Student(backbone=backbone, pretrained="none"), 5, 64, 0).eval()
    state, spent, until = (torch.zeros(1, 3, 64, 64),), 0, macs_until_exits(network, 64)
    assert len(until) == network.exits
    for segment, total in zip(segments_of(network), until, strict=True):
        cost, (_, *state) = counted_by_hand(segment, *state)
        spent += cost
        assert spent <= total <= 1.01 * spent


def test_where_it_cannot_be_cut_all_exits_cost_the_whole():
    student = Student(backbone="resnet18", multi_exit=False, pretrained="none")
    (whole,) = macs_until_exits(build_network(student, 5, 64, 0), 64)
    assert whole == pytest.approx(148.5e6, rel=0.02)  # 1.82 G at 224 px, by the area
