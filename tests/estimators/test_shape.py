from __future__ import annotations

import numpy as np
import pytest

from cytodistill.estimators import MeasureError
from cytodistill.estimators.shape import SHAPE_FEATURES, shape_features

from .conftest import ellipse


def measured(image, nucleus, cytoplasm) -> dict[str, float]:
    return dict(zip(SHAPE_FEATURES, shape_features(image, nucleus, cytoplasm), strict=True))


def blank(height: int = 160, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), 230, np.uint8)


def test_there_are_27_with_names_of_their_own():
    assert len(set(SHAPE_FEATURES)) == 27


@pytest.mark.parametrize("turn", [0.0, 0.4, 1.2])
def test_an_ellipse_in_an_ellipse_has_the_closed_forms(turn):
    (a, b), (c, d) = (20.0, 12.0), (66.0, 55.0)
    found = measured(blank(), ellipse(95.3, 84.2, a, b, turn), ellipse(100.3, 80.2, c, d, turn))
    inner, outer = np.pi * a * b, np.pi * c * d
    assert found["nucleus_area"] == pytest.approx(inner, rel=0.01)
    assert found["cytoplasm_area"] == pytest.approx(outer - inner, rel=0.01)
    assert found["nucleus_ratio"] == pytest.approx(inner / outer, rel=0.015)

    def perimeter(a: float, b: float) -> float:  # Ramanujan's second approximation
        h = ((a - b) / (a + b)) ** 2
        return np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))

    for name, (long, short), area in (("nucleus", (a, b), inner), ("cell", (c, d), outer)):
        around = perimeter(long, short)
        assert found[f"{name}_perimeter"] == pytest.approx(around, rel=0.03)
        assert found[f"{name}_roundness"] == pytest.approx(4 * np.pi * area / around**2, rel=0.06)
        assert found[f"{name}_diameter"] == pytest.approx(2 * np.sqrt(long * short), rel=0.01)
        assert found[f"{name}_elongation"] == pytest.approx(short / long, rel=0.02)
        assert found[f"{name}_solidity"] > 0.95
    assert found["nucleus_position"] == pytest.approx(np.hypot(5, 4) / np.sqrt(c * d), rel=0.03)


def test_a_dented_outline_is_less_solid_and_less_round():
    angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    radius = 25 * (1 + 0.25 * np.cos(6 * angle))
    star = np.stack([100 + radius * np.cos(angle), 80 + radius * np.sin(angle)], axis=1)
    round_, dented = (
        measured(blank(), nucleus, ellipse(100, 80, 60, 60)) for nucleus in (ellipse(100, 80, 25, 25), star)
    )
    assert dented["nucleus_solidity"] < 0.9 < round_["nucleus_solidity"]
    assert dented["nucleus_roundness"] < 0.7 < round_["nucleus_roundness"]


def test_colours_deviations_and_density_are_those_of_the_pixels():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    square = np.array([[20, 15], [40, 15], [40, 45], [20, 45]]) + 0.5
    inner = np.array([[25, 20], [35, 20], [35, 30], [25, 30]]) + 0.5
    found = measured(image, inner, square)
    core, cell = np.zeros((60, 70), bool), np.zeros((60, 70), bool)
    core[21:31, 26:36], cell[16:46, 21:41] = True, True
    around = cell & ~core
    assert found["nucleus_area"] == 100
    assert found["cytoplasm_area"] == 500
    for channel, name in enumerate(("red", "green", "blue")):
        assert found[f"nucleus_{name}"] == pytest.approx(image[core][:, channel].mean())
        assert found[f"cytoplasm_{name}"] == pytest.approx(image[around][:, channel].mean())
    grey = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    assert found["nucleus_deviation"] == pytest.approx(grey[core].std())
    assert found["cytoplasm_deviation"] == pytest.approx(grey[around].std())
    optical = -np.log10((image[core].astype(float) + 1) / 256)
    assert found["nucleus_integrated_density"] == pytest.approx(optical.mean(axis=1).sum())


def test_texture_counts_the_pairs_within_the_nucleus():
    """Haralick's measures from a plain count over a nucleus of any shape."""
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    nucleus = ellipse(20, 19, 9, 6, 0.5)
    found = measured(image, nucleus, ellipse(20, 20, 17, 17))
    x, y = np.meshgrid(np.arange(40.0), np.arange(40.0))
    turned = (x - 20) * np.cos(0.5) + (y - 19) * np.sin(0.5), (y - 19) * np.cos(0.5) - (x - 20) * np.sin(0.5)
    core = (turned[0] / 9) ** 2 + (turned[1] / 6) ** 2 < 1
    assert core.sum() == found["nucleus_area"]
    level = (image @ np.array([0.299, 0.587, 0.114])).astype(int) // 8
    counts = np.zeros((32, 32))
    for row, column in zip(*np.nonzero(core), strict=True):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if (down or right) and core[row + down, column + right]:
                    counts[level[row, column], level[row + down, column + right]] += 1
    share = counts / counts.sum()
    i, j = np.indices(share.shape)
    mean, spread = (i * share).sum(), np.sqrt(((i - (i * share).sum()) ** 2 * share).sum())
    assert found["texture_contrast"] == pytest.approx(((i - j) ** 2 * share).sum())
    assert found["texture_homogeneity"] == pytest.approx((share / (1 + (i - j) ** 2)).sum())
    assert found["texture_energy"] == pytest.approx(np.sqrt((share**2).sum()))
    assert found["texture_correlation"] == pytest.approx(((i - mean) * (j - mean) * share).sum() / spread**2)


def test_turning_the_image_by_a_quarter_changes_nothing():
    image = np.random.default_rng(2).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    nucleus, cytoplasm = ellipse(41, 36, 14, 9, 0.3), ellipse(39, 40, 33, 27, 0.9)
    turned = [np.stack([contour[:, 1], 79 - contour[:, 0]], axis=1) for contour in (nucleus, cytoplasm)]
    np.testing.assert_allclose(
        shape_features(np.rot90(image), *turned), shape_features(image, nucleus, cytoplasm), rtol=1e-9
    )


def test_a_flat_nucleus_without_cytoplasm_has_features():
    contour = ellipse(30, 30, 12, 12)
    found = measured(blank(60, 60), contour, contour)
    assert (found["cytoplasm_area"], found["cytoplasm_deviation"], found["nucleus_ratio"]) == (0, 0, 1)
    assert found["cytoplasm_red"] == found["nucleus_red"] == 230
    assert (found["texture_contrast"], found["texture_homogeneity"], found["texture_energy"]) == (0, 1, 1)


def test_a_contour_may_leave_the_image():
    found = measured(blank(60, 60), ellipse(0, 30, 12, 12), ellipse(0, 30, 25, 25))
    assert found["nucleus_area"] == pytest.approx(np.pi * 72, rel=0.08)


@pytest.mark.parametrize("nucleus", [ellipse(30, 30, 1, 1), ellipse(200, 200, 9, 9)])
def test_a_nucleus_that_is_not_in_the_image_is_refused(nucleus):
    with pytest.raises(MeasureError, match="its nucleus has . pixels within the image, and 9 are needed"):
        shape_features(blank(60, 60), nucleus, ellipse(30, 30, 20, 20))
