"""Where the cells of a field are, as a client says it: a list as `cytodistill predict --cells` takes it, or the API's
own JSON of windows, or of points with one window for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cytodistill.data.images import Box
from cytodistill.formats.cell_list import CellList, cells_of, is_json, read_cells
from cytodistill.formats.pixel_size import PixelSize, Words
from cytodistill.formats.places import CellsError, Cut, parse_json, windows
from cytodistill.serve.errors import Refused

FARTHEST = 1_000_000
WIDEST = 8192
"""Pixels."""
LONGEST = 300
"""Letters of a refusal."""
MICRONS, IGNORE = "microns_per_pixel", "ignore_pixel_size"
IN_A_FORM = Words(MICRONS, f"{IGNORE}=true")

Place = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST, allow_inf_nan=False)]
Side = Annotated[float, Field(gt=0, le=WIDEST, allow_inf_nan=False)]


class Coordinates(BaseModel):
    """Cells of a field, in its pixels: ``boxes`` [x, y, width, height] with x, y the upper left corner, which are cut
    as they are, or ``points`` [x, y] with the side of the ``window`` round them (the run's own where it is not given).
    """

    model_config = ConfigDict(extra="forbid")

    boxes: list[tuple[Place, Place, Side, Side]] | None = None
    points: list[tuple[Place, Place]] | None = None
    window: Side | None = None

    @property
    def extents(self) -> np.ndarray:
        """(N, 4) x, y, width, height, the latter two 0 of points."""
        if self.boxes is not None:
            return np.array(self.boxes, np.float64).reshape(-1, 4)
        points = np.array(self.points, np.float64).reshape(-1, 2)
        return np.concatenate([points, np.zeros_like(points)], axis=1)


def listed(text: str, image: str = "") -> CellList | Coordinates:
    """The cells that a text lists, in its order.

    Args:
        text: JSON of `Coordinates`, GeoJSON, COCO, or a table.
        image: name of the field's file, by which COCO and tables may know it.

    Raises:
        Refused: it is none of these.
    """
    try:
        if not is_json(text):
            return read_cells(text, image)
        document = parse_json(text.lstrip("\ufeff"))
        if not isinstance(document, dict) or {"type", "annotations"} & document.keys():
            return cells_of(document, image)
        given = Coordinates.model_validate(document)
    except CellsError as error:
        raise Refused(422, f"cells: {error}"[:LONGEST]) from None
    except RecursionError:
        raise Refused(422, "cells: nested too deeply; export them again") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise Refused(422, f"cells: {where}: {first['msg']}"[:LONGEST]) from None
    if (given.boxes is None) == (given.points is None):
        raise Refused(422, "cells: give boxes or points")
    return given


def boxes_of(text: str, side: float, cut: Cut, most: int, image: str = "") -> list[Box]:
    """Windows of a field's cells, in the order that they were given in: those that `cytodistill predict` cuts, but of
    `Coordinates` the client's own.

    Args:
        text: see `listed`.
        side: of the window round a point, in the field's pixels.
        cut: what the run cuts of a cell with an outline or a window; see ``places.windows``.
        most: cells.
        image: see `listed`.

    Raises:
        Refused: the text is another, has no cells or too many, or one far away or too large.
    """
    given = listed(text, image)
    if len(given.extents) > most:
        count = len(given.extents)
        raise Refused(413, f"cells: {count}, more than the {most} allowed; send them in parts, or as an upload")
    if not len(given.extents):
        raise Refused(422, "cells: none given; leave the field out where the image is one cell")
    with np.errstate(all="ignore"):  # what overflows is far away
        if isinstance(given, Coordinates):
            found = windows(given.extents, given.window or side, "outline")
        else:
            found = windows(given.extents, side, cut)
        kept = (np.abs(found[:, :2]) <= FARTHEST + WIDEST).all(axis=1) & (found[:, 2:] <= WIDEST).all(axis=1)
    if not kept.all():
        place = int(np.flatnonzero(~kept)[0])
        x, y, width, height = found[place]
        raise Refused(
            422,
            f"cells: cell {place + 1} is a window of {width:g}×{height:g} pixels at ({x:g}, {y:g}); it may have "
            f"{WIDEST} a side, and lie {FARTHEST} away; correct its coordinates, or the pixel size",
        )
    return [(x, y, width, height) for x, y, width, height in found.tolist()]


def pixel_size_of(fields: Mapping[str, str], flag: bool | None) -> PixelSize:
    """What a form says of a field's pixels.

    Args:
        fields: of the form.
        flag: whether it says that their size is not to count.

    Raises:
        Refused: it is no size.
    """
    text = fields.get(MICRONS)
    if text is None:
        return PixelSize(None, bool(flag))
    try:
        microns = float(text)
    except ValueError:
        microns = np.nan
    if not 0 < microns < np.inf:
        raise Refused(422, f"{MICRONS}: give a positive number, like 0.25")
    return PixelSize(microns, bool(flag))
