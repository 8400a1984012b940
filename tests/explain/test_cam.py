import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.functional import linear

from cytodistill.errors import CytodistillError
from cytodistill.explain.cam import class_maps

from .conftest import images_of, msdnet, multi_exit, region_network, single_exit

NETWORKS = {"multi-exit": multi_exit, "msdnet": msdnet, "single": single_exit}


def literal(raw, size):
    """A raw (h, w) map as it is published: negative values cut off, at the image's size, its maximum one."""
    big = F.interpolate(raw.relu()[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    return (big / big.max() if big.max() > 0 else big).detach().numpy()


@pytest.mark.parametrize("at", ["branch", "tap"])
@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam"])
def test_equals_autograd_through_the_whole_network(method, at):
    network, images = multi_exit(), images_of(2)
    found = class_maps(network, images, np.array([2, 0]), method=method, at=at)
    kept = {}
    for exit, head in enumerate(network.heads):
        if at == "branch":
            head.branch.register_forward_hook(lambda _, __, out, exit=exit: kept.update({exit: out}))
        else:
            head.register_forward_pre_hook(lambda _, inputs, exit=exit: kept.update({exit: inputs[0]}))
    for cell, code in enumerate((2, 0)):
        logits = network(images[cell : cell + 1]).logits
        for exit in range(network.exits):
            (gradient,) = torch.autograd.grad(logits[exit][0, code], kept[exit], retain_graph=True)
            a, g = kept[exit][0].detach().double(), gradient[0].double()
            if method == "hirescam":
                raw = (a * g).sum(0)
            elif method == "gradcam":
                raw = sum(g[k].mean() * a[k] for k in range(len(a)))
            else:
                raw = torch.zeros(a.shape[1:], dtype=torch.double)
                for k in range(len(a)):
                    below = 2 * g[k] ** 2 + a[k].sum() * g[k] ** 3
                    share = torch.where(below != 0, g[k] ** 2 / below, 0)
                    raw += (share * g[k].relu()).sum() * a[k]
            np.testing.assert_allclose(found.maps[cell, exit], literal(raw, (64, 64)), atol=2e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_at_the_branch_it_is_the_map_of_zhou_et_al(kind):
    network, images = NETWORKS[kind](), images_of(2)
    found = class_maps(network, images)
    heads = {"multi-exit": "heads", "msdnet": "classifiers"}.get(kind)
    with torch.no_grad():
        if heads is None:
            last = [network.backbone.forward_features(images)]
            weights = [network.backbone.get_classifier().weight]
        else:
            taps = network(images).maps
            parts = list(zip(getattr(network, heads), taps, strict=True))
            if kind == "msdnet":
                last, weights = [h.reduce(t) for h, t in parts], [h.linear.weight for h, _ in parts]
            else:
                last = [h.branch(h.context(h.attention(t))) for h, t in parts]
                weights = [h.classifier.weight for h, _ in parts]
    for exit in range(network.exits):
        for cell in range(2):
            raw = linear(last[exit][cell].permute(1, 2, 0), weights[exit])[..., found.classes[cell, exit]]
            np.testing.assert_allclose(found.maps[cell, exit], literal(raw, images.shape[2:]), atol=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("at", ["branch", "tap"])
def test_shapes_ranges_and_answers(kind, at):
    network, images = NETWORKS[kind](), images_of(3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    found = class_maps(network, images, at=at)
    assert network.training
    network.eval()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert found.maps.shape == (3, network.exits, 64, 64)
    assert found.maps.dtype == np.float32
    assert found.maps.min() >= 0
    tops = found.maps.max((2, 3))
    assert (np.isclose(tops, 1, atol=1e-6) | (tops == 0)).all()
    assert (tops > 0).any()
    with torch.no_grad():
        expected = network(images).probabilities().numpy()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(found.classes, expected.argmax(2))
    assert len(found.grids) == network.exits
    again = class_maps(network, images, at=at)
    np.testing.assert_array_equal(found.maps, again.maps)


def test_a_cell_has_the_same_map_in_any_batch():
    network, images = multi_exit(), images_of(3)
    together = class_maps(network, images, at="tap").maps
    alone = np.concatenate([class_maps(network, image[None], at="tap").maps for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_the_mass_lies_where_the_logit_looks(method):
    network, images, region = region_network()
    found = class_maps(network, images, np.zeros(len(images), int), method=method)
    inside = (found.maps * region).sum((2, 3)) / found.maps.sum((2, 3))
    assert inside.min() > 0.8  # the rest is the rim, which resizing blurs over
    assert region.mean() < 0.2


def test_classes_that_no_place_speaks_for_have_an_empty_map():
    network, images, _ = region_network()
    assert not class_maps(network, images, np.ones(len(images), int)).maps.any()


def test_channels_last_and_tokens():
    network = single_exit("test_convnext")
    assert class_maps(network, images_of(1)).maps.shape == (1, 1, 64, 64)
    with pytest.raises(CytodistillError, match="ends in tokens"):
        class_maps(single_exit("test_vit"), images_of(1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "cam"}, "method=cam: not known; choose gradcam"),
        ({"at": "stem"}, "at=stem: not known"),
        ({"classes": np.zeros(3)}, "classes of shape"),
        ({"classes": np.array([0, 3])}, "classes 0 to 2"),
    ],
)
def test_bad_arguments(options, said):
    with pytest.raises(CytodistillError, match=said):
        class_maps(multi_exit(), images_of(2), **options)


def test_other_networks_are_refused():
    with pytest.raises(CytodistillError, match="a Conv2d has no exits"):
        class_maps(torch.nn.Conv2d(3, 3, 1), images_of(1))
