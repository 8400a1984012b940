import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from cytodistill.models.multi_exit import build_network
from cytodistill.models.outputs import ExitOutputs
from cytodistill.models.preactivations import find_activations, keep_preactivations
from cytodistill.recipe import Student


def network_of(backbone: str, multi_exit: bool = False) -> nn.Module:
    network = build_network(Student(backbone=backbone, multi_exit=multi_exit, taps=3, stem="imagenet"), 5, 64, seed=0)
    network.keep_maps = True
    return network


def scatter_weights(network: nn.Module) -> None:
    """Weights and statistics other than those at the start, as after a while of training."""
    torch.manual_seed(3)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))


def images(cells: int = 2) -> torch.Tensor:
    return torch.randn(cells, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def are_before_relu(outputs: ExitOutputs) -> bool:
    """Whether each map is the ReLU of its pre-activation, which is negative at some places."""
    pairs = list(zip(outputs.preactivations, outputs.maps, strict=True))
    return all(torch.equal(F.relu(before), after) and before.min() < 0 for before, after in pairs) and len(pairs) > 2


class OneForAll(nn.Module):
    """A network whose one activation is called for each stage and once between them."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.second = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))
        self.activation = activation
        self.classifier = nn.Linear(4, 5)
        self.keep_maps = False

    def forward(self, x: torch.Tensor) -> ExitOutputs:
        one = self.activation(self.first(x))
        two = self.activation(self.second(self.activation(self.between(one))))
        features = two.mean((2, 3))
        return ExitOutputs([self.classifier(features)], [features], [one, two] if self.keep_maps else [])


# ---------------------------------------------------------------- what is shown


def test_preactivations_of_a_resnet_written_out():
    network = network_of("resnet18")
    keep_preactivations(network, 64)
    scatter_weights(network)
    net = network.eval().backbone
    found = network(images()).preactivations
    x = net.maxpool(F.relu(net.bn1(net.conv1(images()))))
    for layer, preactivation in zip((net.layer1, net.layer2, net.layer3, net.layer4), found, strict=True):
        first, last = layer
        x = first(x)
        expected = last.bn2(last.conv2(F.relu(last.bn1(last.conv1(x))))) + x
        torch.testing.assert_close(preactivation, expected)
        (ours,) = torch.autograd.grad(preactivation.sum(), last.conv1.weight, retain_graph=True)
        torch.testing.assert_close(ours, torch.autograd.grad(expected.sum(), last.conv1.weight, retain_graph=True)[0])
        x = F.relu(expected)


@pytest.mark.parametrize("multi_exit", [False, True])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_byobnet"])
def test_stages_that_end_in_a_relu(backbone, multi_exit):
    network = network_of(backbone, multi_exit)
    keep_preactivations(network, 64)
    # At the start residual branches are zero and blocks repeat one another's outputs; later they do not.
    scatter_weights(network)
    for training in (True, False):
        assert are_before_relu(network.train(training)(images()))
    outputs = network.train()(images())
    sum(before.sum() for before in outputs.preactivations).backward()
    learning = [name for name, p in network.backbone.named_parameters() if p.grad is not None and p.grad.any()]
    assert any("conv1" in name for name in learning)


@pytest.mark.parametrize("multi_exit", [False, True])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "test_nfnet"])
def test_stages_that_end_otherwise_show_their_maps(backbone, multi_exit):
    network = network_of(backbone, multi_exit)
    assert not any(find_activations(network, 64))
    keep_preactivations(network, 64)
    outputs = network(images())
    assert all(one is other for one, other in zip(outputs.preactivations, outputs.maps, strict=True))
    assert len(outputs.maps) > 2


def test_a_densenet_ends_three_stages_in_concatenations_and_one_in_a_relu():
    network = network_of("densenet121").eval()
    keep_preactivations(network, 64)
    outputs = network(images(1))
    *others, (before, after) = zip(outputs.preactivations, outputs.maps, strict=True)
    assert len(others) == 3
    assert all(one is other for one, other in others)
    assert before.min() < 0
    assert torch.equal(F.relu(before), after)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.SiLU(), nn.PReLU(), nn.Hardswish(inplace=True)])
def test_an_activation_that_is_called_several_times_in_a_pass(activation):
    network = OneForAll(copy.deepcopy(activation))
    keep_preactivations(network, 64)
    for _ in range(2):
        outputs = network(images())
        for before, after in zip(outputs.preactivations, outputs.maps, strict=True):
            assert torch.equal(network.activation(before.clone()), after)
            assert not torch.equal(before, after)
    assert outputs.preactivations[0] is not outputs.preactivations[1]


# ---------------------------------------------------------------- what stays as it was


@pytest.mark.parametrize("multi_exit", [False, True])
def test_answers_gradients_and_names_stay(multi_exit):
    plain, hooked = network_of("test_resnet", multi_exit), network_of("test_resnet", multi_exit)
    state = torch.get_rng_state()
    keep_preactivations(hooked, 64)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(plain.state_dict()) == list(hooked.state_dict())
    for network in (plain, hooked):
        network(images()).logits[-1].square().sum().backward()
    for ours, theirs in zip(plain.parameters(), hooked.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert (ours.grad is None and theirs.grad is None) or torch.equal(ours.grad, theirs.grad)
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), hooked.buffers(), strict=True))


def test_modes_stay_and_a_second_call_adds_nothing():
    network = network_of("test_resnet").train()
    network.backbone.bn1.eval()
    keep_preactivations(network, 64)
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules())
    keep_preactivations(network, 64)
    assert hooks == sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules()) == 6
    assert [module for module in network.modules() if not module.training] == [network.backbone.bn1]


def test_maps_are_shown_without_being_asked_for():
    network = network_of("test_resnet")
    network.keep_maps = False
    keep_preactivations(network, 64)
    assert len(network(images()).maps) == 4


# ---------------------------------------------------------------- circumstances


def test_a_frozen_network_is_probed_too_and_answers_without_a_graph():
    network = network_of("test_resnet").eval().requires_grad_(False)
    with torch.no_grad():
        keep_preactivations(network, 64)
        scatter_weights(network)
        outputs = network(images())
    assert are_before_relu(outputs)
    assert not any(before.requires_grad for before in outputs.preactivations)
    with torch.inference_mode():
        assert are_before_relu(network(images()))


def test_half_precision_and_channels_last():
    network = network_of("test_resnet")
    keep_preactivations(network, 64)
    scatter_weights(network)
    network = network.to(memory_format=torch.channels_last)
    batch = images().contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(batch)
    assert are_before_relu(outputs)
    assert outputs.preactivations[0].is_contiguous(memory_format=torch.channels_last)
    assert {before.dtype for before in outputs.preactivations} == {after.dtype for after in outputs.maps}
    sum(before.float().sum() for before in outputs.preactivations).backward()
    assert network.backbone.layer1[0].conv1.weight.grad.any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: AveragedModel(network).module])
def test_a_copy_shares_nothing_with_the_first(copied):
    first = network_of("test_resnet")
    keep_preactivations(first, 64)
    before_copy = first(images())  # a pass leaves nothing behind that could not be copied
    second = copied(first)
    scatter_weights(second)
    ours, theirs = first(images()), second(images())
    assert are_before_relu(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.preactivations, before_copy.preactivations, strict=True))
    assert not torch.equal(ours.preactivations[-1], theirs.preactivations[-1])
    weights = [network.backbone.layer1[0].conv1.weight for network in (first, second)]
    grads = torch.autograd.grad(theirs.preactivations[0].sum(), weights, allow_unused=True)
    assert grads[0] is None
    assert grads[1].any()


def test_wrapped_for_distributed_training(tmp_path):
    class Step(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, batch):
            return self.network(batch).preactivations

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        network = network_of("test_resnet")
        keep_preactivations(network, 64)
        scatter_weights(network)
        wrapped = DistributedDataParallel(Step(network), find_unused_parameters=True)
        for _ in range(2):
            sum(before.mean() for before in wrapped(images())).backward()
        assert network.backbone.layer1[0].conv1.weight.grad.any()
    finally:
        dist.destroy_process_group()


def test_a_pass_that_failed_and_calls_outside_a_pass_leave_no_trace():
    network = OneForAll(nn.ReLU())
    keep_preactivations(network, 64)
    classifier, network.classifier = network.classifier, nn.Linear(9, 5)
    with pytest.raises(RuntimeError):
        network(images())
    network.classifier = classifier
    network.activation(torch.zeros(3))
    outputs = network(images())
    assert all(torch.equal(F.relu(a), b) for a, b in zip(outputs.preactivations, outputs.maps, strict=True))
