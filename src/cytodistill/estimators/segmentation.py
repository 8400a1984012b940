"""A simple segmentation of one Pap-stained cell, for images without contours: thresholds on optical density."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import isotropic_closing, isotropic_opening

from cytodistill.estimators import MeasureError

WHITE = 98.0
"""Percentile of a channel's values that counts as the light of the empty slide."""


def segment(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the nucleus and of the whole cell (nucleus and cytoplasm), each (H, W) boolean, of the cell in the
    middle of an (H, W, 3) uint8 image.

    1. Optical density of each channel, −log10(I / I₀), after a Gaussian blur of one pixel; I₀ is the slide's light.
    2. The cell: Otsu's threshold on the root of the densest channel (all of Papanicolaou's dyes absorb in one of them,
       and the root brings the pale cytoplasm nearer to the nucleus), opened and closed; of its components the
       largest, most compact and most central one; holes filled.
    3. The nucleus: Otsu's threshold, within the cell, on the lesser of red's and green's density. Haematoxylin absorbs
       both, and eosin, light green and orange G only one of them. Its component is chosen likewise.

    Raises:
        MeasureError: the image shows no two shades to tell a cell from the slide by.
    """
    smooth = gaussian_filter(image.astype(float), (1.0, 1.0, 0.0))
    white = np.percentile(smooth, WHITE, axis=(0, 1))
    density = np.log10((white + 1) / (smooth + 1)).clip(0)
    radius = max(1, round(min(image.shape[:2]) / 60))
    body = np.sqrt(density.max(axis=2))
    whole = np.ones(image.shape[:2], bool)
    cell = _main_part(body > _threshold(body), 2 * radius, whole)
    haematoxylin = density[:, :, :2].min(axis=2)
    nucleus = _main_part(cell & (haematoxylin > _threshold(haematoxylin[cell])), radius, cell)
    return nucleus, cell


def _threshold(values: np.ndarray) -> float:
    """Otsu's threshold, refused where there is nothing to divide."""
    if not len(values) or np.ptp(values) < 1e-6:
        raise MeasureError("no cell can be told from the slide in it; give contours, or leave it out of the data set")
    return float(threshold_otsu(values))


def _main_part(mask: np.ndarray, radius: int, within: np.ndarray) -> np.ndarray:
    """The component of a mask that is most likely meant, after closing gaps and opening bridges of ``radius`` pixels:
    the best of √area · solidity² · exp(−8 d²), d its centre's distance from the image's in units of its sides. What is
    thinner than the opening is not opened."""
    edge = 2 * radius
    closed = binary_fill_holes(isotropic_closing(np.pad(mask, edge, mode="edge"), radius))
    opened = isotropic_opening(closed, radius)[edge:-edge, edge:-edge] & within
    parts = label(opened if opened.any() else mask)
    middle = (np.array(mask.shape) - 1) / 2

    def score(part) -> float:
        away = (np.array(part.centroid) - middle) / mask.shape
        return float(np.sqrt(part.area) * part.solidity**2 * np.exp(-8 * (away**2).sum()))

    # The hull of a part of a few pixels is no area; such a part is never the cell.
    parts_found = regionprops(parts)
    candidates = [part for part in parts_found if part.area >= 9] or parts_found
    best = max(candidates, key=score)
    return binary_fill_holes(parts == best.label)
