from __future__ import annotations

from pathlib import Path

import pytest

from cytodistill.errors import CytodistillError
from cytodistill.recipe import Recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_read_and_bears_its_name(name: str) -> None:
    assert Recipe.load(name).name == name


def test_values_are_read_as_people_mean_them(tmp_path: Path) -> None:
    """YAML 1.1 reads 3:1:1 as 10861 (sexagesimal), and 1e-4 and 010 not as the numbers they look like."""
    given = ["data.ratio=3:1:1", "train.weight_decay=1e-4", "train.epochs=010", "train.nesterov=false", "data.fold=2"]
    recipe = Recipe().override(given)
    assert recipe.data.ratio == "3:1:1"
    assert recipe.train.weight_decay == 1e-4
    assert (recipe.train.epochs, recipe.train.nesterov, recipe.data.fold) == (10, False, 2)
    file = tmp_path / "mine.yaml"
    file.write_text("data: {ratio: 70:15:15, mean: [.5, 0.5, 5.0e-1]}\ntrain: {lr: 1e-2, milestones: [1, 2]}")
    recipe = Recipe.load(file)
    assert (recipe.data.ratio, recipe.data.mean) == ("70:15:15", (0.5, 0.5, 0.5))
    assert (recipe.train.lr, recipe.train.milestones) == (0.01, (1, 2))


def test_overrides_apply_in_their_order_and_leave_the_recipe_as_it_was() -> None:
    recipe = Recipe()
    changed = recipe.override(["train.epochs=3", "train.epochs=4"]).override({"seed": 9})
    assert (changed.train.epochs, changed.seed) == (4, 9)
    assert recipe == Recipe()


def test_another_method_starts_from_its_own_settings() -> None:
    recipe = Recipe().override(["method.feature_weight=0.1"])
    assert recipe.override(["method.name=kd", "method.temperature=2"]).method.settings == {"temperature": 2}
    assert recipe.override(["method.name=self_distillation"]).method.settings == {"feature_weight": 0.1}


def test_a_recipe_that_is_no_mapping_is_named() -> None:
    with pytest.raises(CytodistillError, match="run.json: recipe=5: expected a section of settings"):
        Recipe.check(5, "run.json")  # type: ignore[arg-type]
