from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from cytodistill.models.backbone import create_backbone
from cytodistill.models.cifar_resnet import NETWORKS, BasicBlock, PreactivationBlock
from cytodistill.models.count import count_parameters
from cytodistill.models.multi_exit import build_network
from cytodistill.models.weights import load_pretrained
from cytodistill.recipe import Student

# Parameters at 100 classes. Published: 20 and 56 layers in imgclsmob's CIFAR-100 table; 8 layers 78,042 at 10 classes,
# so 90 × 65 more here; 32x4, WRN-16-2 and WRN-40-2 in reports of runs with these pairs; 8x4 rounded there (1.23 M).
PUBLISHED = {
    "cifar_resnet8": 83_892,
    "cifar_resnet20": 278_324,
    "cifar_resnet56": 861_620,
    "cifar_resnet8x4": 1_233_540,
    "cifar_resnet32x4": 7_433_860,
    "wrn_16_2": 703_284,
    "wrn_40_2": 2_255_156,
}
# Name → depth and channels of the first convolution and the stages.
PLANS = {
    "cifar_resnet8": (8, (16, 16, 32, 64)),
    "cifar_resnet20": (20, (16, 16, 32, 64)),
    "cifar_resnet32": (32, (16, 16, 32, 64)),
    "cifar_resnet56": (56, (16, 16, 32, 64)),
    "cifar_resnet8x4": (8, (32, 64, 128, 256)),
    "cifar_resnet32x4": (32, (32, 64, 128, 256)),
    "wrn_16_2": (16, (16, 32, 64, 128)),
    "wrn_40_2": (40, (16, 32, 64, 128)),
}


def formula(name: str, classes: int) -> int:
    """Parameters by hand: 9cd a 3×3 convolution, cd a projection, 2c a batch norm, (c + 1)·classes the classifier."""
    depth, widths = PLANS[name]
    wide = name.startswith("wrn")
    count = 9 * 3 * widths[0] + 2 * (widths[3] if wide else widths[0]) + (widths[3] + 1) * classes
    for before, width in pairwise(widths):
        count += 9 * before * width + (depth // 6 * 2 - 1) * 9 * width * width
        count += 2 * before + (depth // 6 * 2 - 1) * 2 * width if wide else depth // 6 * 2 * 2 * width
        if before != width:
            count += before * width + (0 if wide else 2 * width)
    return count


def build(name: str, **options):
    with torch.device("meta"):
        return NETWORKS[name](**options)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_counts_follow_the_formula(name):
    assert count_parameters(build(name, num_classes=10)) == formula(name, 10)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    assert count_parameters(build(name, num_classes=100)) == PUBLISHED[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_depth_is_the_number_of_layers(name):
    """He et al. count the classifier and no projection, Zagoruyko and Komodakis the projections and no classifier."""
    weighted = [key for key, value in build(name).named_parameters() if value.ndim >= 2]
    left_out = "fc" if name.startswith("wrn") else "downsample"
    assert sum(left_out not in key for key in weighted) == PLANS[name][0]


@pytest.mark.parametrize("side", [16, 32, 45])
@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_resnet8x4", "wrn_16_2"])
def test_maps_at_any_size(name, side):
    network = create_backbone(name, stem="auto", image_size=side, num_classes=7).eval()
    last, maps = network.forward_intermediates(torch.randn(2, 3, side, side))
    sides = [side, -(-side // 2), -(-side // 4)]
    assert [tuple(tap.shape[1:]) for tap in maps] == [
        (width, here, here) for width, here in zip(PLANS[name][1][1:], sides, strict=True)
    ]
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), last.mean((2, 3)))


def randomise(module: torch.nn.Module) -> None:
    """Batch norms of which each number matters."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for values in (part.weight, part.bias, part.running_mean, part.running_var):
                values.data.uniform_(0.5, 1.5)


def norm(x, bn):
    scale = bn.weight / (bn.running_var + 1e-5).sqrt()
    return (x - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]


@pytest.mark.parametrize(("before", "width", "stride"), [(4, 4, 1), (4, 6, 2), (4, 6, 1)])
def test_basic_block_by_hand(before, width, stride):
    block = BasicBlock(before, width, stride).eval()
    randomise(block)
    x = torch.randn(2, before, 9, 9)
    inner = norm(F.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.bn1).relu()
    residual = norm(F.conv2d(inner, block.conv2.weight, padding=1), block.bn2)
    shortcut = x
    if (before, stride) != (width, 1):
        convolution, batch_norm = block.downsample
        shortcut = norm(F.conv2d(x, convolution.weight, stride=stride), batch_norm)
    torch.testing.assert_close(block(x.clone()), (residual + shortcut).relu())


@pytest.mark.parametrize(("before", "width", "stride"), [(4, 4, 1), (4, 6, 2)])
def test_preactivation_block_by_hand(before, width, stride):
    block = PreactivationBlock(before, width, stride).eval()
    randomise(block)
    x = torch.randn(2, before, 9, 9)
    activated = norm(x, block.bn1).relu()
    inner = norm(F.conv2d(activated, block.conv1.weight, stride=stride, padding=1), block.bn2).relu()
    residual = F.conv2d(inner, block.conv2.weight, padding=1)
    shortcut = x if before == width else F.conv2d(activated, block.convShortcut.weight, stride=stride)
    torch.testing.assert_close(block(x.clone()), residual + shortcut)


def test_forward_by_hand():
    network = NETWORKS["cifar_resnet8"](num_classes=5).eval()
    randomise(network)
    images = torch.randn(2, 3, 20, 20)
    x = norm(F.conv2d(images, network.conv1.weight, padding=1), network.bn1).relu()
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in stage:
            x = block(x)
    torch.testing.assert_close(network(images), network.fc(x.mean((2, 3))))


def test_head_of_a_wide_resnet_reads_the_last_map_after_its_batch_norm():
    network = NETWORKS["wrn_16_2"](num_classes=5).eval()
    randomise(network)
    images = torch.randn(2, 3, 16, 16)
    last, maps = network.forward_intermediates(images)
    torch.testing.assert_close(maps[0], network.block1_layer(network.conv1(images)))
    torch.testing.assert_close(last, norm(maps[2], network.bn1).relu())
    assert (maps[2] < 0).any()  # a sum that no activation has seen


def test_pyramid_has_three_stages():
    pyramid = create_backbone("cifar_resnet20", stem="auto", image_size=32, features_only=True)
    assert (pyramid.feature_info.channels(), pyramid.feature_info.reduction()) == ([16, 32, 64], [1, 2, 4])
    with pytest.raises(Exception, match="student.taps=4: 'cifar_resnet20' has 3 stages .*use 3 or fewer"):
        build_network(Student(backbone="cifar_resnet20"), 5, 32)


def test_names_are_those_of_the_files_in_circulation(tmp_path):
    """State dicts of the field's CIFAR networks: conv1, bn1, layer1.0.conv1 …; conv1, block1.layer.0.bn1 …, bn1."""
    own = build("cifar_resnet8").state_dict()
    parts = [f"{layer}.{kind}" for layer in ("conv1", "bn1", "conv2", "bn2") for kind in ("weight",)]
    expected = {"conv1.weight", "bn1.weight", "fc.weight", "fc.bias"}
    expected |= {f"layer{stage}.0.{part}" for stage in (1, 2, 3) for part in parts}
    expected |= {f"layer{stage}.0.downsample.{step}.weight" for stage in (2, 3) for step in (0, 1)}
    assert {key for key in own if key.endswith(".weight")} | {"fc.bias"} == expected

    source = NETWORKS["wrn_16_2"](num_classes=5).state_dict()
    for stage in (1, 2, 3):
        assert f"block{stage}_layer.0.convShortcut.weight" in source
    path = tmp_path / "wrn_16_2.pt"
    torch.save({key.replace("_layer.", ".layer."): value for key, value in source.items()}, path)
    network = build_network(Student(backbone="wrn_16_2", multi_exit=False), 5, 32)
    assert load_pretrained(network, "wrn_16_2", str(path)).complete
    torch.testing.assert_close(network.backbone.block2_layer[0].bn1.weight, source["block2_layer.0.bn1.weight"])
