"""Contours of a cell's nucleus and cytoplasm, from the files of its data set or by segmentation, and their masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from skimage.measure import find_contours

from cytodistill.data.images import Box, read_image
from cytodistill.data.sources import SourceError, read_contours
from cytodistill.data.storage import display, has_file
from cytodistill.errors import CytodistillError
from cytodistill.estimators.segmentation import segment

HERLEV_NUCLEUS = (0, 0, 255)
HERLEV_CYTOPLASM = (0, 0, 128)
"""Colours (RGB) of Herlev's masks; all others are background or unknown."""

_MASK_ENDINGS = ("-d.bmp", "-d.BMP", "-D.BMP", "-D.bmp", "-d.png")

Origin = Literal["file", "segmented"]


@dataclass(frozen=True)
class Contours:
    """``nucleus`` and ``cytoplasm``: (n, 2) x, y in the image's pixels, (0, 0) being the centre of the upper left one;
    the cytoplasm's encloses the nucleus. ``origin``: whether they come from files or from a segmentation."""

    nucleus: np.ndarray
    cytoplasm: np.ndarray
    origin: Origin


def cell_contours(image: np.ndarray, root: str | Path, path: str, box: Box, source: str) -> Contours:
    """Contours of the cell ``path`` of ``root`` whose pixels are ``image``.

    Args:
        image: (H, W, 3) uint8.
        root: folder or zip archive.
        path: of the cell's image inside it.
        box: its window in a larger image, NaN where the image is the cell. Files describe whole images, so that a
            window has none.
        source: "file", "segment", or "auto": files where there are some, else segmented.

    Raises:
        CytodistillError: no files where files are asked for, files that are malformed, or nothing to segment.
    """
    if source != "segment" and math.isnan(box[0]):
        found = contours_from_files(root, path, image.shape[:2])
        if found is not None:
            return found
    if source == "file":
        raise CytodistillError(
            f"{display(root, path)}: has no contours (SIPaKMeD's _cyt.dat and _nuc.dat, or Herlev's mask -d.bmp, "
            "beside the image of one cell); add them, or set estimator.contours=auto to have such cells segmented"
        )
    return segmented_contours(image)


def contours_from_files(root: str | Path, path: str, size: tuple[int, int]) -> Contours | None:
    """Contours that stand beside an image of ``size`` (height, width): SIPaKMeD's two files, or Herlev's mask; None
    where neither is there.

    Raises:
        CytodistillError: a file that is malformed, or a mask of another size or without a nucleus.
    """
    cytoplasm, nucleus = read_contours(root, path)
    if nucleus is not None and cytoplasm is not None:
        return Contours(nucleus, cytoplasm, "file")
    stem = str(PurePosixPath(path).with_suffix(""))
    for mask in (stem + ending for ending in _MASK_ENDINGS):
        if has_file(root, mask):
            return _herlev_contours(read_image(root, mask), size, display(root, mask))
    return None


def segmented_contours(image: np.ndarray) -> Contours:
    """Contours of the cell in the middle of an (H, W, 3) uint8 image, by ``segment``."""
    nucleus, cell = segment(image)
    return Contours(mask_contour(nucleus), mask_contour(cell), "segmented")


def mask_contour(mask: np.ndarray) -> np.ndarray:
    """(n, 2) x, y of the outline of a (H, W) boolean mask, half-way between its pixels and their neighbours; of its
    longest outline where it has several."""
    outlines = find_contours(np.pad(mask, 1).astype(float), 0.5)
    return max(outlines, key=len)[:, ::-1] - 1.0


def contour_mask(contour: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) boolean mask of the pixels whose centres lie within an (n, 2) contour of x, y, by even and odd.

    By crossings of the rows: scikit-image tests every pixel against every edge, which takes a fifth of a second for the
    ragged outline of a segmented cell of 200 px.
    """
    (x0, y0), (x1, y1) = contour.T, np.roll(contour, -1, axis=0).T
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    first = np.ceil(low).clip(0, size[0]).astype(int)
    crossed = (np.ceil(high).clip(0, size[0]).astype(int) - first).clip(0)
    edge = np.repeat(np.arange(len(contour)), crossed)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
    column = x0[edge] + (row - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    turns = np.zeros((size[0], size[1] + 1), np.intp)
    np.add.at(turns, (row, np.ceil(column).clip(0, size[1]).astype(int)), 1)
    return (np.cumsum(turns, axis=1) % 2 == 1)[:, :-1]


def _herlev_contours(mask: np.ndarray, size: tuple[int, int], name: str) -> Contours:
    """Contours from a mask whose background is red, whose cytoplasm is dark blue and whose nucleus is light blue
    (Martin 2003; Jantzen et al. 2005)."""
    if mask.shape[:2] != size:
        raise SourceError(
            f"{name}: a mask of {mask.shape[1]}×{mask.shape[0]} pixels for an image of {size[1]}×{size[0]}; "
            "give both the same size"
        )
    nucleus, cytoplasm = (_near(mask, colour) for colour in (HERLEV_NUCLEUS, HERLEV_CYTOPLASM))
    if not nucleus.any():
        raise SourceError(f"{name}: no pixel of the nucleus's colour (0, 0, 255); mend or remove the mask")
    return Contours(mask_contour(nucleus), mask_contour(nucleus | cytoplasm), "file")


def _near(mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.all(np.abs(mask.astype(int) - colour) < 48, axis=2)
