"""How much of a map lies on the nucleus, how much on the cytoplasm, and how much outside the cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cytodistill.data.images import Box, ResizeMode, cut_cell
from cytodistill.data.storage import display
from cytodistill.errors import CytodistillError
from cytodistill.estimators import MeasureError

if TYPE_CHECKING:
    from pathlib import Path

    from cytodistill.estimators.contours import Contours, Origin

PARTS = ("nucleus", "cytoplasm", "outside")


@dataclass(frozen=True)
class Compartments:
    """A cell's parts as the network sees it, S×S pixels.

    ``masks`` (3, S, S) boolean in the order of ``PARTS``, each pixel in one of them; "outside" is also what the cell
    was padded with. ``nucleus`` and ``cytoplasm`` (n, 2): the contours, x, y in these pixels. ``origin``: "file" or
    "segmented".
    """

    masks: np.ndarray
    nucleus: np.ndarray
    cytoplasm: np.ndarray
    origin: Origin


def cell_compartments(
    root: str | Path, path: str, box: Box, size: int, mode: ResizeMode, source: str = "auto"
) -> Compartments | None:
    """Parts of the cell ``path`` of ``root``, or None where no cell can be told from the slide in it.

    Args:
        root: folder or zip archive.
        path: of the cell's image inside it.
        box: its window, NaN where the image is the cell.
        size: S, the network's.
        mode: "pad" or "stretch", as the cell is resized.
        source: "file", "segment" or "auto", as for ``cell_contours``.

    Raises:
        CytodistillError: scikit-image is not installed, no files where they are asked for, or malformed ones.
    """
    try:
        from cytodistill.estimators.contours import cell_contours
    except ImportError as error:
        if "skimage" not in str(error):
            raise
        raise CytodistillError(
            f"contours={source}: scikit-image is not installed; pip install 'cytodistill[estimators]', or leave the "
            "contours out (contours=none)"
        ) from None
    image = cut_cell(root, path, box)
    try:
        contours = cell_contours(image, root, path, box, source)
    except MeasureError:
        return None
    except CytodistillError as error:
        if source == "file" and "estimator.contours" in str(error):
            # The message is a recipe's; here the setting is the caller's own.
            raise CytodistillError(
                f"{display(root, path)}: has no contours beside it; set contours=auto to have such cells segmented"
            ) from None
        raise
    return compartments(contours, image.shape[:2], size, mode)


def compartments(contours: Contours, shape: tuple[int, int], size: int, mode: ResizeMode) -> Compartments:
    """Parts of a cell whose image has ``shape`` (height, width), as it is when ``data.images.resize`` has made it
    ``size`` px wide and high."""
    from cytodistill.estimators.contours import contour_mask

    nucleus, cytoplasm = (placed(contour, shape, size, mode) for contour in (contours.nucleus, contours.cytoplasm))
    inner = contour_mask(nucleus, (size, size))
    whole = contour_mask(cytoplasm, (size, size)) | inner
    return Compartments(np.stack([inner, whole & ~inner, ~whole]), nucleus, cytoplasm, contours.origin)


def placed(contour: np.ndarray, shape: tuple[int, int], size: int, mode: ResizeMode) -> np.ndarray:
    """(n, 2) x, y of an image of ``shape`` (height, width) in the pixels of the resized cell, pixels' centres being
    whole numbers in both. A contour is moved, not a mask resized, which would be padded with its own border's value."""
    rows, columns = shape
    wide = high = size
    if mode == "pad":
        scale = size / max(shape)
        high, wide = max(1, round(rows * scale)), max(1, round(columns * scale))
    corner = np.array([(size - wide) // 2, (size - high) // 2])
    return (contour + 0.5) * (wide / columns, high / rows) - 0.5 + corner


def mass_shares(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(E, S, S) maps and (P, S, S) masks → (E, P) share of each map's sum in each part; NaN for a map of zeros."""
    inside = np.einsum("eyx,pyx->ep", maps.astype(float), masks.astype(float))
    total = maps.sum(axis=(1, 2), dtype=float)[:, None]
    return np.divide(inside, total, out=np.full(inside.shape, np.nan), where=total > 0)
