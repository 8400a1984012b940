import copy

import pytest
import torch
from torch import nn

from cytodistill.models import matrix_conv
from cytodistill.models.backbone import create_backbone
from cytodistill.models.matrix_conv import MatrixConv2d, use_matrix_products


@pytest.mark.parametrize("side", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_values_and_gradients_are_the_convolutions(side, stride, padding, monkeypatch):
    if side + 2 * padding < 3:
        return
    monkeypatch.setattr(matrix_conv, "LEAST_WEIGHTS", 0)
    plain = nn.Conv2d(5, 7, 3, stride, padding, bias=False).double()
    product = copy.deepcopy(plain)
    assert use_matrix_products(product) == 1
    images = [torch.randn(4, 5, side, side, dtype=torch.double, requires_grad=True) for _ in range(2)]
    images[1].data = images[0].data.clone()
    for convolution, x in zip((plain, product), images, strict=True):
        y = convolution(x)
        (y * torch.arange(y.numel()).view_as(y)).sum().backward()
    with torch.no_grad():
        assert torch.allclose(plain(images[0]), product(images[1]))
    assert torch.allclose(plain(images[0]), product(images[1]))
    assert torch.allclose(plain.weight.grad, product.weight.grad)
    assert torch.allclose(images[0].grad, images[1].grad)


def test_wide_convolutions_of_the_last_stage_are_turned_and_nothing_else():
    network = create_backbone("resnet18", stem="imagenet", image_size=64, num_classes=5)
    before = list(network.state_dict())
    assert use_matrix_products(network) == 4
    assert {name.split(".")[0] for name, m in network.named_modules() if isinstance(m, MatrixConv2d)} == {"layer4"}
    assert list(network.state_dict()) == before
    assert use_matrix_products(network) == 0
    assert not isinstance(copy.deepcopy(network).layer1[0].conv1, MatrixConv2d)
