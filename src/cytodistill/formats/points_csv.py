"""Cells of a field as a table says them: a CSV with a column for each coordinate, as annotation tools write it."""

from __future__ import annotations

import csv
import posixpath

from cytodistill.formats.places import CellsError

NAMES = {
    "x": ("x", "nucleus_x", "center_x", "centre_x"),
    "y": ("y", "nucleus_y", "center_y", "centre_y"),
    "width": ("width", "w"),
    "height": ("height", "h"),
    "image": ("image", "image_filename", "filename", "file", "path"),
}
"""Columns, by the names that they may have."""
DELIMITERS = ",;\t"


def read_csv(text: str, image: str) -> dict[str, list[tuple[float, ...]]]:
    """Boxes or points of one field, `boxes` or `points` by name.

    Columns x and y are the cell's centre; with width and height they are its window's upper left corner. Where a column
    names the image, the rows of this one are taken. Without a header two columns are points and four are boxes.

    Args:
        text: comma, semicolon or tab between the columns.
        image: name of the field's file.

    Raises:
        CellsError: a column is missing, a value is no number, or no row is of this image.

    Example:
        >>> read_csv("x;y\\n10;20.5\\n", "a.png")
        {'points': [(10.0, 20.5)]}
    """
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        raise CellsError("the table is empty")
    delimiter = max(DELIMITERS, key=lines[0].count)
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        raise CellsError("not a table; give columns x and y, or x, y, width and height") from None
    columns = _columns(rows[0])
    first = 2
    if columns is None:
        columns, first = _without_header(rows[0]), 1
    body = list(enumerate(rows[first - 1 :], start=first))
    if (place := columns.pop("image", None)) is not None:
        body = [(number, row) for number, row in body if place < len(row) and _same(row[place], image)]
        if not body:
            raise CellsError("no row names this image; give its own table, or leave the column out")
    places = [_numbers(row, number, list(columns.values())) for number, row in body]
    return {"boxes" if len(columns) == 4 else "points": places}


def _columns(header: list[str]) -> dict[str, int] | None:
    """Position of each column that is known; None where the first row is numbers."""
    if all(_number(value) is not None for value in header):
        return None
    said = [value.strip().lower() for value in header]
    found = {key: said.index(name) for key, names in NAMES.items() for name in names if name in said}
    if not {"x", "y"} <= found.keys():
        raise CellsError("the table has no columns x and y (or nucleus_x and nucleus_y)")
    if ("width" in found) != ("height" in found):
        raise CellsError("the table has one of width and height; give both, or neither")
    return found


def _without_header(row: list[str]) -> dict[str, int]:
    if len(row) not in (2, 4):
        raise CellsError("a table without a header has two columns (x, y) or four (x, y, width, height)")
    return dict(zip(("x", "y", "width", "height"), range(len(row)), strict=False))


def _numbers(row: list[str], number: int, places: list[int]) -> tuple[float, ...]:
    found = [_number(row[place]) if place < len(row) else None for place in places]
    if None in found:
        raise CellsError(f"row {number} of the table: a coordinate is not a number")
    return tuple(value for value in found if value is not None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _same(said: str, image: str) -> bool:
    """Whether a row speaks of an image; tables and uploads may name the folder or not."""
    return _base(said.strip()) == _base(image)


def _base(path: str) -> str:
    return posixpath.basename(path.replace("\\", "/"))
