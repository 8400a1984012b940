import pytest
import timm
import torch

from cytodistill.errors import CytodistillError
from cytodistill.models.backbone import OWN, check_backbone, create_backbone, is_backbone, is_small_stem
from cytodistill.models.multi_exit import SingleExit
from cytodistill.models.staged import Staged


def test_own_names_are_known_and_timm_has_none_of_them():
    for name in OWN:
        assert is_backbone(name)
        check_backbone(name, "student.backbone")
        assert not timm.is_model(name)
    assert is_backbone("resnet18.a1_in1k")
    assert not is_backbone("resnet81")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet81", "did you mean resnet18"),
        ("resnet32x4", "did you mean cifar_resnet32x4"),
        ("cifar_resnet21", "did you mean cifar_resnet"),
        ("wrn_40_4", "did you mean wrn_40_2"),
        ("compactvgg", "did you mean compact_vgg"),
        ("deep_pap", "did you mean deeppap"),
        ("?!", "see `timm.list_models.*or use cifar_resnet8, .*deeppap"),
    ],
)
def test_unknown_names_are_told_what_is_near(name, hint):
    with pytest.raises(CytodistillError, match=f"^teacher.source=.*: timm has no such model; {hint}"):
        check_backbone(name, "teacher.source")


@pytest.mark.parametrize("stem", ["auto", "cifar", "imagenet"])
def test_cifar_networks_have_one_stem_whatever_is_asked(stem):
    network = create_backbone("cifar_resnet8", stem=stem, image_size=64, num_classes=4)
    assert isinstance(network, Staged)
    assert network.conv1.stride == (1, 1)
    assert network.fc.out_features == 4


def test_what_does_not_fit_one_of_ours_is_named():
    with pytest.raises(CytodistillError, match="student.stem=cifar: 'compact_vgg' has no ResNet stem"):
        create_backbone("compact_vgg", stem="cifar", image_size=64)
    with pytest.raises(CytodistillError, match="data.image_size=31: 'compact_vgg' .*use 32 px or more"):
        create_backbone("compact_vgg", stem="auto", image_size=31, features_only=True)
    with pytest.raises(CytodistillError, match="data.image_size=3: 'wrn_16_2' .*use 4 px or more"):
        create_backbone("wrn_16_2", stem="auto", image_size=3)


@pytest.mark.parametrize("name", ["cifar_resnet8", "compact_vgg"])
def test_options_are_those_of_timms_create_model(name):
    classifier = create_backbone(name, stem="auto", image_size=32, num_classes=3, drop_rate=0.25)
    assert classifier.get_classifier() is classifier.fc
    assert [step.p for step in classifier.hidden] == [0.25]
    pyramid = create_backbone(name, stem="auto", image_size=32, features_only=True, out_indices=(1,))
    assert len(pyramid(torch.zeros(1, 3, 32, 32))) == len(pyramid.feature_info.channels()) == 1
    assert not any(key.startswith("fc") for key in pyramid.state_dict())


@pytest.mark.parametrize(("size", "small"), [(32, True), (64, False)])
def test_stem_of_timms_resnets_follows_the_image(size, small):
    assert is_small_stem(create_backbone("test_resnet", stem="auto", image_size=size)) == small


def test_inception_v3_takes_images_from_75_px():
    network = SingleExit("inception_v3", 5, 75).eval()
    network.keep_maps = True
    with torch.no_grad():
        outputs = network(torch.zeros(1, 3, 75, 75))
    assert outputs.logits[0].shape == (1, 5)
    assert [tap.shape[1] for tap in outputs.maps] == [192, 288, 768, 2048]
