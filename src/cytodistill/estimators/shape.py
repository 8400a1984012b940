"""Twenty-seven hand-made features of a cell: its shape, its colour and the texture of its nucleus."""

from __future__ import annotations

import numpy as np
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import regionprops

from cytodistill.estimators import MeasureError
from cytodistill.estimators.contours import contour_mask

SHAPE_FEATURES = (
    "nucleus_area",
    "cytoplasm_area",
    "nucleus_ratio",
    "nucleus_perimeter",
    "cell_perimeter",
    "nucleus_diameter",
    "cell_diameter",
    "nucleus_elongation",
    "cell_elongation",
    "nucleus_roundness",
    "cell_roundness",
    "nucleus_solidity",
    "cell_solidity",
    "nucleus_position",
    "nucleus_red",
    "nucleus_green",
    "nucleus_blue",
    "cytoplasm_red",
    "cytoplasm_green",
    "cytoplasm_blue",
    "nucleus_deviation",
    "cytoplasm_deviation",
    "nucleus_integrated_density",
    "texture_contrast",
    "texture_homogeneity",
    "texture_energy",
    "texture_correlation",
)
LEVELS = 32
"""Grey levels of the co-occurrence matrix."""
LEAST_NUCLEUS = 9
"""Pixels that a nucleus must have to be measured."""

_LUMINANCE = np.array([0.299, 0.587, 0.114])


def shape_features(image: np.ndarray, nucleus: np.ndarray, cytoplasm: np.ndarray) -> np.ndarray:
    """(27,) float64 features of one cell, in the order of ``SHAPE_FEATURES``, in pixels of the image as it is given.

    The cell is all within the cytoplasm's contour and the nucleus; the cytoplasm is the cell without the nucleus.
    Geometry is that of the masks of the contours, so that drawn, filed and segmented contours are measured alike.

    - area A; ratio, the nucleus's area to the cell's;
    - perimeter P, Crofton's estimate from four directions; diameter of the disc of the same area, √(4A/π);
    - elongation, the shorter axis to the longer one of the ellipse of the same second moments (1 is round);
    - roundness, 4πA/P²; solidity, the area to that of the convex hull;
    - position, the distance of the nucleus's centre from the cell's, in radii of the cell's disc;
    - mean red, green and blue (0 to 255); deviation, the standard deviation of the luminance;
    - integrated density, the nucleus's optical density: the sum over its pixels of the channels' mean of
      −log10((v + 1) / 256);
    - texture of the nucleus (Haralick et al. 1973): contrast, homogeneity, energy and correlation of the co-occurrence
      matrix of luminance in 32 levels, neighbours at one pixel in four directions, both pixels within the nucleus.

    Most are among the twenty that Herlev's authors published (Jantzen et al. 2005); a cell without cytoplasm has the
    nucleus's colour there, and a deviation of 0.

    Args:
        image: (H, W, 3) uint8 RGB.
        nucleus: (n, 2) contour of x, y.
        cytoplasm: (m, 2) contour of x, y, which encloses the nucleus.

    Raises:
        MeasureError: fewer than 9 pixels of nucleus within the image, or outlines that enclose nothing.
    """
    size = image.shape[:2]
    core = contour_mask(nucleus, size)
    if core.sum() < LEAST_NUCLEUS:
        raise MeasureError(
            f"its nucleus has {int(core.sum())} pixels within the image, and {LEAST_NUCLEUS} are needed to measure it; "
            "mend its contour, or leave the cell out"
        )
    cell = contour_mask(cytoplasm, size) | core
    around = cell & ~core
    inner, outer = regionprops(core.astype(np.uint8))[0], regionprops(cell.astype(np.uint8))[0]
    away = np.hypot(*(np.array(inner.centroid) - outer.centroid))
    grey = image @ _LUMINANCE
    coloured = around if around.any() else core
    density = -np.log10((image[core].astype(float) + 1) / 256).mean(axis=1).sum()
    shapes = [_outline(part) for part in (inner, outer)]
    features = np.array(
        [
            inner.area,
            around.sum(),
            inner.area / outer.area,
            *(value for pair in zip(*shapes, strict=True) for value in pair),
            away / (outer.equivalent_diameter_area / 2),
            *image[core].mean(axis=0),
            *image[coloured].mean(axis=0),
            grey[core].std(),
            grey[around].std() if around.any() else 0.0,
            density,
            *_texture(grey, core),
        ],
        np.float64,
    )
    if not np.isfinite(features).all():
        raise MeasureError("its contours enclose no measurable shape; mend them, or leave the cell out")
    return features


def _outline(part) -> tuple[float, float, float, float, float]:
    """Perimeter, diameter, elongation, roundness and solidity of a region."""
    perimeter = part.perimeter_crofton
    return (
        perimeter,
        part.equivalent_diameter_area,
        part.axis_minor_length / max(part.axis_major_length, 1e-9),
        4 * np.pi * part.area / max(perimeter, 1e-9) ** 2,
        part.solidity,
    )


def _texture(grey: np.ndarray, mask: np.ndarray) -> list[float]:
    """Contrast, homogeneity, energy and correlation of the pairs of neighbours that lie both within the mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # Level 0 is what lies outside; its row and column are struck out, and with them all pairs across the border.
    levels = np.where(mask[part], grey[part].astype(np.intp) * LEVELS // 256 + 1, 0).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = graycomatrix(levels, [1], angles, levels=LEVELS + 1, symmetric=True)[1:, 1:].sum(axis=3, keepdims=True)
    return [float(graycoprops(pairs, name)[0, 0]) for name in ("contrast", "homogeneity", "energy", "correlation")]
