import math

import numpy as np
import pytest
from PIL import Image

from cytodistill.data.images import resize
from cytodistill.errors import CytodistillError
from cytodistill.estimators.contours import Contours, contour_mask
from cytodistill.explain.nucleus import cell_compartments, compartments, mass_shares, placed

WHOLE = (math.nan,) * 4


def ellipse(x, y, a, b):
    angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], axis=1)


def drawn(shape):
    """Contours in an image of (height, width), and the image: white, grey in the cytoplasm, black in the nucleus."""
    height, width = shape
    nucleus = ellipse(0.45 * width, 0.55 * height, 0.12 * width, 0.15 * height)
    cytoplasm = ellipse(0.5 * width, 0.5 * height, 0.4 * width, 0.42 * height)
    image = np.full((*shape, 3), 255, np.uint8)
    image[contour_mask(cytoplasm, shape)] = 128
    image[contour_mask(nucleus, shape)] = 0
    return Contours(nucleus, cytoplasm, "file"), image


@pytest.mark.parametrize("mode", ["pad", "stretch"])
@pytest.mark.parametrize("shape", [(90, 90), (70, 131), (140, 61)])
def test_parts_lie_where_the_resized_cell_has_them(shape, mode):
    contours, image = drawn(shape)
    parts = compartments(contours, shape, 64, mode)
    grey = resize(image, 64, mode)[..., 0]
    seen = np.stack([grey < 64, (grey >= 64) & (grey < 192), grey >= 192])
    assert (parts.masks.sum(0) == 1).all()
    for mask, expected in zip(parts.masks, seen, strict=True):
        assert (mask & expected).sum() / (mask | expected).sum() > 0.9
        rows, columns = np.nonzero(mask)
        where, there = np.nonzero(expected)
        # Not so much as half a pixel beside it.
        assert abs(rows.mean() - where.mean()) < 0.4
        assert abs(columns.mean() - there.mean()) < 0.4


def test_a_cell_that_fills_its_image_is_not_padded_with_itself():
    square = np.array([[-0.5, -0.5], [59.5, -0.5], [59.5, 29.5], [-0.5, 29.5]])
    parts = compartments(Contours(ellipse(30, 15, 5, 5), square, "file"), (30, 60), 60, "pad")
    assert parts.masks[2].sum() == 60 * 30
    assert parts.masks[2][:15].all()
    assert parts.masks[2][45:].all()


def test_corners_go_to_corners():
    corners = np.array([[-0.5, -0.5], [39.5, 19.5]])
    np.testing.assert_allclose(placed(corners, (20, 40), 80, "stretch"), [[-0.5, -0.5], [79.5, 79.5]])
    np.testing.assert_allclose(placed(corners, (20, 40), 80, "pad"), [[-0.5, 19.5], [79.5, 59.5]])


def test_shares_of_mass():
    masks = np.zeros((3, 4, 4), bool)
    masks[0, :2, :2] = True
    masks[1, :2, 2:] = True
    masks[2, 2:] = True
    heat = np.zeros((3, 4, 4), np.float32)
    heat[0, 0, 0], heat[0, 0, 3], heat[0, 3, 3] = 3, 2, 5
    heat[1] = 1
    found = mass_shares(heat, masks)
    np.testing.assert_allclose(found[:2], [[0.3, 0.2, 0.5], [0.25, 0.25, 0.5]])
    assert np.isnan(found[2]).all()


def test_from_a_file_beside_the_cell_or_segmented(tmp_path):
    contours, image = drawn((80, 80))
    Image.fromarray(image).save(tmp_path / "cell.png")
    segmented = cell_compartments(tmp_path, "cell.png", WHOLE, 64, "pad")
    assert segmented.origin == "segmented"
    truth = compartments(contours, (80, 80), 64, "pad").masks
    assert (segmented.masks[0] & truth[0]).sum() / (segmented.masks[0] | truth[0]).sum() > 0.6
    with pytest.raises(CytodistillError, match="set contours=auto to have such cells segmented"):
        cell_compartments(tmp_path, "cell.png", WHOLE, 64, "pad", "file")

    mask = np.full((80, 80, 3), (255, 0, 0), np.uint8)
    mask[contour_mask(contours.cytoplasm, (80, 80))] = (0, 0, 128)
    mask[contour_mask(contours.nucleus, (80, 80))] = (0, 0, 255)
    Image.fromarray(mask).save(tmp_path / "cell-d.bmp")
    read = cell_compartments(tmp_path, "cell.png", WHOLE, 64, "pad", "file")
    assert read.origin == "file"
    assert (read.masks[0] & truth[0]).sum() / (read.masks[0] | truth[0]).sum() > 0.9


def test_a_blank_image_has_no_parts(tmp_path):
    Image.new("RGB", (40, 40), "white").save(tmp_path / "blank.png")
    assert cell_compartments(tmp_path, "blank.png", WHOLE, 32, "pad") is None
