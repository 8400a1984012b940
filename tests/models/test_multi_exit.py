import pytest
import torch

from cytodistill.errors import CytodistillError
from cytodistill.models.count import count_parameters, network_cost
from cytodistill.models.multi_exit import build_network
from cytodistill.models.outputs import OutputShapes, ensemble
from cytodistill.recipe import Student

# Counts of shared METHODS, section 2: 100 classes, CIFAR stem.
DESIGNS = {
    "plain": ({"multi_exit": False}, 11_220_132),
    "separable": ({"context": "none"}, 12_283_344),
    "separable + GC 1/4, the paper's 12.33 M": ({}, 12_327_587),
    "separable + GC 1/16 on every tap": ({"context": "all", "context_ratio": 1 / 16}, 12_328_968),
    "SCAN": ({"branch": "bottleneck", "attention": "conv", "context": "none"}, 15_161_040),
    "Be-your-own-teacher": ({"branch": "bottleneck", "attention": "none", "context": "none"}, 13_008_848),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_parameter_counts_of_the_named_designs(design):
    settings, parameters = DESIGNS[design]
    assert count_parameters(build_network(Student(**settings), 100, 32)) == parameters


def test_plain_resnet18_with_five_classes():
    assert count_parameters(build_network(Student(multi_exit=False), 5, 32)) == 11_171_397


@pytest.mark.parametrize(("design", "mmacs"), [("SCAN", 674), ("Be-your-own-teacher", 595), ("separable", 582)])
def test_macs_at_32_px(design, mmacs):
    cost = network_cost(build_network(Student(**DESIGNS[design][0]), 100, 32), 32)
    assert cost.macs / 1e6 == pytest.approx(mmacs, abs=1)


def test_costs_of_exits_rise_and_the_deepest_is_the_plain_network():
    plain = network_cost(build_network(Student(multi_exit=False), 100, 32), 32)
    cost = network_cost(build_network(Student(), 100, 32), 32)
    assert list(cost.exit_macs) == sorted(cost.exit_macs)
    assert cost.exit_macs[-1] == plain.macs
    assert cost.exit_parameters[-1] == plain.parameters
    assert plain.exit_macs == (plain.macs,)


@pytest.mark.parametrize("size", [64, 75])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_any_backbone_carries_exits_at_even_and_odd_sizes(backbone, size):
    network = build_network(Student(backbone=backbone, taps=3), 6, size)
    outputs = network(torch.randn(2, 3, size, size))
    assert [tuple(logits.shape) for logits in outputs.logits] == [(2, 6)] * 3
    assert len({features.shape for features in outputs.features}) == 1
    # Shallow → deep: the maps shrink.
    sides = [tap.shape[-1] for tap in outputs.maps]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] > sides[-1]


def test_single_exit_equals_timms_own_classifier():
    network = build_network(Student(backbone="test_resnet", multi_exit=False, stem="imagenet"), 6, 64).eval()
    images = torch.randn(2, 3, 64, 64)
    outputs = network(images)
    torch.testing.assert_close(outputs.logits[0], network.backbone(images))
    assert outputs.features[0].shape == (2, network.backbone.num_features)


def test_same_seed_same_weights():
    first, second, other = (build_network(Student(backbone="test_resnet"), 3, 64, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_ensemble_is_the_mean_of_probabilities():
    logits = [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])]
    probabilities = torch.stack([one.softmax(-1) for one in logits], 1)
    expected = (torch.tensor([0.880797, 0.119203]) + 0.5) / 2
    torch.testing.assert_close(ensemble(probabilities)[0], expected, rtol=0, atol=1e-5)


def test_too_many_taps_and_too_small_images_are_named():
    with pytest.raises(CytodistillError, match="student.taps=8"):
        build_network(Student(taps=8), 5, 64)
    with pytest.raises(CytodistillError, match="image_size=16"):
        build_network(Student(backbone="test_efficientnet", taps=3), 5, 16)
    with pytest.raises(CytodistillError, match="no ResNet stem"):
        build_network(Student(backbone="test_efficientnet", stem="cifar", taps=3), 5, 32)


def test_backbones_that_answer_with_channels_last_carry_exits_too():
    design = Student(backbone="test_mambaout", pretrained="none", taps=3)
    network = build_network(design, 3, 64, seed=0).eval()
    outputs = network(torch.zeros(2, 3, 64, 64))
    assert [logits.shape for logits in outputs.logits] == [(2, 3)] * 3
    assert [tap.shape[1] for tap in outputs.maps] == network.backbone.feature_info.channels()[-3:]


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_vit", "dpn48b"])
def test_maps_of_a_single_exit_are_shown_where_asked_for_and_change_no_answer(backbone):
    network = build_network(Student(backbone=backbone, multi_exit=False), 6, 64).eval()
    images = torch.randn(2, 3, 64, 64)
    plain = network(images)
    network.keep_maps = True
    shown = network(images)
    assert plain.maps == []
    assert len(shown.maps) == 4
    torch.testing.assert_close(shown.logits[0], plain.logits[0])
    shapes = OutputShapes.of(network, 64)
    assert shapes.maps == tuple(tuple(tap.shape[1:]) for tap in shown.maps)
    assert shapes.features == (shown.features[0].shape[1],)
