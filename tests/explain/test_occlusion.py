from itertools import pairwise

import numpy as np
import pytest
import torch

from cytodistill.errors import CytodistillError
from cytodistill.explain.cam import ClassMaps, class_maps
from cytodistill.explain.occlusion import deletion, randomisation, redrawn_networks
from cytodistill.recipe import Recipe

from .conftest import images_of, multi_exit, region_network

SHARES = (0, 0.15, 0.3, 0.6, 1)


def found_of(network, images):
    return class_maps(network, images, np.zeros(len(images), int))


def test_a_map_of_the_region_that_counts_is_told_from_one_that_means_nothing():
    network, images, _ = region_network()
    good = found_of(network, images)
    curves = deletion(network, images, good)
    assert curves.figure.min() > 0.25
    assert (curves.over_random > 0.1).all()
    upside_down = ClassMaps(1 - good.maps, good.classes, good.probabilities, good.grids)
    assert deletion(network, images, upside_down).figure.max() < -0.25
    # A map of no value at all: most and least salient are the same random pixels.
    nothing = ClassMaps(np.zeros_like(good.maps), good.classes, good.probabilities, good.grids)
    np.testing.assert_allclose(deletion(network, images, nothing).figure, 0, atol=1e-9)


def test_curves_are_those_of_blanking_the_pixels_one_by_one():
    network, images = multi_exit(), images_of(2)
    found = class_maps(network, images, at="tap")
    # Without ties, so that there is one order only.
    maps = found.maps + np.random.default_rng(0).random(found.maps.shape).astype(np.float32) * 1e-3
    curves = deletion(network, images, ClassMaps(maps, found.classes, found.probabilities, found.grids), shares=SHARES)
    for cell in range(2):
        for exit in range(3):
            code = found.classes[cell, exit]
            for name, sign in (("most", -1), ("least", 1)):
                order = np.argsort(sign * maps[cell, exit].ravel())
                for position, share in enumerate(SHARES):
                    image = images[cell].clone()
                    image.reshape(3, -1)[:, torch.from_numpy(order[: round(share * 64 * 64)].copy())] = 0
                    with torch.no_grad():
                        expected = network(image[None]).probabilities()[0, exit, code]
                    np.testing.assert_allclose(getattr(curves, name)[cell, exit, position], expected, atol=1e-5)
    area = sum(
        (b - a) * (curves.most[..., i] + curves.most[..., i + 1]) / 2 for i, (a, b) in enumerate(pairwise(SHARES))
    )
    np.testing.assert_allclose(curves.area("most"), area, atol=1e-12)


def test_the_same_seed_gives_the_same_curves():
    network, images, _ = region_network()
    found = found_of(network, images)
    one, same, other = (deletion(network, images, found, shares=SHARES, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.random, same.random)
    assert (one.random != other.random).any()


@pytest.mark.parametrize("shares", [(0, 1, 0.5), (0.1, 1), (0, 0.9), (0,)])
def test_bad_shares(shares):
    network, images, _ = region_network()
    with pytest.raises(CytodistillError, match="rising shares from 0 to 1"):
        deletion(network, images, found_of(network, images), shares=shares)


def test_no_draws():
    network, images, _ = region_network()
    with pytest.raises(CytodistillError, match="draws=0"):
        deletion(network, images, found_of(network, images), draws=0)


def test_maps_follow_the_weights():
    network, images = multi_exit(), images_of(6)
    found = class_maps(network, images, at="tap")
    same = randomisation([network], images, found, method="gradcam", at="tap")
    np.testing.assert_allclose(same[np.isfinite(same)], 1, atol=1e-9)
    others = [multi_exit(seed) for seed in range(1, 5)]
    drawn = randomisation(others, images, found, method="gradcam", at="tap")
    assert drawn.shape == (6, 3)
    assert abs(np.nanmean(drawn)) < 0.35


def test_maps_that_show_the_image_whatever_the_weights_are_found_out():
    network, images, _ = region_network()
    found = found_of(network, images)
    other, _, _ = region_network()
    with torch.no_grad():
        other.backbone.classifier.weight[0, 0] = 3.0  # other weights, but the map is still the light in the region
    np.testing.assert_allclose(randomisation([other], images, found, method="gradcam", at="branch"), 1, atol=1e-6)


def test_empty_maps_have_no_correlation():
    network, images, _ = region_network()
    nothing = class_maps(network, images, np.ones(len(images), int))
    assert np.isnan(randomisation([network], images, nothing, method="gradcam", at="branch")).all()


def test_redrawn_networks_have_the_design_and_other_weights():
    recipe = Recipe.load("quick").override({"student.backbone": "test_resnet", "data.image_size": 64})
    one, two = redrawn_networks(recipe, 3, 2)
    again, _ = redrawn_networks(recipe, 3, 2)
    first, second, same = (network.heads[0].classifier.weight for network in (one, two, again))
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    assert torch.equal(first, same)
    assert not one.training
