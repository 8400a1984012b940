from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cytodistill.errors import CytodistillError
from cytodistill.estimators.estimator import Estimator, deep_features, restore_estimator
from cytodistill.estimators.heads import fit_head
from cytodistill.estimators.numbers import Sample, fit_standard, fit_temperature
from cytodistill.models.backbone import create_backbone
from cytodistill.recipe import Recipe


def recipe(**settings) -> Recipe:
    chosen = {"data.image_size": 48, "student.backbone": "test_resnet", "student.multi_exit": False}
    return Recipe().override(chosen | settings)


def completed(recipe: Recipe, raw: np.ndarray, labels: np.ndarray) -> Estimator:
    standard = fit_standard(raw, recipe.estimator.components)
    sample = Sample(standard(torch.from_numpy(raw)).numpy(), labels)
    head, _ = fit_head(recipe.estimator, sample, sample, 3, 0)
    temperature = fit_temperature(head(torch.from_numpy(sample.features)).numpy(), labels)
    return Estimator(recipe, 3).complete(standard, head, temperature)


@pytest.mark.parametrize("features", ["conv", "fc"])
def test_features_are_what_the_frozen_network_gives(features):
    chosen = recipe(**{"estimator.head": "svm", "estimator.features": features})
    estimator = Estimator(chosen, 3)
    images = torch.randn(2, 3, 48, 48)
    backbone = estimator.backbone
    stages = nn.Sequential(backbone.conv1, backbone.bn1, backbone.act1, backbone.maxpool)
    with torch.no_grad():
        last = backbone.layer4(backbone.layer3(backbone.layer2(backbone.layer1(stages(images)))))
        torch.testing.assert_close(estimator.measure(images), last.mean((2, 3)))
    assert not any(parameter.requires_grad for parameter in estimator.parameters())
    assert not estimator.training


def test_vggs_fully_connected_features_are_its_second_layers():
    with torch.device("meta"):  # shapes alone: it has 130 million weights
        vgg = create_backbone("vgg19", stem="auto", image_size=64, num_classes=0).eval()
        images = torch.empty(1, 3, 64, 64)
        assert deep_features(vgg, "conv", images).shape == (1, 512)
        assert deep_features(vgg, "fc", images).shape == (1, 4096)


def test_maps_with_channels_last_and_tokens_are_told_apart():
    class ChannelsLast(nn.Module):
        output_fmt = "NHWC"

        def forward_features(self, images):
            return images.permute(0, 2, 3, 1)

    images = torch.randn(2, 5, 7, 7)
    torch.testing.assert_close(deep_features(ChannelsLast(), "conv", images), images.mean((2, 3)))
    transformer = create_backbone("test_vit", stem="auto", image_size=64, num_classes=0).eval()
    with pytest.raises(CytodistillError, match="estimator.features=conv: student.backbone has no convolutional map"):
        deep_features(transformer, "conv", torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(
    "settings",
    [
        {"head": "svm"},
        {"head": "svm", "kernel": "linear", "components": 6},
        {"head": "mlp", "epochs": 5},
        {"head": "gcn", "clusters": 4, "neighbours": 2, "epochs": 5},
    ],
)
def test_one_exit_restored_from_its_state_alone(settings):
    chosen = recipe(**{f"estimator.{key}": value for key, value in settings.items()})
    images = torch.randn(24, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    raw = Estimator(chosen, 3).measure(images).numpy()
    estimator = completed(chosen, raw, np.arange(24) % 3)
    outputs = estimator(images)
    assert (len(outputs.logits), estimator.exits, outputs.logits[0].shape) == (1, 1, (24, 3))
    decisions = estimator.head(estimator.standard(torch.from_numpy(raw)))
    torch.testing.assert_close(outputs.logits[0] * estimator.temperature.value, decisions)
    restored = restore_estimator(chosen, 3, estimator.state_dict())
    assert torch.equal(restored(images).logits[0], outputs.logits[0])


def test_a_shape_estimator_takes_shapes_and_no_images():
    chosen = recipe(**{"estimator.head": "svm", "estimator.features": "shape"})
    raw = np.random.default_rng(0).normal(size=(24, 27)).astype(np.float32)
    estimator = completed(chosen, raw, np.arange(24) % 3)
    assert estimator(torch.from_numpy(raw)).logits[0].shape == (24, 3)
    assert not [name for name in estimator.state_dict() if name.startswith("backbone")]
    with pytest.raises(CytodistillError, match="classifies shapes, not images, so it can be no teacher"):
        estimator(torch.zeros(1, 3, 48, 48))


def test_an_estimator_has_no_stage_maps():
    estimator = Estimator(recipe(**{"estimator.head": "svm"}), 3)
    with pytest.raises(CytodistillError, match="an estimator as teacher shows none; set method.name=kd"):
        estimator.keep_maps = True


def test_an_image_that_the_network_cannot_take_is_refused():
    with pytest.raises(CytodistillError, match="data.image_size=16: 'inception_v3' does not take such images"):
        Estimator(recipe(**{"data.image_size": 16, "student.backbone": "inception_v3"}), 3)
