import numpy as np

from cytodistill.explain.pictures import STRENGTH, overlay


def test_the_cell_stays_where_the_map_says_nothing():
    cell = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[2, 3] = 1
    picture = overlay(cell, heat)
    grey = cell.astype(float) @ (0.299, 0.587, 0.114) / 255
    assert picture.shape == (8, 8, 3)
    np.testing.assert_allclose(picture[heat == 0], np.repeat(grey[heat == 0][:, None], 3, axis=1), atol=1e-12)
    # Where it is 1 a part of the cell's own shade is left.
    assert STRENGTH < 1
    assert np.ptp(picture[2, 3]) > 0.2


def test_shades_rise_in_lightness():
    dark = np.zeros((1, 50, 3), np.uint8)
    light = overlay(dark, np.linspace(0, 1, 50)[None]) @ (0.299, 0.587, 0.114)
    assert (np.diff(light[0]) > 0).all()
