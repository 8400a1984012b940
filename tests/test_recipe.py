from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cytodistill.errors import CytodistillError
from cytodistill.recipe import Recipe, recipe_names


@pytest.mark.parametrize("name", ["demo", "paper", "quick"])
def test_named_recipes_load_and_survive_a_round_trip(name: str) -> None:
    assert name in recipe_names()
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert Recipe.check(recipe.model_dump(mode="json")) == recipe


def test_paper_recipe_is_the_papers() -> None:
    recipe = Recipe.load("paper")
    train = recipe.train
    assert (train.epochs, train.batch_size, train.optimizer, train.lr) == (180, 128, "sgd", 0.1)
    assert (train.momentum, train.weight_decay, train.milestones, train.gamma) == (0.9, 1e-4, (100, 150), 0.1)
    assert recipe.method.name == "self_distillation"
    assert recipe.method.settings == {"temperature": 3.0, "feature_weight": 0.03}
    assert (recipe.student.backbone, recipe.teacher.source, recipe.data.ratio) == ("resnet18", "resnest50d", "3:1:1")


def test_a_recipe_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "train": {"epochs": 7}}))
    recipe = Recipe.load(file)
    assert (recipe.name, recipe.train.epochs) == ("mine", 7)
    assert recipe.student == Recipe().student


def test_override_reads_yaml_values() -> None:
    recipe = Recipe().override(["train.lr=1e-3", "train.nesterov=true", "train.milestones=[3, 5]", "seed=4"])
    assert (recipe.train.lr, recipe.train.nesterov, recipe.train.milestones, recipe.seed) == (1e-3, True, (3, 5), 4)


def test_another_method_starts_from_its_own_defaults() -> None:
    recipe = Recipe.load("paper").override(["method.name=kd"])
    assert recipe.method.settings == {}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("train.epoch=3", "train.epoch: unknown setting; did you mean 'epochs'"),
        ("trian.epochs=3", "no section 'trian'; did you mean 'train'"),
        ("train.epochs=many", "train.epochs='many'"),
        ("train.epochs=0", "train.epochs=0"),
        ("train.lr=.nan", "train.lr=nan"),
        ("train.epochs", "write it as section.key=value"),
        ("train.epochs=[1", "is not a YAML value"),
        ("augment.scale=[0.9, 0.5]", "scale must be two rising numbers"),
        ("data.std=[0, 1, 1]", "std must be positive"),
        ("student.stem=tiny", "student.stem='tiny'"),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(setting: str, says: str) -> None:
    with pytest.raises(CytodistillError) as error:
        Recipe().override([setting])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_order_of_settings_does_not_matter() -> None:
    either = [["method.temperature=5", "method.name=kd"], ["method.name=kd", "method.temperature=5"]]
    first, second = (Recipe.load("paper").override(settings) for settings in either)
    assert first == second
    assert first.method.settings == {"temperature": 5}


def test_milestones_that_are_never_reached_are_named() -> None:
    with pytest.raises(CytodistillError, match="rate would never fall"):
        Recipe.load("paper").override(["train.epochs=20"])
    assert Recipe.load("paper").override(["train.epochs=20", "train.milestones=[]"]).train.epochs == 20


def test_null_unsets() -> None:
    assert Recipe.load("quick").override(["data.fold=1"]).override(["data.fold=null"]).data.fold is None
