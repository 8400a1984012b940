import numpy as np
import pytest
import torch

from cytodistill.models.context import GlobalContext


def randomised(channels, ratio, fusion):
    block = GlobalContext(channels, ratio, fusion)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    return block


def reference(block, x):
    """GCNet's block in NumPy, from its formula."""
    w = {name: parameter.detach().numpy() for name, parameter in block.named_parameters()}
    out = np.empty_like(x)
    for b in range(len(x)):
        c, h, width = x[b].shape
        flat = x[b].reshape(c, h * width)
        score = w["mask.weight"].reshape(c) @ flat + w["mask.bias"]
        alpha = np.exp(score - score.max())
        alpha /= alpha.sum()
        context = flat @ alpha
        hidden = w["squeeze.weight"][:, :, 0, 0] @ context + w["squeeze.bias"]
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
        hidden = np.maximum(hidden * w["norm.weight"].ravel() + w["norm.bias"].ravel(), 0)
        t = w["expand.weight"][:, :, 0, 0] @ hidden + w["expand.bias"]
        out[b] = x[b] + t[:, None, None] if block.fusion == "add" else x[b] / (1 + np.exp(-t))[:, None, None]
    return out


@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_equals_the_formula(fusion):
    torch.manual_seed(0)
    block = randomised(12, 0.25, fusion)
    x = torch.randn(3, 12, 5, 7)
    np.testing.assert_allclose(block(x).detach().numpy(), reference(block, x.numpy()), rtol=1e-4, atol=1e-5)


def test_starts_as_the_identity_or_half():
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(GlobalContext(16, 0.25, "add")(x), x)
    torch.testing.assert_close(GlobalContext(16, 0.25, "mul")(x), x / 2)


def test_attention_is_a_distribution_over_positions():
    attention = randomised(8, 0.5, "add").attention(torch.randn(2, 8, 6, 3))
    assert attention.shape == (2, 1, 6, 3)
    torch.testing.assert_close(attention.sum((1, 2, 3)), torch.ones(2))


@pytest.mark.parametrize("channels", [64, 128, 256])
def test_parameter_count(channels):
    p = channels // 4
    expected = (channels + 1) + (channels * p + p) + 2 * p + (p * channels + channels)
    assert sum(w.numel() for w in GlobalContext(channels, 0.25).parameters()) == expected
