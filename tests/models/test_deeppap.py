import pytest
import torch
from torchvision.models import AlexNet_Weights, alexnet

from cytodistill.errors import CytodistillError
from cytodistill.models.count import count_parameters
from cytodistill.models.deeppap import DeepPap, imagenet_weights
from cytodistill.models.multi_exit import build_network
from cytodistill.models.weights import load_pretrained
from cytodistill.recipe import Student

SINGLE = Student(backbone="deeppap", multi_exit=False, pretrained="none")
FRESH = tuple(f"backbone.{name}.{kind}" for name in ("hidden.0", "hidden.3", "fc") for kind in ("weight", "bias"))


@pytest.fixture(scope="module")
def features():
    """torchvision's convolutions with weights of their own; its 58 M parameters of linear layers are never drawn."""
    with torch.device("meta"):
        network = alexnet()
    features = network.features.to_empty(device="cpu").eval()
    for value in features.parameters():
        torch.nn.init.normal_(value, std=0.05)
    return features


@pytest.fixture(scope="module")
def state(features):
    """A state dict as in torchvision's file; of the linear layers, the two short ones."""
    own = {f"features.{name}": value for name, value in features.state_dict().items()}
    return {**own, "classifier.1.bias": torch.zeros(4096), "classifier.6.bias": torch.zeros(1000)}


def test_parameters_by_hand():
    convolutions = [(3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)]
    count = sum((c * k * k + 1) * d for c, d, k in convolutions)
    assert count == 2_469_696  # torchvision's alexnet without its linear layers
    count += (256 * 6 * 6 + 1) * 1024 + (1024 + 1) * 256 + (256 + 1) * 5
    assert count_parameters(DeepPap(5)) == count


@pytest.mark.parametrize("side", [63, 64, 96])
def test_convolutions_are_torchvisions(features, state, side):
    network = DeepPap(5).eval()
    convolutions = {name.replace("features.", "features_"): value for name, value in state.items()}
    network.load_state_dict(convolutions, strict=False)
    images = torch.randn(2, 3, side, side)
    expected = features(images)
    last, maps = network.forward_intermediates(images)
    torch.testing.assert_close(last, expected)
    torch.testing.assert_close(maps[0], features[:3](images))
    torch.testing.assert_close(maps[1], features[:6](images))
    x = torch.nn.functional.adaptive_avg_pool2d(expected, 6).flatten(1)
    x = network.hidden[3](network.hidden[0](x).relu()).relu()
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), x)
    torch.testing.assert_close(network(images), network.fc(x))


def test_maps_at_the_papers_size():
    with torch.device("meta"):
        network, images = DeepPap(2), torch.zeros(1, 3, 227, 227)
    assert [tuple(tap.shape[1:]) for tap in network.forward_intermediates(images)[1]] == [
        (64, 27, 27),
        (192, 13, 13),
        (256, 6, 6),
    ]


def test_images_must_be_63_px_or_more():
    with pytest.raises(CytodistillError, match="data.image_size=62: 'deeppap' .*use 63 px or more"):
        build_network(SINGLE, 5, 62)
    with pytest.raises(CytodistillError, match="data.image_size=32: 'deeppap'"):
        build_network(Student(backbone="deeppap", taps=3), 5, 32)
    with pytest.raises(RuntimeError, match="too small"):
        DeepPap(5)(torch.zeros(1, 3, 62, 62))


def check_loaded(network, transfer, state):
    assert transfer.fresh == FRESH
    own = network.backbone.state_dict()
    for name in [name for name in state if name.startswith("features.")]:
        torch.testing.assert_close(own[name.replace("features.", "features_")], state[name])


def test_torchvisions_file_gives_the_convolutions_and_leaves_the_rest_fresh(state, tmp_path):
    path = tmp_path / "alexnet.pth"
    torch.save(state, path)
    network = build_network(SINGLE, 5, 64, seed=0)
    fresh = network.backbone.hidden[0].weight.clone()
    check_loaded(network, load_pretrained(network, "deeppap", str(path)), state)
    assert torch.equal(network.backbone.hidden[0].weight, fresh)
    several = build_network(Student(backbone="deeppap", taps=3), 5, 64)
    assert all(name.startswith("heads.") for name in load_pretrained(several, "deeppap", str(path)).fresh)


def test_imagenet_weights_are_torchvisions(state, tmp_path, monkeypatch):
    """From torch's cache, where the file lies already: nothing is fetched."""
    file = tmp_path / "hub" / "checkpoints" / AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert sorted(imagenet_weights()) == sorted(name for name in state if name.startswith("features."))
    network = build_network(SINGLE, 5, 64, seed=0)
    check_loaded(network, load_pretrained(network, "deeppap", "imagenet"), state)
