"""The global batch norm of one rank is torch's own; that of two is that of one, which the tests of ranks see."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from cytodistill.models import sync_batchnorm
from cytodistill.models.sync_batchnorm import GlobalBatchNorm2d, GlobalBatchNormAct2d, synchronise_batch_norm


def both(norm, monkeypatch, places=(4, 6, 5, 3), dtype=torch.float32, offset=0.0):
    """(output, gradient of the input, parameters' gradients, running moments) of torch's and of ours."""
    monkeypatch.setattr(sync_batchnorm, "_sum_over_ranks", lambda values: values)
    torch.manual_seed(0)
    x = (torch.randn(places) * 2 + offset).to(dtype).contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(places).to(dtype)
    found = []
    for each in (copy.deepcopy(norm), synchronise_batch_norm(copy.deepcopy(norm), torch.device("cpu"))):
        given = x.clone().requires_grad_()
        answer = each.train()(given)
        answer.backward(upstream)
        moments = [] if each.running_mean is None else [each.running_mean, each.running_var]
        found.append([answer.detach(), given.grad, *(p.grad for p in each.parameters()), *moments])
    return found


def drawn(norm):
    torch.manual_seed(1)
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(6),
        nn.BatchNorm2d(6, affine=False),
        nn.BatchNorm2d(6, momentum=None),
        nn.BatchNorm2d(6, track_running_stats=False),
        BatchNormAct2d(6),
    ],
    ids=["plain", "without weights", "cumulative", "without moments", "with activation"],
)
@pytest.mark.parametrize("offset", [0.0, 40.0])
def test_is_torchs_own(norm, offset, monkeypatch):
    theirs, ours = both(drawn(norm), monkeypatch, offset=offset)
    for expected, value in zip(theirs, ours, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 40.0])
def test_in_bfloat16_too(offset, monkeypatch):
    theirs, ours = both(drawn(nn.BatchNorm2d(6)), monkeypatch, dtype=torch.bfloat16, offset=offset)
    for expected, value in zip(theirs, ours, strict=True):
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value.float(), expected.float(), rtol=1e-2, atol=1e-2)


def test_its_gradient_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr(sync_batchnorm, "_sum_over_ranks", lambda values: values)
    norm = drawn(GlobalBatchNorm2d(3)).double().train()
    x = torch.randn(3, 3, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


def test_the_second_rank_counts(monkeypatch):
    """Moments over both ranks' cells, of which the other's are known here."""
    own, other = torch.randn(2, 5, 3, 3), torch.randn(7, 5, 3, 3) + 3
    rows = other.permute(0, 2, 3, 1).reshape(-1, 5).double()
    theirs = torch.cat([rows.sum(0), rows.square().sum(0), torch.tensor([len(rows)]).double()])
    monkeypatch.setattr(sync_batchnorm, "_sum_over_ranks", lambda values: values + theirs)
    norm = GlobalBatchNorm2d(5).train()
    reference = nn.BatchNorm2d(5).train()
    torch.testing.assert_close(norm(own), reference(torch.cat([own, other]))[:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, reference.running_var)


def test_classes_are_swapped_and_names_stay():
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), BatchNormAct2d(6))
    names = list(network.state_dict())
    synchronise_batch_norm(network, torch.device("cpu"))
    assert [type(each) for each in network[1:]] == [GlobalBatchNorm2d, GlobalBatchNormAct2d]
    assert list(network.state_dict()) == names
