import pytest
import timm
import torch
from safetensors.torch import save_file

from cytodistill.errors import CytodistillError
from cytodistill.models.multi_exit import build_network
from cytodistill.models.weights import load_pretrained
from cytodistill.recipe import Student

TINY = Student(backbone="test_resnet", pretrained="none", taps=3)


@pytest.fixture
def weight_file(tmp_path):
    """A timm classifier's weights as fp16, as they are shared."""
    state = timm.create_model("test_resnet", num_classes=10).state_dict()
    path = tmp_path / "test_resnet.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    return path, state


def test_backbone_is_loaded_by_name_and_the_rest_stays_fresh(weight_file):
    path, state = weight_file
    network = build_network(TINY, 4, 64, seed=0)
    before = network.heads[0].classifier.weight.clone()
    transfer = load_pretrained(network, "test_resnet", str(path))
    own = network.backbone.state_dict()
    convolutions = [name for name in own if own[name].ndim == 4]
    for name in convolutions:
        torch.testing.assert_close(own[name], state[name].half().float())
    assert torch.equal(network.heads[0].classifier.weight, before)
    assert transfer.loaded >= len(convolutions)
    assert all(name.startswith("heads.") for name in transfer.fresh)


def test_flattened_names_of_a_pyramid_are_matched(tmp_path):
    state = timm.create_model("densenet121", num_classes=10).state_dict()
    path = tmp_path / "densenet121.safetensors"
    save_file(state, path)
    network = build_network(Student(backbone="densenet121"), 4, 64)
    transfer = load_pretrained(network, "densenet121", str(path))
    assert not [name for name in transfer.fresh if name.startswith("backbone.")]


def test_classifier_of_the_same_shape_is_taken(weight_file):
    path, _ = weight_file
    network = build_network(Student(backbone="test_resnet", multi_exit=False), 10, 64)
    assert load_pretrained(network, "test_resnet", str(path)).complete


def test_what_cannot_be_loaded_is_named(tmp_path, weight_file, monkeypatch):
    network = build_network(TINY, 4, 64)

    def refuses(source, match):
        with pytest.raises(CytodistillError, match=match) as caught:
            load_pretrained(network, "test_resnet", source)
        assert "\n" not in str(caught.value)

    refuses(str(tmp_path / "absent.safetensors"), "no such weight file")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weight_file[0].read_bytes()[:1000])
    refuses(str(damaged), "not a readable weight file")
    other = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), other)
    refuses(str(other), "weight file of another network")
    code = tmp_path / "code.pt"
    torch.save({"x": CytodistillError("runs code when unpickled")}, code)
    refuses(str(code), "more than tensors")

    def offline(*_, **__):
        raise OSError("cannot reach the hub\nsecond line")

    monkeypatch.setattr("cytodistill.models.weights.timm.create_model", offline)
    refuses("imagenet", "cannot get the weights .* give a local file")


def test_own_networks_have_other_sources(monkeypatch):
    design = Student(backbone="cifar_resnet8", multi_exit=False)
    network = build_network(design, 4, 32)
    with pytest.raises(
        CytodistillError, match="no such weights of 'cifar_resnet8'; give a local file .*--pretrained none"
    ):
        load_pretrained(network, "cifar_resnet8", "imagenet")

    def offline(*_, **__):
        raise OSError("cannot reach the hub\nsecond line")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        CytodistillError, match="weights of 'deeppap' from torchvision's hub .*--pretrained none"
    ) as caught:
        load_pretrained(network, "deeppap", "imagenet", "teacher.pretrained")
    assert str(caught.value).startswith("teacher.pretrained=imagenet: cannot get")


def test_shared_weights_fit_their_networks(shared_data):
    weights = shared_data.parent / "weights"
    if not weights.is_dir():
        pytest.skip(f"{weights} is absent")
    student = build_network(Student(), 7, 96)
    fresh = load_pretrained(student, "resnet18", str(weights / "resnet18.safetensors")).fresh
    assert not [name for name in fresh if name.startswith("backbone.")]
    teacher = build_network(Student(backbone="densenet121", multi_exit=False), 7, 96)
    fresh = load_pretrained(teacher, "densenet121", str(weights / "densenet121.safetensors")).fresh
    assert fresh == ("backbone.classifier.weight", "backbone.classifier.bias")
