import copy

import pytest
import torch
from torch import nn

from cytodistill.models.fold import fold_batch_norms
from cytodistill.models.multi_exit import build_network
from cytodistill.models.outputs import ExitOutputs
from cytodistill.recipe import Student


def shaken(network):
    """Statistics and weights of the normalisations as no fresh network has them."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for part, low in ((module.running_mean, -1), (module.weight, 0.5), (module.bias, -1)):
                part.data.uniform_(low, 1.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "msdnet_4"])
def test_the_same_answers_with_fewer_normalisations(backbone):
    design = {"backbone": backbone, "pretrained": "none"} | ({} if backbone == "msdnet_4" else {"taps": 2})
    network = shaken(build_network(Student(**design), 3, 64, 0))
    before = copy.deepcopy(network.state_dict())
    sample = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    folded = fold_batch_norms(network, sample[:1])
    wanted, found = (torch.stack(each(sample).logits) for each in (network, folded))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert norms(folded) < norms(network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


class Once(nn.Module):
    """Convolution and normalisation, and what else reads the convolution."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.convolution, self.norm, self.other = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.eval()

    def forward(self, x):
        map = self.convolution(x)
        out = self.norm(map)
        if self.how == "module reads it too":
            out = out + self.other(map)
        elif self.how == "code reads it too":
            out = out + map
        elif self.how == "runs twice":
            out = out + self.norm(self.convolution(x + 1))
        return ExitOutputs([out.mean((2, 3))], [out])


@torch.no_grad()
@pytest.mark.parametrize("how", ["alone", "module reads it too", "code reads it too", "runs twice"])
def test_only_what_nothing_else_reads_is_folded(how):
    torch.manual_seed(0)
    network = shaken(Once(how))
    sample = torch.randn(2, 3, 8, 8)
    folded = fold_batch_norms(network, sample)
    assert (norms(folded) == 0) == (how == "alone")
    torch.testing.assert_close(folded(sample).logits[0], network(sample).logits[0], rtol=1e-5, atol=1e-5)


def test_a_network_without_normalisations_is_itself():
    network = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    assert fold_batch_norms(network, torch.randn(1, 3, 8, 8)) is network
