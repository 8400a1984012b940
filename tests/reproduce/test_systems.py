import pytest

from cytodistill.distill import method_class, method_settings
from cytodistill.errors import CytodistillError
from cytodistill.recipe import Recipe
from cytodistill.reproduce.systems import Start, ordered, other_systems, systems


@pytest.fixture(scope="module")
def recipe():
    return Recipe.load("quick")


@pytest.fixture(scope="module")
def known(recipe):
    return systems(recipe, "resnet18", "resnet10t", Start("none"))


def test_every_system_is_settings_that_the_recipe_takes(recipe, known):
    for system in [*known.values(), *other_systems(recipe, "resnet10t", Start("none")).values()]:
        chosen = recipe.override(system.settings)
        kind = method_class(chosen.method.name)
        method_settings(chosen.method.name, chosen.method.settings)
        assert ("teacher" in kind.needs) <= bool(system.teacher)
        assert kind.trains_every_exit == chosen.student.multi_exit
        # Data, augmentation and optimisation are everybody's.
        for section in ("augment", "data"):
            if system.key != "inception_v3":
                assert getattr(chosen, section) == getattr(recipe, section)
        changed = {
            name for name in recipe.train.model_fields_set if getattr(chosen.train, name) != getattr(recipe.train, name)
        }
        assert changed <= {"cycles"}


def test_the_methods_of_the_paper_and_those_beyond_are_all_there(known, recipe):
    names = {recipe.override(system.settings).method.name for system in known.values()}
    wanted = "kd fitnet attention_transfer snapshot similarity vid rkd pkt ab crd sskd dkd dist logit_standardisation"
    assert set(wanted.split()) | {"scan", "deep_supervision", "self_distillation", "supervised"} == names


def test_stages_before_are_in_proportion_to_the_epochs(recipe):
    def epochs(of, key):
        return systems(recipe.shortened(of), "resnet18", "resnet10t", Start("none"))[key].settings[
            "method.pretrain_epochs"
        ]

    assert [epochs(of, "ab") for of in (240, 24, 2)] == [30, 3, 1]
    assert [epochs(of, "sskd") for of in (240, 24, 2)] == [60, 6, 1]


def test_cycles_divide_the_epochs(recipe):
    for epochs, cycles in ((24, 4), (6, 3), (10, 5), (7, 7), (25, 5), (2, 2)):
        shorter = recipe.shortened(epochs)
        assert systems(shorter, "resnet18", "resnet10t", Start("none"))["snapshot"].settings["train.cycles"] == cycles


def test_a_student_has_as_many_exits_as_stages_up_to_four(recipe):
    small = recipe.override({"data.image_size": 32})
    assert systems(recipe, "resnet18", "resnet10t", Start("none"))["sd"].settings["student.taps"] == 4
    assert systems(small, "cifar_resnet8", "cifar_resnet8", Start("none"))["sd"].settings["student.taps"] == 3


def test_weights_come_from_a_folder_by_the_networks_name(tmp_path):
    (tmp_path / "resnet18.safetensors").touch()
    start = Start(str(tmp_path))
    assert start.of("resnet18.a1_in1k") == str(tmp_path / "resnet18.safetensors")
    assert start.of("vgg19") == "none"
    assert Start("imagenet").of("vgg19") == "imagenet"
    with pytest.raises(CytodistillError, match="--weights nowhere: no such folder"):
        Start("nowhere")


def test_needed_systems_stand_before_those_that_need_them(recipe, known):
    order = [system.key for system in ordered(["kd-sd", "sd", "kd"], known)]
    assert order == ["teacher", "kd-sd", "sd", "kd"]
    others = {**known, **other_systems(recipe, "densenet121", Start("none"))}
    assert [system.key for system in ordered(["gcn"], others)] == ["resnet101", "gcn"]
    assert "densenet121" not in others


def test_a_network_that_is_the_teacher_is_the_teachers_run(recipe):
    names = recipe, "resnet101", Start("none")
    taught = {**systems(recipe, "resnet18", *names[1:]), **other_systems(*names)}
    assert [system.key for system in ordered(["gcn"], taught)] == ["teacher", "gcn"]
    assert taught["gcn"].homes == {"teacher": taught["teacher"].home}


def test_runs_of_other_teachers_have_other_homes(recipe):
    homes = [systems(recipe, "resnet18", teacher, Start("none"))["kd"].home for teacher in ("resnet10t", "resnet14t")]
    assert len(set(homes)) == 2


def test_networks_that_no_hub_has_start_from_random_weights(recipe):
    start = Start("imagenet")
    assert [start.of(name) for name in ("resnet50", "deeppap", "compact_vgg", "msdnet_4")] == [
        *("imagenet", "imagenet", "none", "none")
    ]


def test_a_hint_of_signed_maps_has_no_relu(recipe):
    small = recipe.override({"data.image_size": 64})
    signed = {
        name: systems(small, "resnet18", name, Start("none"))["fitnet"] for name in ("resnet10t", "test_convnext")
    }
    assert "method.relu" not in signed["resnet10t"].settings
    assert signed["test_convnext"].settings["method.relu"] is False


def test_students_have_keys_of_their_own_and_share_the_teacher(recipe):
    both = systems(recipe, "resnet18", "resnet10t", Start("none"), prefix="a-")
    assert both["a-kd"].teacher == "teacher"
    assert both["teacher"].settings["student.backbone"] == "resnet10t"
