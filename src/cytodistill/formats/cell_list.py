"""A field's list of cells in whichever format it came: GeoJSON, COCO, or a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cytodistill.formats.coco import ANNOTATION, Annotations, is_coco, read_annotations
from cytodistill.formats.geojson import FEATURE, Features, read_features
from cytodistill.formats.places import CellsError, parse_json
from cytodistill.formats.points_csv import read_csv


@dataclass(frozen=True)
class CellList:
    """Cells in the order that they were given in: ``extents`` (N, 4) are x, y, width, height in the field's pixels, the
    latter two 0 of points; ``given`` is the list where it is of a kind that is written again with answers; ``called``
    is what a cell is in it."""

    extents: np.ndarray
    given: Features | Annotations | None
    called: str


def is_json(text: str) -> bool:
    """Whether a list is JSON of some kind, and no table."""
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def read_cells(text: str, image: str) -> CellList:
    """The cells of one field.

    Args:
        text: GeoJSON or COCO, else a table.
        image: name of the field's file, by which COCO and tables may know it.

    Raises:
        CellsError: it is none of these, has no cells, or one that is none.
    """
    return cells_of(parse_json(text.lstrip("\ufeff")), image) if is_json(text) else _of_table(text, image)


def cells_of(document: Any, image: str) -> CellList:
    """The cells of JSON that was parsed; see `read_cells`."""
    if is_coco(document):
        annotations = read_annotations(document, image)
        return CellList(annotations.extents, annotations, ANNOTATION)
    features = read_features(document)
    return CellList(features.extents, features, FEATURE)


def _of_table(text: str, image: str) -> CellList:
    ((kind, places),) = read_csv(text, image).items()
    extents = np.array(places, np.float64).reshape(len(places), 4 if kind == "boxes" else 2)
    if not len(extents):
        raise CellsError("no cells in the table; list at least one")
    if not np.isfinite(extents).all():
        raise CellsError(f"cell {np.flatnonzero(~np.isfinite(extents).all(axis=1))[0] + 1}: a coordinate is not finite")
    if kind == "points":
        return CellList(np.concatenate([extents, np.zeros_like(extents)], axis=1), None, "cell")
    if (extents[:, 2:] <= 0).any():
        wrong = np.flatnonzero((extents[:, 2:] <= 0).any(axis=1))[0] + 1
        raise CellsError(f"cell {wrong}: width and height must be positive")
    return CellList(extents, None, "cell")
