import numpy as np
import pytest
import torch

from cytodistill.models.branch import DepthwiseConv2d, TapAttention, bottleneck_branch, separable_branch


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_separable_branches_and_attention_have_the_published_counts():
    channels = [64, 128, 256, 512]
    branches = sum(count(separable_branch(channels[m:], [2] * (3 - m))) for m in range(3))
    attention = sum(count(TapAttention(c, "separable")) for c in channels[:3])
    assert (branches, attention) == (726_528, 182_784)


@pytest.mark.parametrize("make", [separable_branch, bottleneck_branch])
def test_branch_takes_the_tap_to_the_deepest_width_and_stride(make):
    tap = torch.randn(2, 8, 16, 16)
    assert make([8, 16, 32], [2, 2])(tap).shape == (2, 32, 4, 4)


@pytest.mark.parametrize("kind", ["separable", "conv"])
@pytest.mark.parametrize("side", [(8, 8), (7, 5), (1, 1)])
def test_attention_keeps_the_shape_and_only_dims(kind, side):
    tap = torch.randn(4, 6, *side)
    gated = TapAttention(6, kind)(tap)
    assert gated.shape == tap.shape
    assert (gated.abs() <= tap.abs()).all()


def test_depthwise_convolution_equals_a_loop_in_numpy():
    layer, x = DepthwiseConv2d(3, 2), torch.randn(1, 3, 6, 6)
    padded = np.pad(x.numpy()[0], ((0, 0), (1, 1), (1, 1)))
    kernel = layer.weight.detach().numpy()[:, 0]
    expected = [
        [[(padded[c, i : i + 3, j : j + 3] * kernel[c]).sum() for j in (0, 2, 4)] for i in (0, 2, 4)] for c in range(3)
    ]
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.bfloat16()).dtype == torch.float32
