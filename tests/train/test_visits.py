import pytest
import torch

from cytodistill.data.augment import draw_views
from cytodistill.errors import CytodistillError
from cytodistill.models.multi_exit import build_network
from cytodistill.recipe import Recipe
from cytodistill.train.fit import fit
from cytodistill.train.sampling import epoch_order
from cytodistill.train.visits import check_sides, side_of, visits_of

ROWS, LABELS = torch.arange(40) * 3, torch.arange(40) % 4


def test_new_views_are_drawn_by_their_place_in_the_epoch():
    recipe = Recipe(seed=3)
    visits = visits_of(recipe, 5, ROWS, LABELS)
    assert torch.equal(visits.cells, epoch_order(LABELS, 3, 5, "none"))
    assert torch.equal(visits.draws, draw_views(40, 3, 5))
    assert visits.views is None


def test_fixed_views_return_and_new_ones_do_not():
    recipe = Recipe().override({"teacher.views": 2})

    def shown(epoch, fixed):
        visits = visits_of(recipe, epoch, ROWS, LABELS, fixed=fixed)
        return {(cell, *draws) for cell, draws in zip(visits.cells.tolist(), visits.draws.tolist(), strict=True)}

    fixed = [shown(epoch, True) for epoch in range(6)]
    assert fixed[0].isdisjoint(fixed[1])
    assert fixed[0] | fixed[1] == fixed[2] | fixed[3] == fixed[4] | fixed[5]
    assert shown(0, False).isdisjoint(shown(2, False))


def test_a_part_of_the_visits_is_the_same_part_of_everything():
    visits = visits_of(Recipe().override({"teacher.views": 4}), 0, ROWS, LABELS, fixed=True)
    part = visits[3:20:2]
    assert len(part) == 9
    assert torch.equal(part.cells, visits.cells[3:20:2])
    assert torch.equal(part.draws, visits.draws[3:20:2])
    assert torch.equal(part.views, visits.views[3:20:2])


def test_sides_rise_to_the_full_one():
    recipe = Recipe().override({"data.image_size": 96, "train.sizes": [[0.5, 0.5], [0.2, 0.75]], "train.epochs": 10})
    assert [side_of(recipe, epoch) for epoch in range(10)] == [48] * 5 + [72] * 2 + [96] * 3
    # However few the epochs, the last one is at the full side.
    assert side_of(recipe.override({"train.epochs": 1}), 0) == 96
    assert side_of(Recipe(), 0) == Recipe().data.image_size


@pytest.mark.parametrize(
    "sizes", [[[0.5, 0.5], [0.5, 0.75]], [[0.3, 0.75], [0.3, 0.5]], [[0.5, 1.5]], [[0, 0.5]], [0.5, 0.5], [[0.5]]]
)
def test_sizes_that_make_no_sense_are_named(sizes):
    with pytest.raises(CytodistillError, match=r"train(\.|: )sizes"):
        Recipe().override({"train.sizes": sizes})


def test_a_recipe_without_the_newer_settings_is_the_one_it_was():
    settings = Recipe().model_dump(mode="json")
    assert "views" not in settings["teacher"]
    assert "sizes" not in settings["train"]
    chosen = Recipe().override({"teacher.views": 4, "train.sizes": [[0.5, 0.5]]})
    assert Recipe.check(chosen.model_dump(mode="json")) == chosen


def test_a_student_that_needs_its_one_size_is_refused(tiny):
    recipe = tiny.override({"student.backbone": "test_vit_relpos", "student.multi_exit": False})
    network = build_network(recipe.student, 3, 64)
    check_sides(network, recipe)
    with pytest.raises(CytodistillError, match=r"train.sizes=\(0.5, 0.5\): test_vit_relpos cannot take views of 32 px"):
        check_sides(network, recipe.override({"train.sizes": [[0.5, 0.5]]}))


def test_a_method_that_compares_maps_wants_one_size(cells, tiny, tiny_run, tmp_path):
    recipe = tiny.override({"method.name": "fitnet", "student.multi_exit": False, "train.sizes": [[0.5, 0.5]]})
    with pytest.raises(
        CytodistillError, match=r"train.sizes: method.name=fitnet compares stage maps.*train.sizes=\[\]"
    ):
        fit(cells, tmp_path / "r", recipe=recipe, teacher=str(tiny_run.path))
