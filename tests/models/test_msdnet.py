import dataclasses
import itertools
import math

import pytest
import torch

from cytodistill.errors import CytodistillError
from cytodistill.models.count import count_parameters, network_cost
from cytodistill.models.msdnet import DESIGNS, Layer, MSDNet, MSDNetDesign, design_named
from cytodistill.models.outputs import OutputShapes

SMALL = MSDNetDesign(blocks=3, base=2, step=1, channels=4, growth=2, classifier_width=8)
FOUR_SCALES = dataclasses.replace(
    SMALL, base=1, step=2, step_mode="lin_grow", scale_factors=(1, 2, 4, 4), bottleneck_factors=(1, 2, 4, 4)
)

# 100 classes, 32 px: parameters, and MACs up to each exit, the shallower ones asked too.
COUNTS = {
    "msdnet_anytime": (
        3_067_960,
        [14_967_296, 25_259_008, 36_780_544, 45_972_480, 56_933_888, 66_529_280, 75_487_744],
    ),
    "msdnet_budgeted": (2_078_924, [6_792_704, 14_209_024, 27_278_848, 41_373_696, 58_087_936]),
    "msdnet_4": (1_534_716, [14_967_296, 24_104_960, 32_412_160, 39_578_624]),
}
# Shared METHODS, section 5: millions of parameters, and of operations at the first and the last exit.
PUBLISHED = {"msdnet_anytime": (3.07, 15.1, 75.9), "msdnet_budgeted": (2.08, 6.9, 58.5)}


def by_formula(blocks: list[int], classes: int = 100) -> tuple[int, list[int], list[int]]:
    """Parameters, MACs and published operations up to each exit of an MSDNet for 32 px, in plain arithmetic.

    Three scales of 1, 2 and 4 times 16 channels, growing by 6 times that. The published operations count the elements
    of every ReLU and average and the linear bias beside the MACs.
    """
    parameters, macs, elements = [0], [0], [0]  # a figure for each convolution and classifier

    def conv(c: int, d: int, kernel: int, side: int) -> None:
        parameters.append(c * d * kernel**2 + 2 * d)
        macs.append(c * d * kernel**2 * side**2)
        elements.append(d * side**2)

    def bottleneck(width: int, scale: int, grown: int, to: int) -> None:
        inner = min(width * 2**scale, grown * 2**scale)
        conv(width * 2**scale, inner, 1, 32 >> scale)
        conv(inner, grown, 3, 32 >> to)

    width, layer, finest, up_to_exits = 16, 0, 0, []
    for scale, c in enumerate((3, 16, 32)):
        conv(c, 16 << scale, 3, 32 >> scale)
    for layers in blocks:
        for _ in range(layers):
            before, finest = finest, layer // math.ceil(sum(blocks) / 3)
            layer += 1
            for scale in range(finest, 3):
                if scale == before:
                    bottleneck(width, scale, 6 << scale, scale)
                else:
                    bottleneck(width, scale - 1, 3 << scale, scale)
                    bottleneck(width, scale, 3 << scale, scale)
            width += 6
            if finest > before:
                for scale in range(finest, 3):
                    conv(width << scale, width // 2 << scale, 1, 32 >> scale)
                width //= 2
        conv(4 * width, 128, 3, 4)
        conv(128, 128, 3, 2)
        parameters.append(129 * classes)
        macs.append(128 * classes)
        elements.append(128 * 2 * 2 + classes)
        up_to_exits.append((sum(macs), sum(macs) + sum(elements)))
    return sum(parameters), [m for m, _ in up_to_exits], [o for _, o in up_to_exits]


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize("name", DESIGNS)
def test_parameters_and_macs_of_the_named_designs(name):
    network = MSDNet(DESIGNS[name], 100, 32)
    parameters, macs = COUNTS[name]
    assert by_formula(list(DESIGNS[name].block_layers))[:2] == (parameters, macs)
    assert count_parameters(network) == parameters
    assert network.exit_costs(32, shallower=True) == macs
    assert network_cost(network, 32).macs == macs[-1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    parameters, _, operations = by_formula(list(DESIGNS[name].block_layers))
    found = (round(parameters / 1e6, 2), round(operations[0] / 1e6, 1), round(operations[-1] / 1e6, 1))
    assert found == PUBLISHED[name]


def test_layout_of_the_named_designs():
    assert DESIGNS["msdnet_anytime"].block_layers == (4, 2, 2, 2, 2, 2, 2)
    assert DESIGNS["msdnet_anytime"].finest == (0,) * 6 + (1,) * 6 + (2,) * 4
    assert DESIGNS["msdnet_budgeted"].block_layers == (1, 2, 3, 4, 5)
    assert DESIGNS["msdnet_budgeted"].finest == (0,) * 5 + (1,) * 5 + (2,) * 5
    assert DESIGNS["msdnet_4"].block_layers == (4, 2, 2, 2)
    # Groups of two layers would leave the last one two scales, of which no exit reads the finer.
    assert MSDNetDesign(blocks=1).finest == (0, 0, 1, 2)


def test_an_exit_alone_costs_less_by_the_shallower_classifiers():
    network = MSDNet(SMALL, 5, 32)
    alone, asked = network.exit_costs(32), network.exit_costs(32, shallower=True)
    inputs = [exit_.reduce[0][0].in_channels for exit_ in network.classifiers]
    classifiers = [c * 8 * 9 * 4 * 4 + 8 * 8 * 9 * 2 * 2 + 8 * 5 for c in inputs]
    assert [b - a for a, b in zip(alone, asked, strict=True)] == [0, classifiers[0], sum(classifiers[:2])]
    assert network.training


def test_parameters_of_an_exit_are_those_of_its_block_the_ones_before_and_its_classifier():
    network = MSDNet(SMALL, 5, 32)
    classifiers = [count_parameters(exit_) for exit_ in network.classifiers]
    assert network.exit_parameters()[-1] == count_parameters(network) - sum(classifiers[:-1])
    trunks = [whole - classifier for whole, classifier in zip(network.exit_parameters(), classifiers, strict=True)]
    assert trunks[0] == count_parameters(network.stem) + count_parameters(network.blocks[0])
    assert [b - a for a, b in itertools.pairwise(trunks)] == [count_parameters(b) for b in network.blocks[1:]]


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("side", [16, 32, 33, 64, 75, 96])
@pytest.mark.parametrize("design", [SMALL, FOUR_SCALES], ids=["three scales", "four scales"])
def test_exits_of_one_width_on_one_coarsest_map_at_any_size(design, side):
    strides = design.scales - 1 + (2 if side > 40 else 0)
    coarsest = math.ceil(side / 2**strides)
    if coarsest < 3:
        with pytest.raises(CytodistillError, match=f"image_size={side}: .*use {17 if side == 16 else 65} px or more"):
            MSDNet(design, 6, side)
        return
    network = MSDNet(design, 6, side)
    outputs = network(torch.randn(2, 3, side, side))
    assert [tuple(logits.shape) for logits in outputs.logits] == [(2, 6)] * 3
    assert [tuple(features.shape) for features in outputs.features] == [(2, 8)] * 3
    assert [tuple(coarse.shape[2:]) for coarse in outputs.maps] == [(coarsest, coarsest)] * 3
    assert network.exits == len(outputs.logits)
    shapes = OutputShapes.of(network, side)
    assert shapes.features == (8, 8, 8)
    assert shapes.maps == tuple(tuple(coarse.shape[1:]) for coarse in outputs.maps)
    network.keep_maps = False
    assert network(torch.randn(2, 3, side, side)).maps == []


def test_stem_is_told_by_the_size_or_by_name():
    assert MSDNet(SMALL, 3, 40).stem.scales[0][0].kernel_size == (3, 3)
    assert MSDNet(SMALL, 3, 41).stem.scales[0][0][0].kernel_size == (7, 7)
    images = torch.randn(2, 3, 64, 64)
    assert MSDNet(SMALL, 3, 64, stem="cifar")(images).maps[0].shape[2:] == (16, 16)
    assert MSDNet(SMALL, 3, 64, stem="imagenet")(images).maps[0].shape[2:] == (4, 4)


@pytest.mark.parametrize("drops", [False, True])
def test_a_layer_keeps_its_maps_and_reads_the_scale_itself_and_the_next_finer(drops):
    torch.manual_seed(0)
    layer = Layer([4, 8, 16], [2, 4, 8], [1, 2, 4], drops).eval()
    maps = [torch.randn(1, 4, 9, 9), torch.randn(1, 8, 5, 5), torch.randn(1, 16, 3, 3)]
    grown = layer(maps)
    kept = maps[1:] if drops else maps
    assert [tuple(x.shape[1:]) for x in grown] == [(6, 9, 9), (12, 5, 5), (24, 3, 3)][3 - len(kept) :]
    for before, after in zip(kept, grown, strict=True):
        assert torch.equal(after[:, : before.shape[1]], before)
    for changed in range(3):
        other = layer([x + (scale == changed) for scale, x in enumerate(maps)])
        differs = [3 - len(kept) + n for n, x in enumerate(grown) if not torch.equal(other[n], x)]
        assert differs == [scale for scale in (changed, changed + 1) if 3 - len(kept) <= scale < 3]


# ---------------------------------------------------------------- behaviour


@pytest.mark.parametrize("design", [SMALL, FOUR_SCALES, MSDNetDesign(1, channels=4, growth=2, classifier_width=8)])
def test_gradients_reach_every_parameter(design):
    torch.manual_seed(0)
    network = MSDNet(design, 5, 33)
    outputs = network(torch.randn(4, 3, 33, 33))
    sum(logits.square().sum() for logits in outputs.logits).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_deepest_exit_alone_trains_the_whole_trunk():
    torch.manual_seed(0)
    network = MSDNet(SMALL, 5, 32)
    network(torch.randn(4, 3, 32, 32)).logits[-1].square().sum().backward()
    untouched = [name for name, p in network.named_parameters() if p.grad is None]
    assert {name.split(".reduce")[0].split(".linear")[0] for name in untouched} == {"classifiers.0", "classifiers.1"}


def test_exits_one_by_one_are_the_whole_forward_and_deeper_blocks_wait_to_be_asked():
    network = MSDNet(SMALL, 5, 32).eval()
    images = torch.randn(3, 3, 32, 32)
    outputs = network(images)
    ran = []
    for number, block in enumerate(network.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    for level, (logits, features) in enumerate(network.exits_of(images)):
        assert ran == list(range(level + 1))
        assert torch.equal(logits, outputs.logits[level])
        assert torch.equal(features, outputs.features[level])
        linear = network.classifiers[level].linear
        torch.testing.assert_close(features @ linear.weight.T + linear.bias, logits)
    assert level == 2


def test_eval_is_deterministic_and_cells_do_not_see_each_other():
    network = MSDNet(SMALL, 5, 32, dropout=0.5)
    images = torch.randn(4, 3, 32, 32)
    network(images)
    network.eval()
    first, second, one = network(images), network(images), network(images[1:2])
    for a, b, c in zip(first.logits, second.logits, one.logits, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a[1:2], c)


def test_designs_and_sizes_that_cannot_be_are_named():
    with pytest.raises(CytodistillError, match="image_size=8: .*use 9 px or more"):
        MSDNet(SMALL, 5, 8)
    with pytest.raises(CytodistillError, match="no such MSDNet; there are msdnet_anytime"):
        design_named("msdnet_8")
    assert design_named("msdnet_4") is DESIGNS["msdnet_4"]
    wrong = {
        "blocks=0": {"blocks": 0},
        "growth=0": {"growth": 0},
        "give each scale one of both": {"scale_factors": (1, 2)},
        "step_mode='odd'": {"step_mode": "odd"},
        "2 layers cannot come down from 3 scales": {"blocks": 1, "base": 2},
        "give an even growth": {"growth": 3, "scale_factors": (1, 1, 2)},
        "reduction=1.5": {"reduction": 1.5},
        "reduction=0.1": {"reduction": 0.1},
    }
    for message, change in wrong.items():
        with pytest.raises(CytodistillError, match=message):
            MSDNetDesign(**{"blocks": 4, **change})
