"""Where the cells of a field are, as a client says it: windows, or points with one window for all.

JSON of `Coordinates`, GeoJSON as QuPath exports it, or a table: a function from their text to boxes is all that the
service needs.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cytodistill.data.images import Box
from cytodistill.formats.geojson import read_features
from cytodistill.formats.places import CellsError, parse_json, windows
from cytodistill.formats.points_csv import read_csv
from cytodistill.serve.errors import Refused

FARTHEST = 1_000_000
WIDEST = 8192
"""Pixels."""

Place = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST, allow_inf_nan=False)]
Side = Annotated[float, Field(gt=0, le=WIDEST, allow_inf_nan=False)]


class Coordinates(BaseModel):
    """Cells of a field, in its pixels: ``boxes`` [x, y, width, height] with x, y the upper left corner, or ``points``
    [x, y] with the side of the ``window`` round them (the run's own where it is not given)."""

    model_config = ConfigDict(extra="forbid")

    boxes: list[tuple[Place, Place, Side, Side]] | None = None
    points: list[tuple[Place, Place]] | None = None
    window: Side | None = None


def is_geojson(text: str) -> bool:
    """Whether JSON says that it is GeoJSON; `Coordinates` have no types."""
    return '"Feature' in text


def boxes_of(text: str, window: float, most: int, image: str = "") -> list[Box]:
    """Windows of a field's cells, in the order that they were given in.

    Args:
        text: JSON of `Coordinates`, GeoJSON of outlines or points, or a table.
        window: side of the window round a point where the text gives none.
        most: cells.
        image: name of the field's file, by which its rows of a table are known.

    Raises:
        Refused: the text is another, or has no cells or too many.
    """
    try:
        if text.lstrip("\ufeff \t\r\n")[:1] not in ("{", "["):
            given = Coordinates.model_validate(read_csv(text, image))
        elif is_geojson(text):
            extents = read_features(parse_json(text.lstrip("\ufeff"))).extents
            given = Coordinates.model_validate({"boxes": windows(extents, window, "outline").tolist()})
        else:
            given = Coordinates.model_validate_json(text)
    except CellsError as error:
        raise Refused(422, f"cells: {error}"[:200]) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise Refused(422, f"cells: {where}: {first['msg']}"[:200]) from None
    if (given.boxes is None) == (given.points is None):
        raise Refused(422, "cells: give boxes or points")
    if given.boxes is not None:
        found: list[Box] = list(given.boxes)
    else:
        side = given.window or window
        found = [(x - side / 2, y - side / 2, side, side) for x, y in given.points or ()]
    if not found:
        raise Refused(422, "cells: none given; leave the field out where the image is one cell")
    if len(found) > most:
        raise Refused(413, f"cells: {len(found)}, more than the {most} allowed; send them in parts, or as an upload")
    return found
