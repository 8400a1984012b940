"""Cells are cut at the pixel size of the training, or the difference is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cytodistill.errors import CytodistillError
from cytodistill.formats.pixel_size import Words, scale_between
from cytodistill.formats.places import CellsError, refuse_outside, windows
from cytodistill.recipe import Recipe


@pytest.mark.parametrize(
    ("trained", "field", "scale"), [(0.5, 0.25, 2.0), (0.25, 0.25, 1.0), (0.25, 0.5, 0.5), (None, None, 1.0)]
)
def test_a_window_has_the_length_that_it_had_in_training(trained, field, scale):
    assert scale_between(trained, field, "slide") == scale


@pytest.mark.parametrize(
    ("trained", "field", "said"),
    [
        (None, 0.25, "the run does not say"),
        (0.25, None, "give --microns-per-pixel"),
        (0.25, 0.51, "more than 2 times the 0.25 µm"),
    ],
)
def test_differences_are_refused_unless_they_are_allowed(trained, field, said):
    with pytest.raises(CytodistillError, match=said):
        scale_between(trained, field, "slide")
    assert scale_between(trained, field, "slide", ignore=True) == 1


def test_the_mend_is_said_in_the_words_of_who_is_asked():
    with pytest.raises(CytodistillError, match=r"give SAY, or IGNORE cuts as if both were the same$"):
        scale_between(0.25, None, "slide", words=Words("SAY", "IGNORE"))


def test_recipes_from_before_are_the_same_still():
    assert "microns_per_pixel" not in Recipe().model_dump(mode="json")["data"]
    assert (
        Recipe().override(["data.microns_per_pixel=0.25"]).model_dump(mode="json")["data"]["microns_per_pixel"] == 0.25
    )


def test_windows_lie_round_centres_or_are_what_the_outline_spans():
    extents = np.array([[10.0, 20, 0, 0], [10, 20, 4, 8]])
    assert windows(extents, 6, "window").tolist() == [[7, 17, 6, 6], [9, 21, 6, 6]]
    assert windows(extents, 6, "outline").tolist() == [[7, 17, 6, 6], [10, 20, 4, 8]]


def test_cells_outside_the_field_are_named_and_counted():
    extents = np.array([[0.0, 0, 0, 0], [10, 5, 0, 0], [9, 4, 4, 0], [0, -1, 0, 0]])
    refuse_outside(extents[:2], (10, 5), "feature")
    with pytest.raises(CellsError, match=r"feature 3 is at \(11, 4\), outside the field of 10×5 pixels, and 1 more"):
        refuse_outside(extents, (10, 5), "feature")
