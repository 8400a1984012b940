import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cytodistill.models.backbone import OWN
from cytodistill.models.count import count_parameters, network_cost
from cytodistill.models.multi_exit import build_network
from cytodistill.models.outputs import OutputShapes
from cytodistill.models.staged import Staged
from cytodistill.models.weights import load_pretrained
from cytodistill.recipe import Student

SMALL = ("cifar_resnet8", "wrn_16_2", "compact_vgg", "deeppap")
"""One of each family."""
HEAD = ("backbone.fc.", "backbone.hidden.")


def staged(**options) -> Staged:
    """Two stages of one convolution, and an activation that follows the last."""
    layers = {
        "first": nn.Conv2d(3, 4, 3, 2, 1),
        "act1": nn.ReLU(),
        "second_0": nn.Conv2d(4, 6, 3, 2, 1),
        "act2": nn.ReLU(inplace=True),
    }
    return Staged(layers, {"act1": (4, 2), "second_0": (6, 4)}, num_classes=5, **options).eval()


def side_of(name: str) -> int:
    return 64 if name == "deeppap" else 32


def test_forward_is_its_layers_one_after_another():
    network = staged(pool=2, hidden=(7,))
    images = torch.randn(2, 3, 13, 13)
    first = network.first(images).relu()
    second = network.second_0(first)
    linear = network.hidden[0]
    features = linear(F.adaptive_avg_pool2d(second.relu(), 2).flatten(1)).relu()
    last, maps = network.forward_intermediates(images)
    torch.testing.assert_close(maps[0], first)
    # The map of a stage is what the stage ends with; what follows it is for the head.
    torch.testing.assert_close(network.forward_intermediates(images, 1)[0], second.relu())
    torch.testing.assert_close(network.forward_features(images), last)
    assert (linear.in_features, linear.out_features) == (6 * 2 * 2, 7)
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), features)
    torch.testing.assert_close(network.forward_head(last), network.fc(features))
    torch.testing.assert_close(network(images), network.fc(features))


@pytest.mark.parametrize(("asked", "given"), [(None, 2), (1, 1), (2, 2), (4, 2)])
def test_maps_are_those_of_the_deepest_stages(asked, given):
    _, maps = staged().forward_intermediates(torch.randn(1, 3, 8, 8), asked)
    assert [tap.shape[1] for tap in maps] == [4, 6][-given:]


def test_pyramid_holds_the_layers_down_to_the_last_map_asked_for_and_no_head():
    network = staged(hidden=(7,))
    whole, upper = network.pyramid(), network.pyramid((0,))
    assert list(whole) == ["first", "act1", "second_0", "act2"]
    assert list(upper) == ["first", "act1"]
    assert (whole.feature_info.channels(), whole.feature_info.reduction()) == ([4, 6], [2, 4])
    assert (upper.feature_info.channels(), upper.feature_info.reduction()) == ([4], [2])


def test_dropout_acts_in_front_of_the_classifier_and_after_every_hidden_layer():
    network = staged(drop_rate=0.5)
    last = torch.rand(8, 6, 4, 4)
    kept = network.forward_head(last, pre_logits=True)
    dropped = network.train().forward_head(last, pre_logits=True)
    assert set((dropped / kept).unique().tolist()) == {0.0, 2.0}
    steps = [type(step).__name__ for step in staged(hidden=(9, 7)).hidden]
    assert steps == ["Linear", "ReLU", "Dropout"] * 2


@pytest.mark.parametrize("name", SMALL)
def test_names_work_as_timms_do(name):
    """A single exit with its maps, and the pyramid that shows the same maps from the same weights."""
    side = side_of(name)
    single = build_network(Student(backbone=name, multi_exit=False), 6, side, seed=0).eval()
    images = torch.randn(2, 3, side, side)
    plain = single(images)
    single.keep_maps = True
    shown = single(images)
    torch.testing.assert_close(plain.logits[0], single.backbone(images))
    torch.testing.assert_close(shown.logits[0], plain.logits[0])
    stages = len(single.backbone.stages)
    assert len(shown.maps) == min(4, stages)
    shapes = OutputShapes.of(single, side)
    assert shapes.maps == tuple(tuple(tap.shape[1:]) for tap in shown.maps)
    assert shapes.features == (single.backbone.fc.in_features,)

    last, maps = single.backbone.forward_intermediates(images)
    pyramid = single.backbone.pyramid()
    # Where layers follow the last stage, the pyramid's last map has run through them: it is what the head reads.
    for tap, stage in zip(pyramid(images), [*maps[:-1], last], strict=True):
        torch.testing.assert_close(tap, stage)
    assert pyramid.feature_info.channels() == [tap.shape[1] for tap in maps]
    assert pyramid.feature_info.reduction() == sorted(pyramid.feature_info.reduction())


@pytest.mark.parametrize("name", SMALL)
def test_exits_after_three_stages(name):
    side = side_of(name)
    network = build_network(Student(backbone=name, taps=3), 6, side, seed=0)
    outputs = network(torch.randn(2, 3, side, side))
    assert [tuple(logits.shape) for logits in outputs.logits] == [(2, 6)] * 3
    assert len({features.shape for features in outputs.features}) == 1
    sum(logits.square().sum() for logits in outputs.logits).backward()
    assert not [key for key, value in network.named_parameters() if value.grad is None]


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name):
    side = side_of(name)
    network = build_network(Student(backbone=name, multi_exit=False, dropout=0.1), 6, side, seed=0)
    network(torch.randn(4, 3, side, side)).logits[0].square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in network.parameters())


@pytest.mark.parametrize("name", ["cifar_resnet8", "wrn_16_2"])
def test_deepest_exit_is_the_network_itself(name):
    """Costs count the trunk anew down to each exit; the deepest one's are those of the plain network."""
    plain = network_cost(build_network(Student(backbone=name, multi_exit=False), 10, 32), 32)
    cost = network_cost(build_network(Student(backbone=name, taps=3), 10, 32), 32)
    assert list(cost.exit_macs) == sorted(cost.exit_macs)
    assert (cost.exit_macs[-1], cost.exit_parameters[-1]) == (plain.macs, plain.parameters)


@pytest.mark.parametrize("name", SMALL[:-1])
def test_weights_pass_from_a_single_exit_to_several(name, tmp_path):
    single = build_network(Student(backbone=name, multi_exit=False), 6, 64, seed=0)
    path = tmp_path / "weights.pt"
    torch.save(single.backbone.state_dict(), path)
    several = build_network(Student(backbone=name, taps=2), 6, 64, seed=1)
    transfer = load_pretrained(several, name, str(path))
    assert all(key.startswith("heads.") for key in transfer.fresh)
    own = several.backbone.state_dict()
    assert all(torch.equal(value, single.backbone.state_dict()[key]) for key, value in own.items())
    again = build_network(Student(backbone=name, multi_exit=False), 6, 64, seed=1)
    assert load_pretrained(again, name, str(path)).complete
    # Another number of classes leaves the classifier fresh and nothing else.
    other = build_network(Student(backbone=name, multi_exit=False), 7, 64, seed=1)
    assert load_pretrained(other, name, str(path)).fresh == ("backbone.fc.weight", "backbone.fc.bias")


def test_seed_draws_the_weights():
    design = Student(backbone="cifar_resnet8", multi_exit=False)
    first, same, other = (build_network(design, 3, 32, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.backbone.fc.weight, other.backbone.fc.weight)


@pytest.mark.parametrize("name", OWN)
def test_pyramid_and_head_are_the_whole_network(name):
    with torch.device("meta"):
        network = OWN[name](num_classes=10)
    head = [value for key, value in network.named_parameters() if key.startswith(("hidden.", "fc."))]
    assert count_parameters(network.pyramid()) + sum(value.numel() for value in head) == count_parameters(network)
    assert not [key for key in network.state_dict() if key.startswith("pool")]
