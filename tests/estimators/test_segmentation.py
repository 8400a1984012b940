from __future__ import annotations

import numpy as np
import pytest

from cytodistill.data.images import read_image
from cytodistill.data.sources import read_contours, read_source
from cytodistill.estimators import MeasureError
from cytodistill.estimators.contours import contour_mask
from cytodistill.estimators.segmentation import segment

from .conftest import ellipse


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    return (a & b).sum() / (a | b).sum()


def test_drawn_cells_are_found(drawn):
    """Among neighbours and debris; the drawn contours are the reference."""
    found = []
    for root, path in read_source(drawn).frame[["root", "path"]].iloc[::2].itertuples(index=False):
        image = read_image(root, path)
        cytoplasm, nucleus = (contour_mask(contour, image.shape[:2]) for contour in read_contours(root, path))
        core, cell = segment(image)
        assert (core & ~cell).sum() == 0
        found.append((overlap(core, nucleus), overlap(cell, cytoplasm)))
    nuclei, cells = np.array(found).T
    assert np.median(nuclei) > 0.9
    assert np.mean(nuclei) > 0.85
    assert np.median(cells) > 0.78


def test_a_plain_cell_is_found_nearly_exactly():
    image = np.full((90, 110, 3), (235, 230, 228), np.uint8)
    cell, core = (contour_mask(c, (90, 110)) for c in (ellipse(55, 45, 38, 30), ellipse(60, 42, 11, 9)))
    image[cell] = (215, 150, 190)
    image[core] = (90, 70, 130)
    found = segment(image)
    assert overlap(found[0], core) > 0.9
    assert overlap(found[1], cell) > 0.95


@pytest.mark.parametrize("shape", [(40, 50, 3), (2, 2, 3)])
def test_an_empty_slide_is_refused(shape):
    with pytest.raises(MeasureError, match="no cell can be told from the slide"):
        segment(np.full(shape, 200, np.uint8))


def test_noise_gives_masks_or_a_refusal_and_no_other_error():
    draw = np.random.default_rng(0)
    for side in (4, 9, 24, 61):
        image = draw.integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
        nucleus, cell = segment(image)
        assert nucleus.any()
        assert cell.shape == image.shape[:2]
