import numpy as np
import pytest
import torch

from cytodistill.distill.unit_vectors import unit_vectors


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_scales_to_length_one(dim):
    x = torch.randn(3, 4, 5)
    expected = x.numpy() / np.linalg.norm(x.numpy(), axis=dim, keepdims=True)
    np.testing.assert_allclose(unit_vectors(x, dim).numpy(), expected, rtol=1e-5)


def test_gradient_is_right_and_a_vector_without_length_gets_none():
    x = torch.randn(4, 3, dtype=torch.float64)
    weights = torch.randn(4, 3)
    x[1] = 0
    x.requires_grad_()
    (unit_vectors(x) * weights).sum().backward()
    assert torch.equal(x.grad[1], torch.zeros(3, dtype=torch.float64))
    v, w = x.detach()[0], weights[0].double()
    expected = (w - v * (v @ w) / (v @ v)) / v.norm()
    torch.testing.assert_close(x.grad[0], expected, rtol=1e-4, atol=1e-6)


def test_what_is_too_short_is_the_callers_to_say():
    x = torch.tensor([[3e-7, 4e-7]])
    assert unit_vectors(x)[0, 0].item() == pytest.approx(0.6)
    assert not unit_vectors(x, shortest=1e-6).any()


def test_half_precision_is_computed_in_single():
    assert unit_vectors(torch.ones(2, 300, dtype=torch.float16) * 100).dtype == torch.float32
    assert unit_vectors(torch.ones(2, 300, dtype=torch.float16) * 100)[0, 0].item() == pytest.approx(300**-0.5)
