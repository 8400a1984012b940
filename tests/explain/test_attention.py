import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cytodistill.explain.attention import exit_attention

from .conftest import images_of, msdnet, multi_exit, single_exit


def bigger(maps):
    return F.interpolate(maps, size=(64, 64), mode="bilinear", align_corners=False)[:, 0].numpy()


@torch.no_grad()
def test_context_is_the_blocks_own_softmax():
    network, images = multi_exit(context="all"), images_of(2)
    found = exit_attention(network, images)
    for head, tap, own in zip(network.heads, network(images).maps, found, strict=True):
        x = head.attention(tap)
        score = torch.einsum("bchw,c->bhw", x, head.context.mask.weight.flatten()) + head.context.mask.bias
        weights = score.flatten(1).double().softmax(1)
        places = weights.shape[1]
        shaped = weights.view(2, 1, *tap.shape[2:]).float()
        np.testing.assert_allclose(own.context, bigger(shaped * places), rtol=1e-4, atol=1e-4)
        entropy = -(weights * weights.log()).sum(1)
        np.testing.assert_allclose(own.spread, entropy.exp() / places, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["separable", "conv"])
def test_gate_is_what_the_tap_is_multiplied_by(kind):
    network, images = multi_exit(attention=kind), images_of(2)
    found = exit_attention(network, images)
    for head, tap, own in zip(network.heads[:-1], network(images).maps[:-1], found[:-1], strict=True):
        block = head.attention
        shown = tap.abs() > 1e-3
        ratio = (block(tap) / tap)[shown]
        down = block.up(block.down(tap))
        gate = F.interpolate(down, size=tap.shape[2:], mode="bilinear", align_corners=False).sigmoid()
        np.testing.assert_allclose(ratio, gate[shown], rtol=1e-4)
        np.testing.assert_allclose(own.gate, bigger(gate.mean(1, keepdim=True)), rtol=1e-4)
        assert ((own.gate > 0) & (own.gate < 1)).all()
        assert own.gate.shape == (2, 64, 64)
    assert found[-1].gate is None


def test_without_such_blocks_there_is_nothing():
    images = images_of(1)
    for network in (multi_exit(context="none", attention="none"), msdnet(), single_exit()):
        found = exit_attention(network, images)
        assert len(found) == network.exits
        assert all(part.context is part.gate is part.spread is None for part in found)


def test_the_network_is_left_as_it_was():
    network, images = multi_exit().train(), images_of(2)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    exit_attention(network, images)
    assert network.training
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.heads.modules())
